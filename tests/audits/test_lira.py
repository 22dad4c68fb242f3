"""LiRA against SciPy in plain loops, and what it is for: examples that differ in hardness."""

import numpy as np
import pytest
from scipy.stats import norm

from dcmu_jax.audits.lira import leave_one_out_lira, lira_scores
from dcmu_jax.audits.roc import separation
from dcmu_jax.errors import InputError


def _population(models, examples, effect=1.0, seed=0, hardness=3.0):
    """Margins of models that remember half of the examples each, all differently hard."""
    rng = np.random.default_rng(seed)
    member = np.zeros((models, examples), bool)
    member[: models // 2] = True
    member = rng.permuted(member, axis=0)
    level = rng.normal(4, hardness, examples)
    return level + effect * member + rng.normal(size=member.shape), member


def _plain(target, shadows, member, *, online, variance):
    """As written, one example at a time."""
    groups = [
        (shadows[member[:, x], x], shadows[~member[:, x], x]) for x in range(shadows.shape[1])
    ]

    def deviation(side, x):
        if variance == "per_example":
            return groups[x][side].std(ddof=1)
        squares = sum(((group[side] - group[side].mean()) ** 2).sum() for group in groups)
        return np.sqrt(squares / sum(len(group[side]) - 1 for group in groups))

    scores = []
    for x, m in enumerate(target):
        inside, outside = groups[x]
        if online:
            scores.append(
                norm.logpdf(m, inside.mean(), deviation(0, x))
                - norm.logpdf(m, outside.mean(), deviation(1, x))
            )
        else:
            scores.append(norm.ppf(norm.cdf(m, outside.mean(), deviation(1, x))))
    return np.array(scores)


KINDS = [(online, variance) for online in (True, False) for variance in ("fixed", "per_example")]


@pytest.mark.parametrize(("online", "variance"), KINDS)
def test_scores_are_those_of_plain_loops(online, variance):
    margins, member = _population(11, 6)
    kind = {"online": online, "variance": variance}
    expected = [_plain(row, margins[2:], member[2:], **kind) for row in margins[:2]]
    found = lira_scores(margins[:2].astype(np.float64), margins[2:], member[2:], **kind)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9)
    one = lira_scores(margins[0], margins[2:], member[2:], **kind)
    np.testing.assert_allclose(one, expected[0], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(("online", "variance"), KINDS)
def test_leaving_one_out_is_a_new_fit_without_target_and_partner(online, variance):
    margins, member = _population(9, 1, seed=1)
    kind = {"online": online, "variance": variance}
    found = leave_one_out_lira(margins, member, **kind)
    for model in range(9):
        circle = [(model + step) % 9 for step in range(1, 9)]
        partner = next(other for other in circle if member[other, 0] != member[model, 0])
        rest = [other for other in range(9) if other not in (model, partner)]
        expected = lira_scores(margins[model], margins[rest], member[rest], **kind)
        np.testing.assert_allclose(found[model], expected, rtol=1e-9)


@pytest.mark.parametrize(("online", "variance"), KINDS)
def test_equal_populations_have_an_area_of_one_half(online, variance):
    # Scores of one example depend on each other, those of different examples hardly: the standard
    # error is below that of 8 x 4000 scores times sqrt(8). Without the partner it is 0.477 online.
    margins, member = _population(8, 4000, effect=0.0, seed=2)
    scores = leave_one_out_lira(margins, member, online=online, variance=variance)
    assert abs(separation(scores, member, resamples=1).auc[0] - 0.5) < 0.015


def test_hardness_does_not_confound_it():
    margins, member = _population(32, 600, effect=1.5, seed=3)
    threshold = separation(margins, member, resamples=1)
    online = separation(leave_one_out_lira(margins, member), member, resamples=1)
    offline = separation(leave_one_out_lira(margins, member, online=False), member, resamples=1)
    # Known means: the ratio has the AUC of two normals 1.5 apart, the threshold of sd sqrt(10).
    best = norm.cdf(1.5 / np.sqrt(2))
    assert threshold.auc[0] == pytest.approx(norm.cdf(1.5 / np.sqrt(20)), abs=0.03)
    assert best - 0.03 < online.auc[0] < best + 0.015
    assert best - 0.05 < offline.auc[0] < best + 0.015
    assert online.tpr_at_1_percent[0] > 3 * threshold.tpr_at_1_percent[0]


def test_offline_scores_do_not_saturate():
    shadows, member = _population(8, 3)
    far = [lira_scores(np.full(3, m), shadows, member, online=False) for m in (60.0, 61.0)]
    assert (far[1] > far[0]).all()


def test_equal_shadows_give_finite_scores():
    margins, member = np.full((8, 3), 100.0, np.float32), _population(8, 3)[1]
    for online, variance in KINDS:
        assert np.isfinite(
            leave_one_out_lira(margins, member, online=online, variance=variance)
        ).all()


def test_float32_margins_with_a_large_common_part():
    margins, member = _population(16, 5)
    near, far = (leave_one_out_lira(margins + shift, member) for shift in (0.0, 4096.0))
    np.testing.assert_allclose(near, far, rtol=1e-6, atol=1e-6)


def _mask(inside, outside):
    return np.repeat([True, False], [inside, outside])[:, None].repeat(2, axis=1)


@pytest.mark.parametrize(
    ("inside", "outside", "online", "variance", "says"),
    [
        (
            0,
            5,
            True,
            "fixed",
            "Online LiRA, fixed variance.* 0 models in and 5 out.*1 models in and",
        ),
        (1, 5, True, "fixed", "1 models in and 5 out.*2 for some example"),
        (5, 1, True, "per_example", "5 models in and 1 out.*2 models in and out for each"),
        (5, 1, False, "fixed", "Offline LiRA, fixed.*1 models out for each example, 2 for some"),
        (5, 1, False, "per_example", "2 models out for each example"),
    ],
)
def test_too_few_models(inside, outside, online, variance, says):
    member = _mask(inside, outside)
    margins = np.random.default_rng(0).normal(size=member.shape)
    with pytest.raises(InputError, match=says):
        lira_scores(margins[0], margins, member, online=online, variance=variance)


def test_just_enough_models():
    rng = np.random.default_rng(0)
    for online, inside in ((True, 2), (False, 0)):
        member = _mask(inside, 2)
        margins = rng.normal(size=member.shape)
        for variance in ("fixed", "per_example"):
            kind = {"online": online, "variance": variance}
            assert np.isfinite(lira_scores(margins[0], margins, member, **kind)).all()
            with pytest.raises(InputError, match=r"leaving one out.*3"):
                leave_one_out_lira(margins, member, **kind)
            more = _mask(inside + bool(inside), 3)
            scores = leave_one_out_lira(rng.normal(size=more.shape), more, **kind)
            assert np.isfinite(scores).all()


def test_bad_arrays():
    margins, member = _population(8, 3)
    with pytest.raises(InputError, match=r"Membership of shape \(8, 2\) for margins"):
        lira_scores(margins[0], margins, member[:, :2])
    with pytest.raises(InputError, match=r"Membership of shape \(7, 3\) for margins"):
        leave_one_out_lira(margins, member[1:])
    with pytest.raises(InputError, match="Margins of the target of shape"):
        lira_scores(margins[0, :2], margins, member)
    with pytest.raises(InputError, match=r"Margins of the target .* 1 of them not finite"):
        lira_scores(np.array([0, 1, np.nan]), margins, member)
    margins[2, 1] = np.inf
    with pytest.raises(InputError, match=r"Margins of shape \(8, 3\), 1 of them not finite"):
        leave_one_out_lira(margins, member)

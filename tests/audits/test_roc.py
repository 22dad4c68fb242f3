"""ROC numbers and margins: two Gaussians, ties, and margins against plain formulas."""

import math

import numpy as np
import pytest
from scipy.stats import norm
from sklearn import metrics

from dcmu_jax.audits.margins import logit_margins, losses_of
from dcmu_jax.audits.roc import roc_curve, separation, tpr_at_fpr
from dcmu_jax.errors import InputError

COUNT = 20_000
MEMBER = np.repeat([True, False], COUNT)


def _two_gaussians(distance, seed=0):
    return np.random.default_rng(seed).normal(size=2 * COUNT) + distance * MEMBER


@pytest.mark.parametrize("distance", [0.5, 2.0])
def test_two_gaussians_reach_the_analytic_numbers(distance):
    found = separation(_two_gaussians(distance), MEMBER, resamples=50)
    # A share of 20 000 has a standard error of at most 0.0035; the threshold's own error adds
    # the slope of the ROC curve times that of the false-positive rate.
    assert abs(found.auc[0] - norm.cdf(distance / math.sqrt(2))) < 0.012
    assert abs(found.balanced_accuracy[0] - norm.cdf(distance / 2)) < 0.012
    for (value, *_), rate in ((found.tpr_at_1_percent, 0.01), (found.tpr_at_01_percent, 0.001)):
        threshold = norm.isf(rate)
        expected = norm.sf(threshold - distance)
        slope = norm.pdf(threshold - distance) / norm.pdf(threshold)
        error = math.sqrt((expected + slope**2 * rate) / COUNT)
        assert abs(value - expected) < 4 * error


def test_intervals_hold_their_value_and_are_as_wide_as_theory_says():
    found = separation(_two_gaussians(1.0), MEMBER, resamples=200)
    for value, low, high in vars(found).values():
        assert low <= value <= high
    # Hanley and McNeil (1982), close to exact for an AUC of two Gaussians.
    auc = norm.cdf(1 / math.sqrt(2))
    first, second = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    error = math.sqrt(((first - auc**2) + (second - auc**2)) / COUNT)
    width = found.auc[2] - found.auc[1]
    assert width == pytest.approx(2 * 1.96 * error, rel=0.25)


def test_examples_are_drawn_with_all_their_models():
    # 40 copies of the same 300 scores say no more than one of them.
    scores, member = _two_gaussians(1.0)[::133][:300], MEMBER[::133][:300]
    one = separation(scores, member).auc
    many = separation(np.tile(scores, (40, 1)), np.tile(member, (40, 1))).auc
    assert many == pytest.approx(one)
    flat = separation(np.tile(scores, 40), np.tile(member, 40)).auc
    assert flat[2] - flat[1] < 0.4 * (many[2] - many[1])


def test_same_seed_same_interval():
    scores, member = _two_gaussians(1.0)[::50], MEMBER[::50]
    assert separation(scores, member, seed=3) == separation(scores, member, seed=3)
    assert separation(scores, member, seed=3) != separation(scores, member, seed=4)


def test_curve_with_ties_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    scores, member = rng.integers(0, 9, 300).astype(float), rng.random(300) < 0.3
    fpr, tpr = roc_curve(scores, member)
    expected = metrics.roc_curve(member, scores, drop_intermediate=False)
    np.testing.assert_allclose(fpr, expected[0])
    np.testing.assert_allclose(tpr, expected[1])
    auc = separation(scores, member, resamples=1).auc[0]
    assert auc == pytest.approx(metrics.roc_auc_score(member, scores))


def test_rate_never_needs_more_false_positives_than_asked():
    scores = np.array([3.0, 2, 2, 2, 1, 0])
    member = np.array([True, True, True, False, False, True])
    assert tpr_at_fpr(scores, member, 0.0) == 0.25
    assert tpr_at_fpr(scores, member, 0.49) == 0.25  # the tie at 2 brings a rate of 0.5
    assert tpr_at_fpr(scores, member, 0.5) == 0.75
    assert tpr_at_fpr(scores, member, 1.0) == 1.0


def test_rate_is_reached_in_spite_of_rounding():
    member = np.repeat([False, True], 100)
    scores = np.concatenate([np.arange(100.0), np.arange(100.0) + 0.5])
    assert tpr_at_fpr(scores, member, 0.29) == 0.30  # 0.29 * 100 is 28.999... in floating point


def test_perfect_and_infinite_scores():
    found = separation(np.array([np.inf, 1.0, -np.inf]), np.array([True, True, False]))
    assert set(vars(found).values()) == {(1.0, 1.0, 1.0)}


@pytest.mark.parametrize(
    ("scores", "member", "says"),
    [
        ([1.0, 2.0], [True, True], "2 members and 0 non-members"),
        ([1.0, 2.0], [False, False], "0 members and 2 non-members"),
        ([1.0, math.nan], [True, False], "1 of them NaN"),
        ([1.0, 2.0], [True, False, True], r"Membership of shape \(3,\) for scores of shape \(2,\)"),
    ],
)
def test_refused_scores(scores, member, says):
    for measure in (roc_curve, separation, lambda s, m: tpr_at_fpr(s, m, 0.1)):
        with pytest.raises(InputError, match=says):
            measure(np.array(scores), np.array(member))


def test_refused_settings():
    with pytest.raises(InputError, match=r"fpr = 1\.5"):
        tpr_at_fpr(np.arange(2.0), np.array([True, False]), 1.5)
    with pytest.raises(InputError, match="resamples = 0"):
        separation(np.arange(2.0), np.array([True, False]), resamples=0)


def test_margins_are_the_log_odds_of_the_label():
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(0, 3, (50, 7)).astype(np.float32), rng.integers(0, 7, 50)
    p = np.exp(logits.astype(float))
    p = (p / p.sum(axis=1, keepdims=True))[np.arange(50), labels]
    found = logit_margins(logits, labels)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, np.log(p / (1 - p)), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(losses_of(found), -np.log(p), rtol=1e-5)


def test_margins_of_large_logits_do_not_saturate():
    logits = np.array([[1060.0, 1000, 0], [1000, 1060, 0], [5000, 0, 0]], np.float32)
    found = logit_margins(logits, np.zeros(3, int))
    np.testing.assert_allclose(found, [60, -60, 100])
    np.testing.assert_allclose(losses_of(np.array([60.0, -60, -5000])), [np.exp(-60), 60, 5000])


@pytest.mark.parametrize(
    ("logits", "labels", "says"),
    [
        ([[1.0, math.inf]], [0], "1 of them not finite"),
        ([[1.0, 2.0]], [2], "from 2 to 2"),
        ([[1.0, 2.0]], [-1], "from -1 to -1"),
        ([[1.0, 2.0]], [0, 1], r"Labels of shape \(2\)"),
        ([[1.0]], [0], r"logits of shape \(1, 1\)"),
    ],
)
def test_refused_logits(logits, labels, says):
    with pytest.raises(InputError, match=says):
        logit_margins(np.array(logits), np.array(labels))


def test_refused_clip():
    with pytest.raises(InputError, match="clip = 0"):
        logit_margins(np.ones((1, 2)), np.zeros(1, int), clip=0.0)

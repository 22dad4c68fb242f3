"""RMIA against a plain double loop, and the order of simulated members and non-members."""

import numpy as np
import pytest

from dcmu_jax.audits.rmia import rmia_scores
from dcmu_jax.audits.roc import separation
from dcmu_jax.errors import InputError


def _margins(shape, seed, member=None, effect=2.0):
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=shape) + rng.normal(0, 2, shape[-1])
    return noise if member is None else noise + effect * member


def test_an_equal_of_the_population_is_beaten():
    """At a factor of 1 an example beats itself: the ratio is "at least", not "above"."""
    target, shadows, never = _margins((5,), 1), _margins((4, 5), 2), np.zeros((4, 5), bool)
    found = rmia_scores(target, shadows, never, target, shadows, gamma=1.0, online=False)
    np.testing.assert_allclose(np.sort(found), np.arange(1, 6) / 5)


def _p(margin):
    return 1 / (1 + np.exp(-margin))


def _prior(p, member, online, a):
    out = p[~member].mean()
    inside = p[member].mean() if online else a * out + 1 - a
    return (inside + out) / 2


@pytest.mark.parametrize("seen", [False, True])
@pytest.mark.parametrize(
    ("online", "a", "gamma"), [(True, 0.3, 2.0), (False, 0.3, 1.0), (False, 1.0, 1.5)]
)
def test_scores_are_those_of_a_double_loop(seen, online, a, gamma):
    rng = np.random.default_rng(0)
    member = np.arange(6)[:, None] < rng.integers(1, 6, 8)
    population_member = np.arange(6)[:, None] < rng.integers(1, 6, 30) if seen else None
    known = population_member if seen else np.zeros((6, 30), bool)
    target, shadows = _margins((8,), 1), _margins((6, 8), 2, member)
    others, other_shadows = _margins((30,), 3), _margins((6, 30), 4)
    expected = []
    for x in range(8):
        wins = 0
        for z in range(30):
            p_x = _prior(_p(shadows[:, x]), member[:, x], online, a)
            p_z = _prior(_p(other_shadows[:, z]), known[:, z], online and seen, a)
            wins += (_p(target[x]) / p_x) / (_p(others[z]) / p_z) >= gamma
        expected.append(wins / 30)
    found = rmia_scores(
        target, shadows, member, others, other_shadows, population_member,
        gamma=gamma, online=online, a=a,
    )  # fmt: skip
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert len(set(expected)) > 2


@pytest.mark.parametrize("online", [True, False])
def test_members_come_first_with_two_shadows(online):
    # The same hardness in target and shadows; one shadow in and one out of each example.
    rng = np.random.default_rng(5)
    hardness, spare = rng.normal(0, 2, 4000), rng.normal(0, 2, 1000)
    member = rng.permuted(np.repeat([[True], [False]], 4000, axis=1), axis=0)
    truth = rng.random(4000) < 0.5
    target = hardness + 2 * truth + rng.normal(size=4000)
    shadows = hardness + 2 * member + rng.normal(size=(2, 4000))
    scores = rmia_scores(
        target, shadows, member, spare + rng.normal(size=1000),
        spare + rng.normal(size=(2, 1000)), gamma=1.0, online=online,
    )  # fmt: skip
    found, plain = (separation(s, truth, resamples=1).auc[0] for s in (scores, target))
    assert plain == pytest.approx(0.74, abs=0.03)  # Phi(2 / sqrt(10)), the threshold's own
    assert found > plain + 0.04


def test_several_targets_are_one_after_another():
    member = np.array([[True] * 5, [False] * 5])
    targets, shadows = _margins((3, 5), 0), _margins((2, 5), 1)
    others, other_shadows = _margins((3, 9), 2), _margins((2, 9), 3)
    found = rmia_scores(targets, shadows, member, others, other_shadows, gamma=1.0)
    for row, target, other in zip(found, targets, others, strict=True):
        alone = rmia_scores(target, shadows, member, other, other_shadows, gamma=1.0)
        np.testing.assert_array_equal(row, alone)


def test_extreme_margins_stay_apart():
    # p itself would round to 0 and to 1.
    member = np.array([[True] * 2, [False] * 2])
    target, shadows = np.array([-900.0, -800.0]), np.full((2, 2), -850.0)
    found = rmia_scores(
        target,
        shadows,
        member,
        np.array([-850.0]),
        np.full((2, 1), -850.0),
        np.array([[True], [False]]),
    )
    assert found.tolist() == [0.0, 1.0]
    for a in (0.0, 1.0):
        kind = {"a": a, "online": False}
        scores = rmia_scores(target, shadows, member, np.zeros(1), np.zeros((2, 1)), **kind)
        assert np.isfinite(scores).all()


GOOD = {
    "target": np.zeros(2),
    "shadows": np.zeros((2, 2)),
    "member": np.array([[True] * 2, [False] * 2]),
    "population_target": np.zeros(3),
    "population_shadows": np.zeros((2, 3)),
}


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ({"gamma": 0.5}, r"gamma = 0\.5. Allowed: 1 or more"),
        ({"gamma": 0.0}, "gamma = 0.0"),
        ({"a": 1.5}, "a = 1.5"),
        ({"target": np.zeros(3)}, "Target margins of the examples of shape"),
        ({"member": np.ones((2, 3), bool)}, r"Membership of the examples of shape \(2, 3\)"),
        (
            {"member": np.ones((2, 2), bool)},
            "Online RMIA of examples .* 2 shadow models in and 0 out",
        ),
        ({"member": np.zeros((2, 2), bool)}, "0 shadow models in and 2 out.*1 or more in and out"),
        (
            {"member": np.ones((2, 2), bool), "online": False},
            "Offline RMIA.*1 or more out for each",
        ),
        ({"population_target": np.zeros(4)}, "Target margins of the population"),
        ({"population_target": np.zeros((1, 3))}, "the same targets in both"),
        ({"population_target": np.full(3, np.nan)}, "population in the target .* 3 of them not"),
        ({"population_member": np.ones((2, 3), bool)}, "Online RMIA of population"),
        ({"population_member": np.ones((1, 3), bool)}, "Membership of the population of shape"),
    ],
)
def test_refusals(bad, says):
    assert rmia_scores(**GOOD).shape == (2,)
    with pytest.raises(InputError, match=says):
        rmia_scores(**{**GOOD, **bad})

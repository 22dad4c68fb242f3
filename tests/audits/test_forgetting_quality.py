"""The challenge's epsilon against a closed form, a plain twin and counts by hand."""

import math

import numpy as np
import pytest
from scipy.stats import norm

from dcmu_jax.audits.forgetting_quality import (
    epsilon_of,
    epsilons,
    example_quality,
)
from dcmu_jax.errors import InputError


def _draws(models, examples, seed, shift=0.0, scale=1.0):
    return np.random.default_rng(seed).normal(shift, scale, (models, examples))


def test_epsilon_of_gaussians_is_the_closed_form():
    """Thresholds on N(0, 1) and N(d, 1): empirical rates of large samples, at the same points."""
    count, distance = 400_000, 1.5
    thresholds = np.linspace(-1.0, 2.5, 15)
    negative, positive = _draws(count, 2, 0).T
    empirical = epsilon_of(
        np.array([(negative >= t).mean() for t in thresholds]),
        np.array([(positive + distance < t).mean() for t in thresholds]),
    )
    delta = 1e-5
    fpr, fnr = norm.sf(thresholds), norm.cdf(thresholds - distance)
    expected = np.maximum(
        np.log(norm.cdf(thresholds) - delta) - np.log(fnr),
        np.log(norm.sf(thresholds - distance) - delta) - np.log(fpr),
    )
    # The logarithm of a share p of n has a standard error of at most 1 / sqrt(n p).
    np.testing.assert_allclose(empirical, expected, atol=5 / math.sqrt(count * fpr.min()))
    assert expected.max() > 2.5


def test_rates_of_zero_and_one():
    found = epsilon_of(np.array([0.0, 0, 0.3, 1.0, 0.5]), np.array([0.0, 0.3, 0, 1.0, 0.5]))
    assert found[0] == math.inf
    assert np.isnan(found[1:3]).all()
    assert found[3:].tolist() == [0.0, 0.0]
    # 1 - delta - FPR is negative: that term is skipped, the other one stands.
    wide = epsilon_of(np.array([0.95]), np.array([0.01]), delta=0.1)
    assert wide[0] == 0.0
    assert epsilon_of(np.array([0.95]), np.array([0.01]), delta=0.02)[0] == pytest.approx(
        max(0.0, math.log(0.03 / 0.01))
    )


def test_a_range_below_a_hundredth_of_the_other_is_the_cap():
    oracles = np.append(np.linspace(0, 100, 9), 50.2)[:, None]  # one of them amid the others' range
    for width, found in ((0.9, 50.0), (1.1, None)):
        unlearned = 50 + np.linspace(0, width, 10)[:, None]
        for pair in ((unlearned, oracles), (oracles, unlearned)):
            assert (epsilons(*pair)[0] == 50.0) == (found == 50.0)


def test_counts_by_hand():
    # Three quarters above against one quarter: FPR = FNR = 1/4.
    unlearned = np.array([[0.0], [1], [1], [1]])
    oracles = np.array([[0.0], [0], [0], [1]])
    expected = math.log((0.75 - 1e-5) / 0.25)
    assert epsilons(unlearned, oracles)[0] == pytest.approx(expected)
    assert epsilons(oracles, unlearned)[0] == pytest.approx(expected)
    assert epsilons(unlearned, unlearned)[0] == 0.0


def _plain(unlearned, oracles, grid=0.02, delta=1e-5):
    """One example by the challenge's description, every test of a fine grid of thresholds."""

    def epsilon(hits, alarms):
        fnr, fpr = 1 - hits.mean(), alarms.mean()
        if fpr == 0 and fnr == 0:
            return math.inf
        if fpr == 0 or fnr == 0:
            return 0.0
        terms = [(1 - delta - fpr, fnr), (1 - delta - fnr, fpr)]
        return max([0.0, *(math.log(p) - math.log(q) for p, q in terms if p > 0)])

    pair = (unlearned, oracles)
    high, low = pair if np.median(unlearned) >= np.median(oracles) else pair[::-1]
    both = np.concatenate(pair)
    steps = np.arange(both.min(), both.max(), grid)
    best = max(epsilon(high >= t, low >= t) for t in steps)
    peaked, other = pair if np.ptp(unlearned) < np.ptp(oracles) else pair[::-1]
    width = np.ptp(peaked)
    for right in np.arange(peaked.max() - 2, peaked.max() + 2, grid):
        for left in np.arange(right - width - 2, min(right, right - width + 2), grid):
            inside = [(left <= part) & (part <= right) for part in (peaked, other)]
            best = max(best, epsilon(*inside))
    return best


@pytest.mark.parametrize("case", range(3))
def test_every_test_of_the_challenge_is_tried(case):
    # Rounded so that the plain grid meets each value and each gap between two.
    shift, scale = [(0.5, 1.0), (0.0, 3.0), (0.0, 0.4)][case]
    unlearned, oracles = (
        np.round(part[:, 0] * 5) / 5 + 0.013
        for part in (_draws(12, 1, case, shift, scale), _draws(12, 1, 9 + case))
    )
    found = epsilons(unlearned[:, None], oracles[:, None])[0]
    assert found == pytest.approx(_plain(unlearned, oracles, 0.1))
    assert 0 < found < 50


def test_two_thresholds_see_a_difference_of_spread():
    found = epsilons(_draws(300, 5, 0, scale=6.0), _draws(300, 5, 1))
    # One threshold at t proves ln of the ratio of tails; the band about 0 is what tells them.
    inside = norm.cdf(3.0) - norm.cdf(-3.0), norm.cdf(0.5) - norm.cdf(-0.5)
    at_three = math.log((1 - inside[1]) / (1 - inside[0]))
    assert np.median(found) > at_three - 0.7


def test_equal_populations_are_near_one_and_shifted_ones_far():
    for models in (64, 256):
        equal = epsilons(_draws(models, 60, 0), _draws(models, 60, 1))
        assert 0.3 < np.median(equal) < 1.8
        assert example_quality(equal, models).mean() > 0.1
    shifted = epsilons(_draws(64, 60, 0, shift=3.0), _draws(64, 60, 1))
    assert np.median(shifted) > np.median(equal) + 1
    assert example_quality(shifted, 64).mean() < 0.02


def test_cap_and_samples_without_spread():
    apart = epsilons(_draws(20, 2, 0, shift=40.0), _draws(20, 2, 1))
    assert apart.tolist() == [50.0, 50.0]
    peaked = epsilons(np.full((20, 2), 0.1), _draws(20, 2, 1), cap=30.0)
    assert peaked.tolist() == [30.0, 30.0]
    assert epsilons(np.ones((4, 1)), np.ones((5, 1))).tolist() == [0.0]


def test_quality_by_bins():
    found = np.array([0.0, 0.49, 0.5, 1.2, 6.99, 7.0, 50.0])
    expected = [1, 1, 0.5, 0.25, 2.0**-13, 0, 0]
    np.testing.assert_allclose(example_quality(found, 512), expected)
    ends = [(64, 5.0), (128, 5.0), (256, 6.0), (512, 7.0)]
    for models, end in ends:
        inside, beyond = example_quality(np.array([end - 0.01, end]), models)
        assert inside > 0 == beyond


def test_refusals():
    good = _draws(5, 3, 0)
    with pytest.raises(InputError, match=r"Forgetting quality with 2 unlearned models. Allowed: 3"):
        epsilons(good[:2], good)
    with pytest.raises(InputError, match="Forgetting quality with 2 oracle models"):
        epsilons(good, good[:2])
    with pytest.raises(InputError, match="Margins of the unlearned of shape"):
        epsilons(good[:, 1:], good)
    with pytest.raises(InputError, match=r"unlearned models .* 15 of them not finite"):
        epsilons(np.full((5, 3), np.nan), good)
    with pytest.raises(InputError, match="delta = 1"):
        epsilons(good, good, delta=1.0)
    with pytest.raises(InputError, match="cap = 0"):
        epsilons(good, good, cap=0.0)
    with pytest.raises(InputError, match="2 unlearned models"):
        example_quality(np.zeros(1), 2)

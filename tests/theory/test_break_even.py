import numpy as np
import pytest

from dcmu_jax.errors import InputError
from dcmu_jax.theory import (
    best_clusters_per_class,
    cluster_counts_below,
    expected_draws_equal,
    expected_draws_until_touched,
    expected_reduction,
    expected_reduction_equal,
    largest_fraction,
    most_forgotten,
    saves_in_expectation,
)

SIZES = np.array([1] * 10 + [2] * 10 + [5] * 8 + [30])


@pytest.mark.parametrize("ratio", [0.3, 0.6, 0.9, 0.99])
def test_most_forgotten_is_the_last_of_all_that_pay(ratio):
    pays = [expected_reduction(SIZES, k) < ratio for k in range(1, SIZES.sum())]
    assert pays == sorted(pays, reverse=True)
    assert most_forgotten(SIZES, ratio) == sum(pays)


def test_no_request_pays():
    assert most_forgotten(np.ones(5, int), 0.9) == 0
    assert cluster_counts_below(1000, 500, 0.5) is None


@pytest.mark.parametrize(("forgotten", "ratio"), [(10, 0.3), (30, 0.55), (150, 0.78)])
def test_cluster_counts_are_all_that_pay(forgotten, ratio):
    pays = [b for b in range(1, 301) if expected_reduction_equal(300, b, forgotten) < ratio]
    low, high = cluster_counts_below(300, forgotten, ratio)
    assert pays == list(range(low, high + 1))


@pytest.mark.parametrize("ratio", [0.05, 0.3, 0.5, 0.7, 0.9])
def test_largest_fraction_is_where_the_best_count_breaks_even(ratio):
    fraction, n = largest_fraction(ratio), 1_000_000
    best = best_clusters_per_class(n, fraction)
    value = expected_reduction_equal(n, best, round(n * fraction))
    assert value == pytest.approx(ratio, abs=1e-4)


def test_known_fractions():
    assert largest_fraction(0.451) == pytest.approx(0.1, abs=5e-4)
    assert largest_fraction(0.745) == pytest.approx(0.5, abs=2e-3)


def test_saving_needs_an_untouched_cluster_of_two():
    assert not saves_in_expectation(np.ones(9, int), 1)
    assert saves_in_expectation(np.array([1, 1, 2]), 2)
    assert not saves_in_expectation(np.array([1, 1, 2]), 3)
    sizes = np.array([1, 2, 4])
    for k in range(1, 7):
        assert saves_in_expectation(sizes, k) == (expected_reduction(sizes, k) < 1 - 1e-9)


@pytest.mark.parametrize("sizes", [[1, 9], [2, 2, 2, 14], [1, 1, 3, 10, 25], [40] * 20 + [1]])
def test_draws_until_touched_are_the_mean_of_permutations(sizes):
    cluster = np.repeat(np.arange(len(sizes)), sizes)
    rng = np.random.default_rng(0)
    draws = []
    for _ in range(3000):
        order = rng.permutation(len(cluster))
        first = np.full(len(sizes), len(order))
        np.minimum.at(first, cluster, order)
        draws.append(first.max() + 1)
    error = np.std(draws) / np.sqrt(len(draws))
    assert abs(np.mean(draws) - expected_draws_until_touched(np.array(sizes))) < 4 * error


def test_draws_until_touched_known_values():
    # Recorded simulations: 29,706 +- 62 and 42,766 +- 45 and 3,301 +- 16.
    known = {5000: 29_705, 10_000: 42_725, 500: 3280}
    for clusters, value in known.items():
        assert expected_draws_equal(50_000, clusters) == pytest.approx(value, abs=0.5)
    # One cluster: the first draw touches it. Single samples: all must be drawn.
    assert expected_draws_equal(50, 1) == pytest.approx(1)
    assert expected_draws_until_touched(np.ones(50, int)) == pytest.approx(50)
    # The integral for unequal sizes meets the product for equal ones.
    near = np.array([10] * 4999 + [9, 11])[1:]
    assert expected_draws_until_touched(near) == pytest.approx(29_705, rel=1e-3)
    large = np.array([1000] * 49 + [999, 1])
    assert expected_draws_until_touched(large) == pytest.approx(50_001 / 2, rel=2e-3)


@pytest.mark.parametrize("ratio", [0.0, 1.0, float("nan")])
def test_bad_ratio(ratio):
    calls = (
        lambda: most_forgotten(SIZES, ratio),
        lambda: cluster_counts_below(100, 10, ratio),
        lambda: largest_fraction(ratio),
    )
    for call in calls:
        with pytest.raises(InputError, match="cost_ratio"):
            call()


def test_bad_sizes():
    for call in (most_forgotten, lambda s, _: expected_draws_until_touched(s)):
        with pytest.raises(InputError, match="at least one sample"):
            call(np.array([3, 0]), 0.5)
    with pytest.raises(InputError):
        expected_draws_equal(5, 6)

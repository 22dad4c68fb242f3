import itertools

import numpy as np
import pytest

from dcmu_jax.errors import InputError
from dcmu_jax.theory import (
    best_clusters_per_class,
    class_reduction,
    expected_reduced_size,
    expected_reduction,
    expected_reduction_equal,
    reduced_size_variance,
    reduced_size_variance_equal,
    simulate_reduced_size,
    unequal_sizes,
    untouched_probability,
)


def draw_reduced_size(rng, sizes, num_forgotten):
    """The collection protocol by its letter, on one random request."""
    cluster = np.repeat(np.arange(len(sizes)), sizes)
    forgotten = rng.permutation(len(cluster))[:num_forgotten]
    touched = set(cluster[forgotten].tolist())
    kept = set(range(len(cluster))) - set(forgotten.tolist())
    return sum(cluster[i] in touched for i in kept) + len(sizes) - len(touched)


@pytest.mark.parametrize("num_forgotten", [1, 9, 40, 119])
def test_exact_mean_is_the_mean_of_draws(num_forgotten):
    sizes = np.array([1, 1, 1, 2, 3, 5, 7, 10, 20, 30, 40])
    rng = np.random.default_rng(0)
    draws = np.array([draw_reduced_size(rng, sizes, num_forgotten) for _ in range(1500)])
    error = draws.std() / np.sqrt(len(draws))
    assert abs(draws.mean() - expected_reduced_size(sizes, num_forgotten)) < 4 * error + 1e-9


def test_no_binomial_shortcut():
    # One cluster of 2 among 3 samples, one forgotten: untouched only if the third one goes.
    np.testing.assert_allclose(untouched_probability(np.array([2, 1]), 3, 1), [1 / 3, 2 / 3])
    np.testing.assert_allclose(expected_reduced_size(np.array([2, 1]), 1), 2 - 1 / 3)
    # More forgotten samples than there are outside the cluster: it cannot stay untouched.
    assert untouched_probability(np.array([4]), 5, 2)[0] == 0


@pytest.mark.parametrize(
    ("clusters", "fraction", "eta", "monte_carlo"),
    [  # 50,000 samples in 10 classes; the last column is the mean of 60 draws
        (50, 0.01, 0.6343, 0.6350),
        (50, 0.1, 1.0000, 1.0000),
        (50, 0.5, 1.0000, 1.0000),
        (500, 0.01, 0.1778, 0.1779),
        (500, 0.1, 0.6514, 0.6509),
        (500, 0.5, 0.9982, 0.9983),
        (1000, 0.01, 0.2315, 0.2315),
        (1000, 0.1, 0.4751, 0.4750),
        (1000, 0.5, 0.9500, 0.9495),
    ],
)
def test_known_reductions(clusters, fraction, eta, monte_carlo):
    forgotten = round(50_000 * fraction)
    value = expected_reduction_equal(50_000, 10 * clusters, forgotten)
    assert value == pytest.approx(eta, abs=5.1e-5)
    assert value == pytest.approx(monte_carlo, abs=1e-3)
    sizes = np.full(10 * clusters, 5000 // clusters)
    assert expected_reduction(sizes, forgotten) == pytest.approx(value, abs=1e-9)


@pytest.mark.parametrize(
    ("fraction", "clusters"),
    [(0.001, 156), (0.01, 477), (0.05, 1011), (0.1, 1381), (0.2, 1869), (0.5, 2776)],
)
def test_known_best_cluster_counts(fraction, clusters):
    assert best_clusters_per_class(5000, fraction) == clusters


@pytest.mark.parametrize("fraction", [0.01, 0.1, 0.5])
def test_best_cluster_count_beats_every_other(fraction):
    def eta(k):
        return expected_reduction_equal(5000, 10 * k, round(5000 * fraction))

    best = best_clusters_per_class(500, fraction)
    assert eta(best) <= min(eta(k) for k in range(1, 501)) + 2e-4


def test_edges():
    assert best_clusters_per_class(1, 0.5) == 1
    assert best_clusters_per_class(10, 1e-9) == 1
    assert best_clusters_per_class(10, 0.999999) == 10 - 1
    assert class_reduction(450, 5000) == 0.09
    for bad in (lambda: best_clusters_per_class(10, 1.0), lambda: best_clusters_per_class(0, 0.1)):
        with pytest.raises(InputError):
            bad()
    wrong = ([[3, 0], 1], [[], 1], [[3], 3], [[3], 0], [[3.0, 2.5], 1], [[[3, 2]], 1], [[2**63], 1])
    for sizes, forgotten in (*wrong, [[np.nan, 3.0], 1], [["3"], 1], [[True] * 3, 1]):
        with pytest.raises(InputError):
            expected_reduced_size(np.array(sizes), forgotten)
    with pytest.raises(InputError, match=r"Cluster sizes .*one row of integers"):
        reduced_size_variance(np.array([[1], [2, 3]], object), 1)


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.uint64])
def test_sizes_of_any_integer_type_give_the_same(kind):
    sizes = np.array([130, 130, 3])
    for function in (reduced_size_variance, expected_reduced_size, expected_reduction):
        assert function(sizes.astype(kind), 100) == function(sizes, 100)
    drawn = [simulate_reduced_size(s, 100, draws=9, seed=0) for s in (sizes, sizes.astype(kind))]
    assert (drawn[0] == drawn[1]).all()


def test_unequal_sizes_cost():
    equal = expected_reduction(np.full(50, 10), 50)
    unequal = expected_reduction(np.array([1] * 25 + [19] * 25), 50)
    assert unequal > equal + 0.1


@pytest.mark.parametrize("num_forgotten", [1, 9, 40, 80, 105, 119])
def test_exact_variance_is_the_variance_of_draws(num_forgotten):
    sizes = np.array([1, 1, 1, 2, 3, 5, 7, 7, 7, 10, 16, 30, 30])
    draws = simulate_reduced_size(sizes, num_forgotten, draws=4000, seed=1).astype(float)
    exact = reduced_size_variance(sizes, num_forgotten)
    deviations = (draws - draws.mean()) ** 2
    error = deviations.std() / np.sqrt(len(draws))
    assert abs(deviations.mean() - exact) < 4 * error + 1e-9
    assert exact > 0 or num_forgotten == 119


def test_variance_by_every_request():
    sizes, forgotten = np.array([1, 2, 2, 4]), 3
    cluster = np.repeat(np.arange(4), sizes)
    values = []
    for gone in itertools.combinations(range(9), forgotten):
        counts = np.bincount(cluster[list(gone)], minlength=4)
        values.append(np.sum((sizes - counts)[counts > 0]) + np.sum(counts == 0))
    np.testing.assert_allclose(np.mean(values), expected_reduced_size(sizes, forgotten))
    np.testing.assert_allclose(np.var(values), reduced_size_variance(sizes, forgotten))


def test_simulation_follows_the_protocol():
    sizes, rng = np.array([1, 2, 3, 10, 14]), np.random.default_rng(5)
    plain = [draw_reduced_size(rng, sizes, 4) for _ in range(3000)]
    ours = simulate_reduced_size(sizes, 4, draws=3000, seed=0)
    assert abs(np.mean(plain) - ours.mean()) < 4 * np.hypot(np.std(plain), ours.std()) / 3000**0.5
    assert set(ours.tolist()) <= set(plain)
    np.testing.assert_array_equal(ours, simulate_reduced_size(sizes, 4, draws=3000, seed=0))
    assert (ours != simulate_reduced_size(sizes, 4, draws=3000, seed=1)).any()


@pytest.mark.parametrize(("clusters", "forgotten"), [(5000, 5000), (500, 500), (25_000, 25_000)])
def test_variance_of_equal_sizes(clusters, forgotten):
    exact = reduced_size_variance(np.full(clusters, 50_000 // clusters), forgotten)
    equal = reduced_size_variance_equal(50_000, clusters, forgotten)
    assert equal == pytest.approx(exact, rel=1e-4)
    assert reduced_size_variance_equal(100, 2, 60) == 0.0


def test_recorded_reductions():
    """What the paper's authors recorded at K = 450 and 10 % forgotten, explained by sizes."""
    for per_class, value in ((5000, 0.6864), (4500, 0.6514)):
        n = 10 * per_class
        assert expected_reduction_equal(n, 4500, n // 10) == pytest.approx(value, abs=1e-4)
    for shape, low, high in ((4.0, 0.71, 0.75), (1.0, 0.76, 0.82), (0.5, 0.81, 0.87)):
        sizes = unequal_sizes(50_000, 4500, shape, seed=0)
        assert sizes.sum() == 50_000 and sizes.min() >= 1
        assert low < expected_reduction(sizes, 5000) < high
    best = best_clusters_per_class(5000, 0.1)
    assert expected_reduction_equal(50_000, 10 * best, 5000) == pytest.approx(0.451, abs=1e-3)
    # A class forgotten whole, by the protocol: nothing but images of the other classes is left.
    assert (10 - 1) * 450 / (50_000 - 5000) == class_reduction(450, 5000)


def test_bad_simulation():
    for sizes, forgotten, draws in (([3, 0], 1, 5), ([3], 3, 5), ([3], 1, 0)):
        with pytest.raises(InputError):
            simulate_reduced_size(np.array(sizes), forgotten, draws, seed=0)
    for arguments in ((3, 4, 1.0, 0), (4, 0, 1.0, 0), (4, 2, 0.0, 0)):
        with pytest.raises(InputError):
            unequal_sizes(*arguments)

"""Every printed equation and its corrected one against simulated forget sets."""

import numpy as np
import pytest
from scipy import stats

from dcmu_jax.core.reduction import (
    EQUATIONS,
    Setting,
    equation_34,
    equation_36,
    equation_42,
    equation_43,
    equation_44,
    saves,
    terms_41,
    touched_retained,
    touched_retained_bound,
)
from dcmu_jax.errors import InputError
from dcmu_jax.theory import draw_forgotten

SMALL = Setting(num_samples=2000, num_classes=4, clusters_per_class=50, num_forgotten=200)
"""Clusters of 10 samples, 10 % forgotten, as in the paper's main setting."""


def paper(clusters_per_class, fraction):
    return Setting(
        num_samples=50_000,
        num_classes=10,
        clusters_per_class=clusters_per_class,
        num_forgotten=round(50_000 * fraction),
    )


@pytest.fixture(scope="module")
def simulated():
    """Draws of every quantity of the table."""
    s, size = SMALL, round(SMALL.size)
    counts = np.array(
        list(draw_forgotten(np.full(s.clusters, size), s.num_forgotten, 2000, seed=0))
    )
    untouched = np.sum(counts == 0, axis=1)
    retained = np.sum((size - counts) * (counts > 0), axis=1)
    rng = np.random.default_rng(1)
    draws = [
        rng.permutation(s.num_samples).reshape(s.clusters, size).min(axis=1).max() + 1
        for _ in range(2000)
    ]
    return {
        "untouched_clusters": untouched,
        "touched_retained": retained,
        "reduced_size": untouched + retained,
        "reduction": (untouched + retained) / s.num_retained,
        "draws_until_touched": np.array(draws),
    }


NUMBERS = [e for e in EQUATIONS if e.quantity != "saves"]
"""Without the criterion (2), (44), which has a test of its own."""


@pytest.mark.parametrize("equation", NUMBERS, ids=lambda e: str(e.number))
def test_simulation_sides_with_the_corrected(equation, simulated):
    draws = simulated[equation.quantity]
    error = draws.std(ddof=1) / np.sqrt(len(draws))
    assert abs(equation.corrected(SMALL) - draws.mean()) < 4 * error
    assert (abs(equation.printed(SMALL) - draws.mean()) < 10 * error) == equation.right


def test_all_are_there():
    assert [e.number for e in EQUATIONS] == [1, 2, *range(33, 45)]
    assert [e.number for e in EQUATIONS if e.right] == [33]


@pytest.mark.parametrize(
    ("clusters", "fraction", "t1_exact", "t1_38", "first_41", "order_41"),
    [  # at the paper's size
        (50, 0.01, 182.83, 18.4, 0.000, 0.998),
        (50, 0.1, 0.01, 0, 0.000, 10.98),
        (50, 0.5, 0, 0, 0.000, 98.8),
        (500, 0.01, 4521.9, 452.4, 0.617, 0.091),
        (500, 0.1, 1743.2, 183.9, 0.617, 1.000),
        (500, 0.5, 4.88, 3.4, 0.617, 9.00),
        (1000, 0.01, 9509.9, 951.2, 183.1, 0.040),
        (1000, 0.1, 5904.8, 606.5, 183.1, 0.444),
        (1000, 0.5, 312.4, 82.1, 183.1, 4.00),
    ],
)
def test_known_values(clusters, fraction, t1_exact, t1_38, first_41, order_41):
    s, by_number = paper(clusters, fraction), {e.number: e for e in EQUATIONS}
    assert by_number[38].corrected(s) == pytest.approx(t1_exact, abs=0.06)
    assert by_number[38].printed(s) == pytest.approx(t1_38, abs=0.06)
    first, order = terms_41(s)
    assert first * s.num_retained == pytest.approx(first_41, abs=0.06)
    assert order == pytest.approx(order_41, rel=1.2e-2)


def test_sums_are_what_they_were_simplified_to():
    s = SMALL
    m = np.arange(10)

    def inner(size):  # the inner sum of (34), term by term
        return np.sum(stats.binom.pmf(m[:size], size - 1, 1 / s.clusters) * (9 - m[:size]))

    assert equation_36(s) == pytest.approx(s.num_forgotten * inner(10), rel=1e-12)
    # (34) needs the forgotten samples of each cluster; the function is its mean over draws.
    table = np.array([0, *(inner(k) for k in range(1, 11))])
    sums = [
        np.sum(counts * table[counts])
        for counts in draw_forgotten(np.full(s.clusters, 10), s.num_forgotten, 500, seed=2)
    ]
    assert abs(np.mean(sums) - equation_34(s)) < 4 * np.std(sums) / np.sqrt(len(sums))


def test_order_term_is_no_bound():
    for fraction in (0.002, 0.01, 0.1, 0.5):
        s = paper(450, fraction)
        assert touched_retained(s) <= touched_retained_bound(s)
    one = Setting(num_samples=2000, num_classes=4, clusters_per_class=50, num_forgotten=1)
    assert touched_retained(one) == pytest.approx(9)
    assert equation_36(one) < 8.99


def test_collecting_clusters():
    assert equation_42(paper(1000, 0.1)) > 50_000  # more draws than there are samples
    for clusters in (50, 500, 1000):
        s = paper(clusters, 0.1)
        assert equation_43(s) < equation_42(s)


def test_criterion_decides_nothing():
    # Excluded as printed, yet some cluster of 100 stays untouched on some draws.
    assert saves(paper(50, 0.1)) and not equation_44(paper(50, 0.1))
    # The right side is negative: every request passes, even where nothing can be saved.
    s = Setting(num_samples=50_000, num_classes=10, clusters_per_class=5000, num_forgotten=5)
    assert equation_44(s) and not saves(s)


@pytest.mark.parametrize(
    "change", [{"num_forgotten": 0}, {"num_forgotten": 2000}, {"clusters_per_class": 501}]
)
def test_bad_setting(change):
    values = {"num_samples": 2000, "num_classes": 4, "clusters_per_class": 50, "num_forgotten": 9}
    with pytest.raises(InputError):
        Setting(**(values | change))

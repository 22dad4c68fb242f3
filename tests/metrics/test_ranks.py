"""Ranks by hand, and the tests against SciPy and a published value."""

import numpy as np
import pytest
from scipy import stats

from dcmu_jax.errors import InputError
from dcmu_jax.metrics.ranks import rank_methods


def test_ranks_by_hand_with_a_tie():
    found = rank_methods(np.array([[1.0, 2.0, 3.0], [5.0, 5.0, 9.0]]))
    np.testing.assert_array_equal(found.mean_ranks, [1.25, 1.75, 3.0])
    other = rank_methods(np.array([[1.0, 2.0, 3.0], [5.0, 5.0, 9.0]]), lower_is_better=False)
    np.testing.assert_array_equal(other.mean_ranks, [2.75, 2.25, 1.0])
    assert found.cells == 2


def test_critical_difference_as_published():
    # Demsar (2006), section 3.2.2: four classifiers, 14 data sets.
    scores = np.random.default_rng(0).normal(size=(14, 4))
    assert rank_methods(scores).critical_difference == pytest.approx(1.25, abs=0.005)
    assert rank_methods(scores, level=0.1).critical_difference == pytest.approx(1.12, abs=0.005)


def test_p_value_is_that_of_friedmans_test_with_ties():
    scores = np.random.default_rng(1).integers(0, 4, (9, 5)).astype(float)
    expected = stats.friedmanchisquare(*scores.T).pvalue
    assert rank_methods(scores).p_value == pytest.approx(expected)
    assert rank_methods(np.ones((3, 3))).p_value == 1


@pytest.mark.parametrize("scores", [np.ones((1, 3)), np.ones((3, 1))])
def test_too_little_is_refused(scores):
    with pytest.raises(InputError, match=r"Ranks of \d methods in \d cells"):
        rank_methods(scores)

"""The overfitted subset: Otsu on known histograms, and the right samples on the right side."""

import numpy as np
import pytest
from skimage.filters import threshold_otsu

from dcmu_jax.applications.overfitted import overfitted_subset
from dcmu_jax.errors import InputError


def _values(seed=0):
    """Two heaps in shuffled order, 30 of 0, 1, 2 and 70 of 8, 9, 10, of two classes."""
    rng = np.random.default_rng(seed)
    values = np.concatenate([np.arange(30) // 2 % 3, 8 + np.arange(70) // 2 % 3])
    order = rng.permutation(100)
    return values[order].astype(np.float32), (order % 2).astype(np.int32), order < 30


def _otsu_by_hand(values):
    """The bin centre that parts a histogram with the largest variance between its two sides."""
    counts, edges = np.histogram(values, bins=256)
    centres = (edges[1:] + edges[:-1]) / 2
    between = []
    for cut in range(1, 256):
        low, high = counts[:cut], counts[cut:]
        gap = np.average(centres[:cut], weights=low) - np.average(centres[cut:], weights=high)
        between.append(low.sum() * high.sum() * gap**2)
    return centres[np.argmax(between)]


def test_otsu_is_the_best_cut_and_that_of_scikit_image():
    values, labels, small = _values()
    found = overfitted_subset(values, labels)
    assert found.thresholds.tolist() == [threshold_otsu(values)] * 2
    assert found.thresholds[0] == pytest.approx(_otsu_by_hand(values), abs=1e-4)
    np.testing.assert_array_equal(found.chosen, small)


@pytest.mark.parametrize("rule", ["otsu", "otsu_per_class", "quantile"])
def test_the_chosen_lie_below_the_rest(rule):
    values, labels, _ = _values(1)
    found = overfitted_subset(values, labels, rule=rule, share=0.3)
    assert values[found.chosen].max() < values[~found.chosen].min()
    # Positions of sorted values taken for positions of samples would mix the two heaps.
    wrong = np.zeros(100, bool)
    wrong[np.arange(found.chosen.sum())] = True
    assert values[found.chosen].mean() < 2 < 8 < values[~found.chosen].mean()
    assert values[wrong].mean() > 4
    assert "30 of 100 samples (30.0 %)" in found.sentence() and found.share == 0.3


def test_classes_have_thresholds_of_their_own():
    values, labels, _ = _values(2)
    shifted = values + 20 * labels.astype(np.float32)
    found = overfitted_subset(shifted, labels, rule="otsu_per_class")
    assert found.thresholds[1] == pytest.approx(found.thresholds[0] + 20, abs=0.1)
    np.testing.assert_array_equal(found.chosen, _values(2)[2])
    assert overfitted_subset(shifted, labels).chosen.tolist() == (labels == 0).tolist()


def test_a_long_tail_makes_otsu_take_nearly_everything():
    values = np.append(np.full(990, 0.001), np.linspace(2, 5, 10))
    found = overfitted_subset(values, np.zeros(1000, np.int32))
    assert found.share == pytest.approx(0.99, abs=0.005)


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        ([1.0, 2.0], {"rule": "otso"}, "Did you mean 'otsu'"),
        ([1.0, np.nan], {}, "1 of them not finite"),
        ([1.0, 1.0], {}, "takes 2 of 2"),
        ([1.0, 2.0], {"rule": "quantile", "share": 1.0}, "share = 1.0"),
        ([], {}, "0 values"),
    ],
    ids=["rule", "nan", "all equal", "share", "none"],
)
def test_bad_input(values, options, message):
    with pytest.raises(InputError, match=message):
        overfitted_subset(np.array(values), np.zeros(len(values), np.int32), **options)

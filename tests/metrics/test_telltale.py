"""Forgotten samples beside test samples: what gives them away, and what chance explains."""

import numpy as np
import pytest

from dcmu_jax.metrics.telltale import beside


def _compared(*classes):
    """Of each class: forgotten right, forgotten, test right, test."""
    ours, others = [], []
    for label, (right, n, there, m) in enumerate(classes):
        ours += [(i < right, label) for i in range(n)]
        others += [(i < there, label) for i in range(m)]
    columns = (np.array(pairs).reshape(-1, 2) for pairs in (ours, others))
    ours, others = columns
    return beside(ours[:, 0].astype(bool), ours[:, 1], others[:, 0].astype(bool), others[:, 1])


@pytest.mark.parametrize(
    ("classes", "tells"),
    [
        ([(0, 37, 92, 100)], True),
        ([(100, 100, 60, 100)], True),  # it did not forget
        ([(137, 144, 342, 359)], False),
        ([(33, 37, 97, 100)], False),  # chance
        ([(0, 1, 36, 37)], False),
        ([(0, 3, 36, 37)], True),
        ([(0, 100, 0, 30)], False),  # a class forgotten whole
        ([(0, 100, 0, 30), (5, 5, 95, 100)], False),  # and some others
        ([(9500, 10000, 9100, 10000)], False),  # more than chance, less than five points
    ],
)
def test_what_tells(classes, tells):
    found = _compared(*classes)
    assert found.tells is tells
    assert bool(found.sentence()) is tells


def test_the_sentence_says_which_way():
    said = _compared((0, 37, 92, 100)).sentence()
    assert "Of the forgotten samples 0.0 % are classified correctly" in said
    assert "of test images of their classes 92.0 %" in said and "were forgotten" in said
    assert _compared((100, 100, 60, 100)).sentence().endswith("shows that it was trained on them.")
    assert beside(np.ones(3, bool), np.zeros(3, int), np.ones(3, bool), np.ones(3, int)) is None

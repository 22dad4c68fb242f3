"""The largest of a tree of scores, against sorting."""

import jax
import numpy as np
import pytest
from toys import same_bits

from dcmu_jax.baselines.masks import largest
from dcmu_jax.training.timing import Stopwatch

RNG = np.random.default_rng(0)
SCORES = {
    "b": RNG.random((4, 5)).astype(np.float32) * 10.0 ** RNG.integers(-30, 30, (4, 5)),
    "a": {"x": RNG.random(7).astype(np.float32), "y": np.zeros((2, 1), np.float32)},
}
SCORES = jax.tree.map(lambda s: s.astype(np.float32), SCORES)


def by_sorting(scores, count):
    leaves = [np.asarray(s) for s in jax.tree.leaves(scores)]
    flat = np.concatenate([s.ravel() for s in leaves])
    order = np.argsort(-flat, kind="stable")[:count]
    order = order[flat[order] >= 0]
    chosen = np.zeros(len(flat), bool)
    chosen[order] = True
    pieces = np.split(chosen, np.cumsum([s.size for s in leaves])[:-1])
    shaped = [piece.reshape(s.shape) for piece, s in zip(pieces, leaves, strict=True)]
    return jax.tree.unflatten(jax.tree.structure(scores), shaped)


@pytest.mark.parametrize("count", [0, 1, 2, 7, 13, 26, 27, 28, 29])
def test_as_sorting_has_it(count):
    assert same_bits(largest(SCORES, count), by_sorting(SCORES, count))


@pytest.mark.parametrize("count", range(10))
def test_ties_are_taken_in_order_and_negative_scores_never(count):
    scores = [np.array([[2, 1, -1], [1, 0, 2]], np.float32), np.array([1, -1, 0], np.float32)]
    mask = largest(scores, count)
    assert same_bits(mask, by_sorting(scores, count))
    assert sum(int(m.sum()) for m in mask) == min(count, 7)


def test_another_count_compiles_nothing():
    largest(SCORES, np.int32(1))
    watch = Stopwatch()
    with watch.running():
        for count in (2, 3, 20):
            largest(SCORES, np.int32(count))
    assert watch.compile_s == 0

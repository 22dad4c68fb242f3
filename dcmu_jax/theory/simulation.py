"""Seeded draws of forget sets, to hold the formulas against."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jaxtyping import Int, Integer

from dcmu_jax.errors import check_at_least, check_positive, check_seed
from dcmu_jax.theory.reduction import checked_sizes


def draw_forgotten(
    sizes: Integer[np.ndarray, " clusters"], num_forgotten: int, draws: int, seed: int
) -> Iterator[Int[np.ndarray, " clusters"]]:
    """Numbers of forgotten samples in each cluster, one array per random forget set.

    Args:
        sizes: of the clusters, at least 1 each; they sum to ``N``.
        num_forgotten: ``N_F``, within ``1..N-1``, drawn uniformly without replacement.
        draws: how many forget sets.
        seed: of the draws.
    """
    seed = check_seed("seed", seed)
    sizes, _ = checked_sizes(sizes, num_forgotten)
    check_at_least("draws", draws, 1)
    rng = np.random.default_rng(seed)
    for _ in range(draws):
        yield rng.multivariate_hypergeometric(sizes, num_forgotten)


def simulate_reduced_size(
    sizes: Integer[np.ndarray, " clusters"], num_forgotten: int, draws: int, seed: int
) -> Int[np.ndarray, " draws"]:
    """Sizes of the reduced retain set for random forget sets, by the collection protocol's rule.

    Survivors of touched clusters and one image for each untouched one are counted; no formula for
    the mean is used. Arguments as for ``draw_forgotten``.

    >>> simulate_reduced_size(np.array([1, 2, 3]), 2, draws=4, seed=0)
    array([2, 4, 4, 2])
    """
    seed = check_seed("seed", seed)
    sizes, _ = checked_sizes(sizes, num_forgotten)
    reduced = [
        np.sum((sizes - forgotten)[forgotten > 0]) + np.count_nonzero(forgotten == 0)
        for forgotten in draw_forgotten(sizes, num_forgotten, draws, seed)
    ]
    return np.array(reduced, np.int64)


def unequal_sizes(
    num_samples: int, num_clusters: int, shape: float, seed: int
) -> Int[np.ndarray, " clusters"]:
    """Random cluster sizes as uneven as k-means leaves them: one each, the rest by gamma weights.

    Args:
        num_samples: what the sizes sum to.
        num_clusters: within ``1..num_samples``.
        shape: of the gamma distribution; the smaller, the more uneven. Shapes from 0.25 to 5
            give the reductions that the paper's authors recorded for k-means (0.71 to 0.87).
        seed: of the weights and of the division.

    >>> unequal_sizes(20, 4, 1.0, seed=0)
    array([9, 8, 2, 1])
    """
    seed = check_seed("seed", seed)
    check_at_least("num_clusters", num_clusters, 1)
    check_at_least("num_samples", num_samples, num_clusters)
    check_positive("shape", shape)
    rng = np.random.default_rng(seed)
    share = rng.gamma(shape, size=num_clusters)
    return 1 + rng.multinomial(num_samples - num_clusters, share / share.sum())

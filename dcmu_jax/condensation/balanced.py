"""k-means with clusters of equal size, to within one sample."""

from __future__ import annotations

import numpy as np
import scipy

from dcmu_jax.errors import check_seed
from dcmu_jax.threads import one_thread
from dcmu_jax.training.keys import sklearn_state

LEAF = 256
"""Most samples that are assigned exactly: the cost of that grows with the third power."""

ITERATIONS = 10


@one_thread()
def balanced_kmeans(features: np.ndarray, clusters: int, seed: int) -> np.ndarray:
    """Cluster 0..K-1 of each sample; sizes are ``n // K`` or ``n // K + 1``.

    Up to ``LEAF`` samples: from k-means centroids, the cheapest assignment of samples to capacity
    slots (squared distances, linear assignment) and the centroids of the result by turns, at most
    ``ITERATIONS`` times. More samples are first halved again and again, each time into two parts
    that will hold half of the clusters each, by the same alternation with two centroids, where the
    cheapest assignment is a cut of the samples sorted by the difference of their distances. Time
    then grows with ``n log n`` and memory with ``n``.

    Args:
        features: float32 ``(n, D)``.
        clusters: ``K``, at most ``n``.
        seed: of the k-means starts.
    """
    seed = check_seed("seed", seed)
    small, larger = divmod(len(features), clusters)
    capacities = np.full(clusters, small)
    # Spread evenly, so that halves of the clusters hold nearly halves of the samples.
    capacities[np.linspace(0, clusters, larger, endpoint=False).astype(int)] += 1
    assignment = np.empty(len(features), np.int64)
    todo = [(np.arange(len(features)), 0, clusters)]
    while todo:
        at, low, high = todo.pop()
        if len(at) <= LEAF or high - low == 1:
            assignment[at] = low + _assign(features[at], capacities[low:high], seed)
            continue
        middle = (low + high) // 2
        first = _halve(features[at], int(capacities[low:middle].sum()))
        todo += [(at[first], low, middle), (at[~first], middle, high)]
    return assignment


def _halve(features: np.ndarray, count: int) -> np.ndarray:
    """Mask of the ``count`` samples of the first of two near groups."""
    centred = features - features.mean(axis=0)[None]
    # Power iteration on the covariance: the direction along which the samples spread most.
    direction = centred[np.argmax(np.sum(centred**2, axis=1))]
    for _ in range(ITERATIONS):
        direction = centred.T @ (centred @ direction)
        norm = np.linalg.norm(direction)
        if norm == 0:  # all samples are equal: any cut will do
            break
        direction = direction / norm
    mask = _first(centred @ direction, count)
    for _ in range(ITERATIONS):
        apart = centred[mask].mean(axis=0) - centred[~mask].mean(axis=0)
        new = _first(-(centred @ apart), count)
        if (new == mask).all():
            break
        mask = new
    return mask


def _first(scores: np.ndarray, count: int) -> np.ndarray:
    mask = np.zeros(len(scores), bool)
    mask[np.argsort(scores, kind="stable")[:count]] = True
    return mask


def _assign(features: np.ndarray, capacities: np.ndarray, seed: int) -> np.ndarray:
    """Balanced k-means proper: which of the clusters holds each sample."""
    clusters = len(capacities)
    if clusters == 1:
        return np.zeros(len(features), np.int64)
    from sklearn.cluster import KMeans  # a second's import

    start = KMeans(clusters, n_init="auto", random_state=sklearn_state(seed))
    found = np.bincount(start.fit_predict(features), minlength=clusters)
    centroids = start.cluster_centers_
    # The roomier slots go to the clusters that k-means found larger.
    room = np.empty_like(capacities)
    room[np.argsort(-found, kind="stable")] = np.sort(capacities)[::-1]
    slots = np.repeat(np.arange(clusters), room)
    assignment = np.full(len(features), -1)
    for _ in range(ITERATIONS):
        # The samples' own norms are the same for every slot and do not matter.
        cost = np.sum(centroids**2, axis=1)[None] - 2 * features @ centroids.T
        rows, columns = scipy.optimize.linear_sum_assignment(cost[:, slots])
        new = np.empty_like(assignment)
        new[rows] = slots[columns]
        if (new == assignment).all():
            break
        assignment = new
        sums = np.zeros_like(centroids)
        np.add.at(sums, assignment, features)
        centroids = sums / room[:, None]
    return assignment

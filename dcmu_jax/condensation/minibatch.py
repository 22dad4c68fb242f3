"""k-means in batches, for classes that do not fit into memory."""

from __future__ import annotations

import numpy as np

from dcmu_jax.errors import check_seed
from dcmu_jax.threads import one_thread
from dcmu_jax.training.keys import sklearn_state

BATCH = 1024
"""Least samples read at once; three times the number of clusters, where that is more."""

PASSES = 10


@one_thread()
def minibatch_kmeans(
    features: np.ndarray, members: np.ndarray, clusters: int, seed: int
) -> np.ndarray:
    """Cluster 0..K-1 of each of some rows, of which only a batch is in memory at a time.

    scikit-learn's ``MiniBatchKMeans``, ``PASSES`` times over the rows in random order.

    Args:
        features: float ``(N, D)``; may be a ``numpy.memmap``.
        members: rows to be divided, at least ``clusters``.
        clusters: ``K``; the starts are chosen among the first batch.
        seed: of the order, the starts and reassignments.
    """
    seed = check_seed("seed", seed)
    batch = max(BATCH, 3 * clusters)
    rng = np.random.default_rng(seed)
    from sklearn.cluster import MiniBatchKMeans  # a second's import

    model = MiniBatchKMeans(
        clusters, n_init="auto", batch_size=batch, random_state=sklearn_state(seed)
    )
    parts = max(1, len(members) // batch)  # none is smaller than a batch, unless all there is
    for _ in range(PASSES):
        for rows in np.array_split(rng.permutation(members), parts):
            model.partial_fit(read(features, np.sort(rows)))
    return np.concatenate(
        [model.predict(read(features, rows)) for rows in np.array_split(members, parts)]
    )


def read(features: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Some rows as a float32 array in memory."""
    return np.ascontiguousarray(features[rows], np.float32)

"""Clusters and features that do not depend on any training sample.

A bank made of them is *clean*: the image of a cluster depends on the samples of that cluster and on
nothing else, so that forgetting a sample leaves the image of every other cluster as it would be
had any other pixels stood there.
"""

from __future__ import annotations

import flax.linen as nn
import numpy as np
from jaxtyping import Float, Int

from dcmu_jax.condensation.clustering import Clusters, cluster_classes
from dcmu_jax.data.dataset import Normalisation
from dcmu_jax.errors import InputError, check_at_least, check_seed
from dcmu_jax.networks.partition import initialise
from dcmu_jax.threads import one_thread
from dcmu_jax.training.classifier import Classifier
from dcmu_jax.training.keys import named_key

_MIDDLE, _SPREAD = 0.5, 0.25
"""Normalisation that owes nothing to the data: pixels in [0, 1] to about -2..2."""

_CHUNK = 8192
"""Samples whose distances to the centroids are computed at once."""


def clean_network(model: nn.Module, image_shape: tuple[int, int, int], seed: int) -> Classifier:
    """An untrained network whose normalisation is fixed as well: it has seen no image at all.

    Args:
        model: a Linen module in three parts.
        image_shape: ``(height, width, channels)``.
        seed: of the initialisation.
    """
    seed = check_seed("seed", seed)
    channels = image_shape[2]
    normalisation = Normalisation(
        np.full(channels, _MIDDLE, np.float32), np.full(channels, _SPREAD, np.float32)
    )
    variables = initialise(model, named_key(seed, "clean network"), image_shape)
    return Classifier(model, variables, normalisation, image_shape)


def clusters_by_id(
    labels: Int[np.ndarray, " samples"],
    ids: Int[np.ndarray, " samples"],
    clusters_per_class: int,
    *,
    seed: int = 0,
) -> Clusters:
    """Divide each class by a hash of the ids, into clusters whose sizes differ by one at most.

    Pixels do not enter. The members of a cluster are no more alike than any of their class: the
    price of needing no reference images (``clusters_by_reference``).

    Args:
        labels: class of every sample.
        ids: stable ids, all different.
        clusters_per_class: ``K``; a class of fewer samples is divided into single samples.
        seed: of the hash.
    """
    seed = check_seed("seed", seed)
    check_at_least("clusters_per_class", clusters_per_class, 1)
    start = _mix(np.array([seed], np.uint64))
    mixed = _mix(ids.astype(np.uint64) + start)
    classes, counts = np.unique(labels, return_counts=True)
    members, local = {}, {}
    for c, count in zip(classes.tolist(), counts.tolist(), strict=True):
        at = np.flatnonzero(labels == c)
        members[c] = at[np.lexsort((ids[at], mixed[at]))]
        local[c] = np.arange(count) * min(clusters_per_class, count) // count
    return Clusters.by_class(members, local, classes[counts < clusters_per_class])


def _mix(x: np.ndarray) -> np.ndarray:
    """A bijection of 64-bit words that leaves no pattern (the finaliser of SplitMix64)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@one_thread()
def clusters_by_reference(
    features: Float[np.ndarray, "samples dim"],
    labels: Int[np.ndarray, " samples"],
    reference_features: Float[np.ndarray, "reference dim"],
    reference_labels: Int[np.ndarray, " reference"],
    clusters_per_class: int,
    *,
    seed: int = 0,
) -> Clusters:
    """Put every sample to the nearest centroid that other images of its class have.

    Where a sample goes depends on that sample and on the reference alone. A centroid to which no
    sample goes makes no cluster.

    Args:
        features: of the training set, from a network that has not seen it.
        labels: its classes.
        reference_features: of images that are not of the training set, from the same network.
        reference_labels: their classes.
        clusters_per_class: ``K``, centroids of each class at most.
        seed: of the k-means of the reference.

    Raises:
        InputError: a class of the training set that the reference lacks; see ``cluster_classes``.
    """
    seed = check_seed("seed", seed)
    missing = np.setdiff1d(labels, reference_labels)
    if len(missing):
        raise InputError(
            f"Reference images without the classes {missing.tolist()[:10]}",
            "some of every class of the training set",
            "Add reference images of those classes, or cluster by id",
        )
    reference = cluster_classes(reference_features, reference_labels, clusters_per_class, seed=seed)
    chosen = np.empty(len(labels), np.int64)
    for c in np.unique(labels):
        own = np.flatnonzero(reference.labels == c)
        centroids = np.stack(
            [reference_features[reference.assignment == j].mean(axis=0) for j in own]
        )
        at = np.flatnonzero(labels == c)
        for low in range(0, len(at), _CHUNK):
            rows = at[low : low + _CHUNK]
            away = np.sum(centroids**2, axis=1)[None] - 2 * features[rows] @ centroids.T
            chosen[rows] = own[np.argmin(away, axis=1)]
    used, assignment = np.unique(chosen, return_inverse=True)
    return Clusters.of(assignment, reference.labels[used])

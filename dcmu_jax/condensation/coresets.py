"""Coresets: real samples that represent their class; and the plain mean of each cluster."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int

from dcmu_jax.condensation.clustering import ClusterMethod, Clusters, cluster_classes
from dcmu_jax.condensation.condenser import CondensedImages, Condenser, Given
from dcmu_jax.data.dataset import Dataset
from dcmu_jax.threads import one_thread
from dcmu_jax.training.keys import named_seed

Choose = Callable[[Float[np.ndarray, "samples dim"], int], Int[np.ndarray, " chosen"]]
"""Features of one class and how many to choose -> positions among them, in order of choice."""


@dataclasses.dataclass(frozen=True)
class RandomCoreset(Condenser):
    """Samples drawn at random, without replacement. Takes no notice of ``classifier``."""

    def _condense(self, given: Given) -> CondensedImages:
        rows = []
        for c in given.classes:
            rng = np.random.default_rng(named_seed(given.seed, f"coreset of class {c}"))
            of_class = rng.permutation(np.flatnonzero(given.dataset.labels == c))
            rows.append(of_class[: given.images_per_class])
        return _samples(given.dataset, np.concatenate(rows))


@dataclasses.dataclass(frozen=True)
class KCenter(Condenser):
    """Greedy k-centers: from the sample nearest to the mean of its class, always the farthest next.

    Features are those of ``classifier``, or without one the pixels. Nothing is random.
    """

    def _condense(self, given: Given) -> CondensedImages:
        return _choose_by_class(k_centers, given)


@dataclasses.dataclass(frozen=True)
class Herding(Condenser):
    """Herding (Welling 2009): the mean of the chosen follows the mean of the class.

    Features are those of ``classifier``, or without one the pixels. Nothing is random.
    """

    def _condense(self, given: Given) -> CondensedImages:
        return _choose_by_class(herd, given)


@dataclasses.dataclass(frozen=True)
class KMedoids(Condenser):
    """The sample nearest to the centroid of each cluster of its class.

    Features are those of ``classifier``, or without one the pixels.

    Attributes:
        method: of clustering; see ``cluster_classes``.
    """

    method: ClusterMethod = "kmeans"

    def _condense(self, given: Given) -> CondensedImages:
        features, clusters = _cluster(given, self.method)
        rows = []
        for j in range(len(clusters.sizes)):
            at = np.flatnonzero(clusters.assignment == j)
            away = np.sum((features[at] - features[at].mean(axis=0)[None]) ** 2, axis=1)
            rows.append(at[np.argmin(away)])
        return _samples(given.dataset, np.array(rows))


@dataclasses.dataclass(frozen=True)
class ClusterMean(Condenser):
    """The plain mean of the images of each cluster: where fast distribution matching starts.

    Features are those of ``classifier``, or without one the pixels.

    Attributes:
        method: of clustering; see ``cluster_classes``.
    """

    method: ClusterMethod = "kmeans"

    def _condense(self, given: Given) -> CondensedImages:
        _, clusters = _cluster(given, self.method)
        images = [
            given.dataset.images[clusters.assignment == j].mean(axis=0, dtype=np.float64)
            for j in range(len(clusters.sizes))
        ]
        return CondensedImages(np.stack(images).astype(np.float32), clusters.labels)


@one_thread()
def k_centers(features: Float[np.ndarray, "samples dim"], count: int) -> Int[np.ndarray, " chosen"]:
    """Positions of greedily chosen centers, ``count`` of them, all different.

    Each next one is the sample whose distance to its nearest center is largest. Of equal ones the
    first is taken.
    """
    x = features - features.mean(axis=0)[None]
    norms = np.sum(x**2, axis=1)
    chosen = [int(np.argmin(norms))]
    nearest = np.full(len(x), np.inf, x.dtype)
    while len(chosen) < count:
        last = chosen[-1]
        # Squared distances by one product of the features with a row.
        nearest = np.minimum(nearest, np.maximum(norms + norms[last] - 2 * (x @ x[last]), 0))
        nearest[last] = -1  # equal samples may not be chosen twice
        chosen.append(int(np.argmax(nearest)))
    return np.array(chosen)


@one_thread()
def herd(features: Float[np.ndarray, "samples dim"], count: int) -> Int[np.ndarray, " chosen"]:
    """Positions of ``count`` samples, all different, whose mean stays near the mean of all.

    The next one after ``k`` with sum ``s`` minimises ``|mean - (s + x) / (k + 1)|``. Of equal ones
    the first is taken.
    """
    x = features - features.mean(axis=0)[None]
    norms = np.sum(x**2, axis=1)
    total = np.zeros(x.shape[1], x.dtype)
    chosen: list[int] = []
    for _ in range(count):
        # The mean is 0 by now, so |s + x|^2 less |s|^2, which is the same for all.
        away = norms + 2 * (x @ total)
        away[chosen] = np.inf
        chosen.append(int(np.argmin(away)))
        total += x[chosen[-1]]
    return np.array(chosen)


def _features(given: Given) -> np.ndarray:
    """Features float32 ``(N, D)``; pixels in [0, 1] where there is no network."""
    images = given.dataset.images
    if given.classifier is not None:
        return np.asarray(given.classifier.features(images), np.float32)
    return images.reshape(len(images), -1).astype(np.float32) / 255


def _samples(dataset: Dataset, rows: np.ndarray) -> CondensedImages:
    return CondensedImages(dataset.images[rows].astype(np.float32), dataset.labels[rows])


def _choose_by_class(choose: Choose, given: Given) -> CondensedImages:
    features = _features(given)
    members = [np.flatnonzero(given.dataset.labels == c) for c in given.classes]
    rows = [at[choose(features[at], given.images_per_class)] for at in members]
    return _samples(given.dataset, np.concatenate(rows))


def _cluster(given: Given, method: str) -> tuple[np.ndarray, Clusters]:
    features, labels = _features(given), given.dataset.labels
    return features, cluster_classes(
        features, labels, given.images_per_class, method=method, seed=given.seed
    )

"""Clusters of each class in feature space: k-means in four ways, one of them in balance."""

from __future__ import annotations

import dataclasses
import functools
import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, get_args

import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float, Int

from dcmu_jax.condensation.balanced import balanced_kmeans
from dcmu_jax.condensation.minibatch import minibatch_kmeans, read
from dcmu_jax.data.chunks import chunks
from dcmu_jax.errors import InputError, check_at_least, check_seed, unknown_name
from dcmu_jax.fast.lloyd import compiled_kmeans
from dcmu_jax.threads import one_thread
from dcmu_jax.training.devices import local_mesh, merged, turn
from dcmu_jax.training.keys import sklearn_state

ClusterMethod = Literal["kmeans", "compiled", "minibatch", "balanced"]


@dataclasses.dataclass(frozen=True, eq=False)
class Clusters:
    """A division of the training set into clusters, none of which mixes classes or is empty.

    Clusters are numbered class after class, so those of a class are adjacent.

    Attributes:
        assignment: int32 ``(N,)``, the cluster of every sample.
        labels: int32 ``(B,)``, the class of every cluster, ascending.
        sizes: int32 ``(B,)``, samples in every cluster, at least 1.
        short_classes: classes with fewer samples than clusters were asked for; each of their
            samples is a cluster of its own.
    """

    assignment: np.ndarray
    labels: np.ndarray
    sizes: np.ndarray
    short_classes: tuple[int, ...]

    @classmethod
    def of(cls, assignment: np.ndarray, labels: Any, short_classes: Any = ()) -> Clusters:
        """With the sizes counted."""
        sizes = np.bincount(assignment, minlength=len(labels)).astype(np.int32)
        return cls(
            np.asarray(assignment, np.int32),
            np.asarray(labels, np.int32),
            sizes,
            tuple(map(int, short_classes)),
        )

    @classmethod
    def by_class(cls, members: Mapping[int, np.ndarray], local: Mapping[int, np.ndarray], short):
        """Numbered class after class.

        Args:
            members: class -> the rows of its samples; all rows together, classes ascending.
            local: class -> the cluster 0.. of each of them within the class.
            short: see ``short_classes``.
        """
        assignment = np.empty(sum(map(len, members.values())), np.int32)
        labels: list[int] = []
        for c, at in members.items():
            assignment[at] = local[c] + len(labels)
            labels += [c] * (int(local[c].max()) + 1)
        return cls.of(assignment, labels, short)


def cluster_classes(
    features: Float[np.ndarray, "samples dim"],
    labels: Int[np.ndarray, " labels"],
    clusters_per_class: int,
    *,
    method: str = "kmeans",
    seed: int = 0,
    mesh: Mesh | None = None,
) -> Clusters:
    """Divide each class into ``clusters_per_class`` clusters of near features (paper, §IV-A).

    The methods are

    * ``kmeans``: scikit-learn's, k-means++ start, one start (``n_init="auto"``);
    * ``compiled``: the same algorithm compiled, in a half to a ninth of the processor time (128 to
      4096 dimensions) for an inertia within 0.1 % (``experiments/results/clustering.json``);
    * ``minibatch``: scikit-learn's in batches, for features that lie on disk; its inertia is some
      5 % higher;
    * ``balanced``: sizes within a class differ by one at most; see ``balanced_kmeans``.

    Guarantees: no cluster is empty or mixes classes. The same inputs and seed give the same
    clusters on one machine with the same versions, whatever ``OMP_NUM_THREADS`` and its like say
    and however many threads call at once; on another processor a sample that lies between two
    centroids may go to the other (see ``one_thread``). ``compiled`` is divided among the cores that
    the process may use, by JAX, and its clusters are the same for the same number of them. A
    cluster left empty (equal features) takes the sample that lies farthest from its centroid out
    of the largest cluster.

    Args:
        features: float ``(N, D)``, finite. May be a ``numpy.memmap``: ``minibatch`` has no more
            than a batch of it in memory (thousands of rows at a time where a cluster came out
            empty), the others a class or all classes.
        labels: integer ``(N,)``. A class without samples gets no clusters.
        clusters_per_class: ``K``, at least 1. A class of fewer samples is divided into single
            samples and named in ``short_classes``.
        method: see above.
        seed: of the random starts. Each class has its own stream.
        mesh: its devices share the classes (``compiled``), and where it spans processes, they do
            (every method): each makes the same call, does its share and is told the rest.

    Raises:
        InputError: features that are not finite, lengths that differ, no samples, ``K`` below 1,
            or an unknown method.
    """
    seed = check_seed("seed", seed)
    if method not in get_args(ClusterMethod):
        raise unknown_name("clustering method", method, get_args(ClusterMethod))
    check_at_least("clusters_per_class", clusters_per_class, 1)
    if len(features) != len(labels) or len(labels) == 0:
        raise InputError(
            f"{len(features)} features and {len(labels)} labels",
            "one row of features per label, at least one",
            "Pass the features and the labels of the same samples",
        )
    bad = sum(
        int(np.count_nonzero(~np.isfinite(features[rows]).all(axis=1))) for rows in chunks(features)
    )
    if bad:
        raise InputError(
            f"Features of {bad} of {len(features)} samples are NaN or infinite",
            "finite features",
            "Check that the model's training did not diverge",
        )
    classes, counts = np.unique(labels, return_counts=True)
    members = {c: np.flatnonzero(labels == c) for c in classes.tolist()}
    divided = [c for c, at in members.items() if len(at) > clusters_per_class]
    if method == "compiled":
        divide = functools.partial(compiled_kmeans, mesh=local_mesh(mesh, "classes"))
    else:
        divide = _each_in_a_thread(method)
    own, processes = turn(mesh)
    dealt = divided[own::processes]
    parts = divide(
        features,
        [members[c] for c in dealt],
        clusters_per_class,
        [int(np.random.SeedSequence([seed, c]).generate_state(1)[0]) for c in dealt],
    )
    found = np.zeros(len(labels), np.int64)
    for c, part in zip(dealt, parts, strict=True):
        found[members[c]] = _fill_empty(features, members[c], part, clusters_per_class)
    if processes > 1:
        found = merged(found)
    local = {c: found[at] if c in divided else np.arange(len(at)) for c, at in members.items()}
    return Clusters.by_class(members, local, classes[counts < clusters_per_class])


_CHUNK = 8192
"""Samples of one cluster whose features are in memory at once."""

Divide = Callable[[np.ndarray, list[np.ndarray], int, list[int]], list[np.ndarray]]
"""Features, rows of each class, ``K``, seed of each class -> cluster 0..K-1 of each sample."""


def _each_in_a_thread(method: str) -> Divide:
    """One class per thread, each of which limits its libraries to itself: see ``one_thread``."""
    one_class = {"kmeans": _kmeans, "balanced": _balanced, "minibatch": minibatch_kmeans}[method]

    def divide(features, members, clusters, seeds):
        with warnings.catch_warnings(), ThreadPoolExecutor() as pool:
            # Fewer distinct points than clusters; the clusters left empty are filled afterwards.
            warnings.filterwarnings("ignore", message="Number of distinct clusters")
            return list(
                pool.map(lambda at, s: one_class(features, at, clusters, s), members, seeds)
            )

    return divide


@one_thread()
def _kmeans(features: np.ndarray, members: np.ndarray, clusters: int, seed: int) -> np.ndarray:
    from sklearn.cluster import KMeans  # a second's import

    model = KMeans(clusters, n_init="auto", random_state=sklearn_state(seed))
    return model.fit_predict(read(features, members))


def _balanced(features: np.ndarray, members: np.ndarray, clusters: int, seed: int) -> np.ndarray:
    return balanced_kmeans(read(features, members), clusters, seed)


def _fill_empty(
    features: np.ndarray, members: np.ndarray, assignment: np.ndarray, clusters: int
) -> np.ndarray:
    """Give every empty cluster the outermost sample of the cluster that is largest by then."""
    assignment = np.array(assignment)
    sizes = np.bincount(assignment, minlength=clusters)
    for empty in np.flatnonzero(sizes == 0):
        largest = int(np.argmax(sizes))
        at = np.flatnonzero(assignment == largest)
        assignment[at[_outermost(features, members[at])]] = empty
        sizes[largest] -= 1
        sizes[empty] = 1
    return assignment


def _outermost(features: np.ndarray, rows: np.ndarray) -> int:
    """Which of some rows lies farthest from their mean; the first of those that do."""
    chunks = [rows[low : low + _CHUNK] for low in range(0, len(rows), _CHUNK)]
    mean = np.sum([features[chunk].sum(axis=0) for chunk in chunks], axis=0) / len(rows)
    away = [np.sum((features[chunk] - mean[None]) ** 2, axis=1) for chunk in chunks]
    return int(np.argmax(np.concatenate(away)))

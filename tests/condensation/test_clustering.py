import os
import subprocess
import sys

import jax
import numpy as np
import pytest

from dcmu_jax.condensation import balanced, cluster_classes, clustering, minibatch
from dcmu_jax.errors import InputError
from dcmu_jax.fast import lloyd

METHODS = ("kmeans", "compiled", "minibatch", "balanced")


def blobs(counts=(60, 45, 80), dim=6, seed=0):
    """Three classes, interleaved, each of a few overlapping blobs."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(len(counts)), counts))
    centres = rng.normal(size=(len(counts), 5, dim)) * 3
    features = centres[labels, rng.integers(5, size=len(labels))]
    features = features + rng.normal(size=features.shape)
    return features.astype(np.float32), labels.astype(np.int32)


def inertia(features, assignment):
    total = 0.0
    for j in np.unique(assignment):
        members = features[assignment == j].astype(np.float64)
        total += np.sum((members - members.mean(axis=0)[None]) ** 2)
    return total


@pytest.mark.parametrize("method", METHODS)
def test_pure_full_and_deterministic(method):
    features, labels = blobs()
    clusters = cluster_classes(features, labels, 7, method=method, seed=3)
    assert clusters.assignment.dtype == clusters.sizes.dtype == clusters.labels.dtype == np.int32
    assert clusters.labels.tolist() == sorted([0, 1, 2] * 7)
    np.testing.assert_array_equal(clusters.labels[clusters.assignment], labels)
    np.testing.assert_array_equal(np.bincount(clusters.assignment), clusters.sizes)
    assert clusters.sizes.min() >= 1 and clusters.short_classes == ()
    again = cluster_classes(features, labels, 7, method=method, seed=3)
    np.testing.assert_array_equal(clusters.assignment, again.assignment)
    other = cluster_classes(features, labels, 7, method=method, seed=4)
    assert (clusters.assignment != other.assignment).any()


@pytest.mark.parametrize("method", METHODS)
def test_classes_do_not_influence_each_other(method):
    features, labels = blobs()
    whole = cluster_classes(features, labels, 5, method=method, seed=0)
    # Class 1 keeps its number of samples, so that padding stays the same too.
    features[labels == 1] += 1.0 + np.random.default_rng(1).normal(size=(45, 6)).astype(np.float32)
    changed = cluster_classes(features, labels, 5, method=method, seed=0)
    rest = labels != 1
    np.testing.assert_array_equal(whole.assignment[rest], changed.assignment[rest])


def test_compiled_is_as_good_as_scikit_learn():
    features, labels = blobs((300, 260), dim=12)
    ours, theirs = (
        np.mean(
            [
                inertia(
                    features, cluster_classes(features, labels, 20, method=m, seed=s).assignment
                )
                for s in range(4)
            ]
        )
        for m in ("compiled", "kmeans")
    )
    assert ours < 1.02 * theirs
    scrambled = np.random.default_rng(0).permutation(len(labels)) % 40
    assert ours < 0.7 * inertia(features, scrambled)


def plain_starts(points, uniform):
    """k-means++ starts of the same random numbers, in float64 and by differences."""
    away = ((points[:, None] - points[None]) ** 2).sum(axis=2)
    chosen = [int(uniform[0, 0] * len(points))]
    for row in uniform[1:]:
        nearest = away[:, chosen].min(axis=1)
        total = np.cumsum(nearest)
        candidates = np.searchsorted(total, row * total[-1], side="right")
        left = [np.minimum(nearest, away[:, c]).sum() for c in candidates]
        chosen.append(int(candidates[np.argmin(left)]))
    return np.array(chosen)


def plain_lloyd(points, centroids):
    """Lloyd's iterations by the book, until nothing moves."""
    last = None
    while True:
        away = ((points[:, None] - centroids[None]) ** 2).sum(axis=2)
        assignment = away.argmin(axis=1)
        if last is not None and (assignment == last).all():
            return assignment
        last = assignment
        centroids = centroids.copy()
        for j in np.unique(assignment):
            centroids[j] = points[assignment == j].mean(axis=0)


@pytest.mark.parametrize(
    ("table", "scatter", "padding"),  # adding one by one as on CPU, or as elsewhere
    [(True, True, 7), (True, False, 0), (False, True, 0)],
)
def test_compiled_is_the_plain_algorithm(table, scatter, padding, monkeypatch):
    monkeypatch.setattr(lloyd, "TOLERANCE", 0.0)
    features, _ = blobs((90,), dim=5, seed=padding)
    n, clusters, key = len(features), 11, jax.random.key(4)
    points = features.astype(np.float64) - features.mean(axis=0, dtype=np.float64)[None]
    uniform = np.asarray(jax.random.uniform(key, (clusters, 4)), np.float64)
    expected = plain_lloyd(points, points[plain_starts(points, uniform)])
    padded = np.pad(features, ((0, padding), (0, 0)))
    call = jax.jit(lloyd._one_class, static_argnums=(3, 4, 5))
    found = np.asarray(call(padded, np.int32(n), key, clusters, table, scatter))
    np.testing.assert_array_equal(found[:n], expected)
    assert (found[n:] == clusters).all()


def test_all_classes_in_one_call_are_the_classes_one_by_one(monkeypatch):
    features, labels = blobs()
    threads = cluster_classes(features, labels, 7, method="compiled")
    monkeypatch.setattr(lloyd, "IN_FLIGHT", 2 * 4 * 80**2)  # two classes at a time, then one
    monkeypatch.setattr(lloyd, "on_cpu", lambda: False)
    at_once = cluster_classes(features, labels, 7, method="compiled")
    np.testing.assert_array_equal(at_once.assignment, threads.assignment)


def test_minibatch_reads_batches_from_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(minibatch, "BATCH", 16)
    features, labels = blobs()
    on_disk = np.memmap(tmp_path / "features", np.float32, "w+", shape=features.shape)
    on_disk[:] = features
    read, most = minibatch.read, []

    def watched(source, rows):
        assert source is on_disk
        most.append(len(rows))
        return read(source, rows)

    in_memory = cluster_classes(features, labels, 5, method="minibatch", seed=2)
    monkeypatch.setattr(minibatch, "read", watched)
    monkeypatch.setattr(clustering, "read", None)  # no whole class
    found = cluster_classes(on_disk, labels, 5, method="minibatch", seed=2)
    np.testing.assert_array_equal(found.assignment, in_memory.assignment)
    assert max(most) < 2 * 16
    by_chance = labels * 5 + np.random.default_rng(0).integers(5, size=len(labels))
    assert inertia(features, found.assignment) < 0.3 * inertia(features, by_chance)


@pytest.mark.parametrize("leaf", [256, 24])
@pytest.mark.parametrize("k", [1, 7, 44])
def test_balanced_sizes(k, leaf, monkeypatch):
    monkeypatch.setattr(balanced, "LEAF", leaf)
    features, labels = blobs()
    clusters = cluster_classes(features, labels, k, method="balanced")
    for c in range(3):
        sizes = clusters.sizes[clusters.labels == c]
        assert len(sizes) == k and sizes.max() - sizes.min() <= 1
    by_chance = np.empty_like(clusters.assignment)
    for c in range(3):
        at = np.flatnonzero(labels == c)
        by_chance[at] = c * k + np.random.default_rng(0).permutation(len(at)) % k
    if k > 1:
        assert inertia(features, clusters.assignment) < 0.6 * inertia(features, by_chance)


@pytest.mark.parametrize("method", METHODS)
def test_short_class_is_divided_into_single_samples(method):
    features, labels = blobs((4, 30, 12))
    clusters = cluster_classes(features, labels, 12, method=method)
    assert clusters.short_classes == (0,)
    assert clusters.labels.tolist() == [0] * 4 + [1] * 12 + [2] * 12
    assert (clusters.sizes[clusters.labels != 1] == 1).all()


@pytest.mark.parametrize("method", METHODS)
def test_no_cluster_is_empty_when_features_are_equal(method):
    features = np.zeros((40, 3), np.float32)
    features[:3] = 1.0
    clusters = cluster_classes(features, np.zeros(40, np.int32), 9, method=method)
    assert len(clusters.sizes) == 9 and clusters.sizes.min() >= 1


def test_a_class_may_be_absent():
    features, labels = blobs()
    clusters = cluster_classes(features[labels != 1], labels[labels != 1], 3)
    assert clusters.labels.tolist() == [0, 0, 0, 2, 2, 2]


def test_bad_input():
    features, labels = blobs()
    for bad in (np.nan, np.inf):
        broken = features.copy()
        broken[5, 2] = bad
        with pytest.raises(InputError, match="1 of 185 samples are NaN"):
            cluster_classes(broken, labels, 3)
    with pytest.raises(InputError, match="clusters_per_class = 0"):
        cluster_classes(features, labels, 0)
    with pytest.raises(InputError, match="184 labels"):
        cluster_classes(features, labels[:-1], 3)
    with pytest.raises(InputError, match="Did you mean 'kmeans'"):
        cluster_classes(features, labels, 3, method="kmean")


def test_the_outermost_sample_is_found_in_chunks(monkeypatch):
    features, _ = blobs()
    rows = np.arange(5, 60)[::-1]
    away = np.sum((features[rows] - features[rows].mean(axis=0)[None]) ** 2, axis=1)
    for chunk in (8192, 7):
        monkeypatch.setattr(clustering, "_CHUNK", chunk)
        assert clustering._outermost(features, rows) == np.argmax(away)


_FIVE_TIMES = """
import hashlib, numpy as np
from dcmu_jax.condensation.clustering import cluster_classes
rng = np.random.default_rng(0)
far = 1e3 * rng.choice([-1, 1], size=(5000, 1))
features = (rng.normal(size=(5000, 4)) + far).astype(np.float32)
for method in ["kmeans", "minibatch", "balanced"]:
    for _ in range(5 if method == "kmeans" else 1):
        found = cluster_classes(features, np.arange(5000) % 2, 20, method=method).assignment
        print(method, hashlib.sha256(found.tobytes()).hexdigest())
"""


def test_the_number_of_threads_changes_no_cluster():
    """Two groups far apart: the sums are large, and their rounding moves samples between clusters.

    scikit-learn gives a thread 256 samples at a time, so that a class of 2500 occupies eight.
    """
    running = [
        subprocess.Popen(
            [sys.executable, "-c", _FIVE_TIMES],
            env={**os.environ, "OMP_NUM_THREADS": threads},
            stdout=subprocess.PIPE,
            text=True,
        )
        for threads in ("1", "4", "8")
    ]
    said = [process.communicate()[0].splitlines() for process in running]
    assert [len(lines) for lines in said] == [7, 7, 7]
    assert len(set().union(*said)) == 3, said  # one clustering of each method

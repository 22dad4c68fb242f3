import numpy as np
import pytest

from dcmu_jax.condensation import balanced, cluster_classes
from dcmu_jax.errors import InputError

METHODS = ("kmeans", "compiled", "balanced")


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
    assert ours < 1.03 * theirs
    scrambled = np.random.default_rng(0).permutation(len(labels)) % 40
    assert ours < 0.7 * inertia(features, scrambled)


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

"""Coresets: plain twins of the greedy choices, and what each method chooses."""

import numpy as np
import pytest
from toys import Plain, toy_splits

from dcmu_jax.condensation.clustering import cluster_classes
from dcmu_jax.condensation.coresets import (
    ClusterMean,
    Herding,
    KCenter,
    KMedoids,
    RandomCoreset,
    herd,
    k_centers,
)
from dcmu_jax.data.dataset import channel_statistics
from dcmu_jax.training.classifier import Classifier

TRAIN = toy_splits(per_class=15).train
FEATURES = np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32)


def plain_k_centers(features, count):
    x = features.astype(np.float64)
    mean = x.mean(axis=0)
    chosen = [min(range(len(x)), key=lambda i: np.linalg.norm(x[i] - mean))]
    while len(chosen) < count:
        rest = [i for i in range(len(x)) if i not in chosen]
        chosen.append(max(rest, key=lambda i: min(np.linalg.norm(x[i] - x[j]) for j in chosen)))
    return chosen


def plain_herding(features, count):
    x = features.astype(np.float64)
    mean, chosen = x.mean(axis=0), []
    while len(chosen) < count:
        rest = [i for i in range(len(x)) if i not in chosen]
        chosen.append(min(rest, key=lambda i: np.linalg.norm(mean - x[[*chosen, i]].mean(axis=0))))
    return chosen


@pytest.mark.parametrize("count", [1, 7, 40])
def test_greedy_choices_are_those_of_the_plain_twins(count):
    assert k_centers(FEATURES, count).tolist() == plain_k_centers(FEATURES, count)
    assert herd(FEATURES + 3, count).tolist() == plain_herding(FEATURES + 3, count)


def test_equal_samples_are_not_chosen_twice():
    same = np.ones((6, 4), np.float32)
    for choose in (k_centers, herd):
        assert sorted(choose(same, 6).tolist()) == list(range(6))


class UpperHalf(Classifier):
    """A classifier whose features are the upper half of an image."""

    def features(self, pixels):
        return pixels[:, :4].reshape(len(pixels), -1).astype(np.float64) * 2


UPPER_HALF = UpperHalf(Plain(), {"params": {}}, channel_statistics(TRAIN.images), (8, 8, 1))


def rows_of(condensed, dataset):
    """The positions of the samples that were chosen."""
    found = [np.flatnonzero((dataset.images == x).all((1, 2, 3))) for x in condensed.images]
    assert all(len(at) == 1 for at in found)
    return np.concatenate(found)


@pytest.mark.parametrize("method", [KCenter(), Herding()])
def test_every_class_chooses_for_itself_in_the_features_it_is_given(method):
    choose = {KCenter: plain_k_centers, Herding: plain_herding}[type(method)]
    for classifier in (None, UPPER_HALF):
        rows = rows_of(method(TRAIN, 4, classifier=classifier), TRAIN).reshape(3, 4)
        pixels = TRAIN.images if classifier is None else TRAIN.images[:, :4]
        for c in range(3):
            at = np.flatnonzero(TRAIN.labels == c)
            expected = choose(pixels[at].reshape(len(at), -1).astype(float), 4)
            assert rows[c].tolist() == at[expected].tolist()


def test_medoids_are_nearest_to_centroids_and_means_are_means():
    pixels = TRAIN.images.reshape(len(TRAIN), -1) / np.float32(255)
    clusters = cluster_classes(pixels, TRAIN.labels, 3, method="balanced", seed=2)
    medoids = rows_of(KMedoids(method="balanced")(TRAIN, 3, seed=2), TRAIN)
    means = ClusterMean(method="balanced")(TRAIN, 3, seed=2)
    for j in range(9):
        members = np.flatnonzero(clusters.assignment == j)
        centroid = pixels[members].mean(axis=0)
        nearest = min(members, key=lambda i: np.linalg.norm(pixels[i] - centroid))
        assert medoids[j] == nearest
        mean = TRAIN.images[members].astype(np.float64).mean(axis=0)
        np.testing.assert_allclose(means.images[j], mean, rtol=1e-6)
    assert means.labels.tolist() == clusters.labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_random_draws_without_replacement():
    rows = rows_of(RandomCoreset()(TRAIN, 12, seed=1), TRAIN)
    assert len(set(rows.tolist())) == 36
    few = rows_of(RandomCoreset()(TRAIN, 3, seed=1), TRAIN).reshape(3, 3)
    assert few.tolist() == rows.reshape(3, 12)[:, :3].tolist()

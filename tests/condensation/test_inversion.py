import dataclasses

import numpy as np
import pytest
from banks import FEW

from dcmu_jax.condensation import build_bank, cluster_classes, recondense
from dcmu_jax.condensation.inversion import (
    InversionConfig,
    invert_clusters,
    mean_pairwise_distance,
)
from dcmu_jax.errors import InputError
from dcmu_jax.training.examples import Examples
from dcmu_jax.training.keys import named_key
from dcmu_jax.training.loop import fit
from dcmu_jax.training.optimizers import Optimizer


@pytest.fixture(scope="module")
def trained(dataset, classifier):
    return fit(
        classifier,
        Examples.of(dataset.images, dataset.labels),
        epochs=150,
        key=named_key(0, "training"),
        optimizer=Optimizer(learning_rate=1e-2),
        batch_size=20,
    ).classifier


@pytest.fixture(scope="module")
def clusters(dataset, trained):
    return cluster_classes(trained.features(dataset.images), dataset.labels, 4)


def invert(dataset, trained, clusters, **settings):
    config = InversionConfig(**{"hidden": 16, "epochs": 150, "batch_size": 6} | settings)
    means = np.stack(
        [dataset.images[clusters.assignment == j].mean(axis=0) for j in range(len(clusters.sizes))]
    )
    return means, invert_clusters(trained, means, clusters.labels, clusters.sizes, config, seed=1)


@pytest.mark.parametrize("network", ["conv", "mlp"])
def test_images_depend_on_their_id_and_belong_to_their_class(dataset, trained, clusters, network):
    means, inverted = invert(dataset, trained, clusters, network=network)
    assert inverted.images.shape == means.shape and inverted.images.dtype == np.float32
    assert inverted.accuracy >= 95
    assert inverted.losses[-1] < inverted.losses[0]
    assert inverted.mean_distance > 0.25 * mean_pairwise_distance(means)
    _, again = invert(dataset, trained, clusters, network=network)
    np.testing.assert_array_equal(again.images, inverted.images)


def test_a_heavy_reconstruction_gives_the_means(dataset, trained, clusters):
    def error(weight):
        means, inverted = invert(dataset, trained, clusters, reconstruction=weight, network="mlp")
        return np.abs(inverted.images - means).mean()

    assert error(1e3) < 0.5 * error(0.0)


def test_the_mean_of_a_cluster_is_all_that_matters():
    """The gradient of the error to every sample is that of the error to their mean."""
    rng = np.random.default_rng(0)
    samples, image = rng.normal(size=(9, 5)), rng.normal(size=5)
    every = np.mean(2 * (image[None] - samples), axis=0)
    np.testing.assert_allclose(every, 2 * (image - samples.mean(axis=0)))


def test_distance_of_pairs():
    x = np.random.default_rng(0).uniform(0, 255, (6, 4, 4, 1)).astype(np.float32)
    flat = x.reshape(6, -1) / 255
    pairs = [np.linalg.norm(flat[i] - flat[j]) for i in range(6) for j in range(i)]
    np.testing.assert_allclose(mean_pairwise_distance(x), np.mean(pairs), rtol=1e-6)
    assert mean_pairwise_distance(x[:1]) == 0


def test_a_bank_by_inversion(dataset, trained):
    config = InversionConfig(hidden=16, epochs=40, batch_size=6)
    bank = build_bank(dataset, trained, clusters_per_class=4, inversion=config)
    lacking = trained.features(bank.images) - np.stack(
        [trained.features(dataset.images[bank.cluster == j]).mean(axis=0) for j in range(12)]
    )
    np.testing.assert_allclose(bank.final_loss, np.sum(lacking**2, axis=1), rtol=1e-3, atol=1e-5)
    new = recondense(bank, dataset, trained, bank.ids[:4], FEW)
    untouched = np.setdiff1d(np.arange(12), bank.cluster[:4])
    np.testing.assert_array_equal(new.images[untouched], bank.images[untouched])
    with pytest.raises(InputError, match="two condensers"):
        build_bank(dataset, trained, clusters_per_class=4, inversion=config, matching=FEW)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 0}, "epochs = 0"),
        ({"reconstruction": -1.0}, "reconstruction = -1.0"),
        ({"learning_rate": 0.0}, "learning_rate = 0.0"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(InputError, match=message):
        dataclasses.replace(InversionConfig(), **settings)

"""The inversion attack: what enters it, what comes out, and the nearest training images."""

import dataclasses

import numpy as np
import pytest
from toys import Plain, examples_of, fresh, toy_splits

from dcmu_jax.audits import inversion
from dcmu_jax.audits.inversion import (
    inversion_attack,
    inversion_without_images,
    known_images,
    nearest_training_image,
)
from dcmu_jax.condensation.inversion import InversionConfig
from dcmu_jax.errors import InputError
from dcmu_jax.training.keys import named_key
from dcmu_jax.training.loop import fit
from dcmu_jax.training.optimizers import Optimizer

CONFIG = InversionConfig(
    network="mlp", hidden=16, epochs=120, warm_start=60, reconstruction=10.0, learning_rate=3e-3
)


@pytest.fixture(scope="module")
def train():
    return toy_splits(per_class=20).train


def trained(train, seed):
    return fit(
        fresh(Plain(), train, seed),
        examples_of(train),
        epochs=40,
        key=named_key(seed, "training"),
        optimizer=Optimizer(learning_rate=1e-2),
        batch_size=20,
    ).classifier


@pytest.fixture(scope="module")
def network(train):
    return trained(train, 0)


@pytest.fixture(scope="module")
def known(train, network):
    return known_images(train, (0, 2), 3, network)


@pytest.fixture(scope="module")
def attack(network, known):
    return inversion_attack(network, known, CONFIG)


@pytest.fixture(scope="module")
def without(network):
    return inversion_without_images(network, (2, 0), 3, CONFIG)


def test_what_is_known_are_means_of_clusters(train, known):
    assert known.labels.tolist() == [0, 0, 0, 2, 2, 2]
    assert known.sizes.sum() == 40 and known.images.shape == (6, 8, 8, 1)
    for label in (0, 2):
        at = known.labels == label
        mean = np.tensordot(known.sizes[at], known.images[at], 1) / 20
        np.testing.assert_allclose(mean, train.images[train.labels == label].mean(0), rtol=1e-4)


def test_images_are_pictures_of_their_class(train, network, attack):
    assert attack.images.dtype == np.float32 and attack.images.shape == (6, 8, 8, 1)
    assert attack.images.min() >= 0 and attack.images.max() <= 255
    assert attack.in_class == attack.recognised_by(network) == 100
    assert attack.recognised_by(trained(train, 1)) == 100
    wrong = dataclasses.replace(attack, labels=2 - attack.labels)
    assert wrong.recognised_by(network) == 0
    part = attack.of_classes((2,))
    np.testing.assert_array_equal(part.images, attack.images[3:])
    assert part.labels.tolist() == [2, 2, 2] and part.hits.shape == (3,)


def test_the_reconstruction_draws_them_near(train, known, attack, without):
    assert without.labels.tolist() == attack.labels.tolist()
    assert without.in_class == 100

    def error(one):
        return np.sqrt(np.mean((one.images - known.images) ** 2))

    assert error(attack) < 0.5 * error(without)
    near, far = (
        nearest_training_image(one.images, one.labels, train).distances.mean()
        for one in (attack, without)
    )
    assert near < far


def test_without_images_only_the_network_decides(network, known, without):
    """Other images at the same settings change nothing where lambda is 0."""
    alone = dataclasses.replace(CONFIG, reconstruction=0.0)
    even = dataclasses.replace(known, sizes=np.ones(6, np.int32))
    np.testing.assert_array_equal(inversion_attack(network, even, alone).images, without.images)


def test_same_seed_same_images(network, known, attack):
    np.testing.assert_array_equal(inversion_attack(network, known, CONFIG).images, attack.images)
    other = inversion_attack(network, known, CONFIG, seed=1)
    assert not np.array_equal(other.images, attack.images)


def test_the_nearest_is_that_of_all_pairs(train, monkeypatch):
    monkeypatch.setattr(inversion, "_BLOCK", 7)
    rng = np.random.default_rng(0)
    images = rng.uniform(0, 255, (25, 8, 8, 1)).astype(np.float32)
    labels = rng.integers(0, 3, 25)
    found = nearest_training_image(images, labels, train)
    pairs = images[:, None].astype(np.float64) - train.images[None]
    apart = np.sqrt(np.mean(pairs**2, axis=(2, 3, 4)))
    apart[labels[:, None] != train.labels[None]] = np.inf
    np.testing.assert_array_equal(found.positions, apart.argmin(axis=1))
    np.testing.assert_allclose(found.distances, apart.min(axis=1), rtol=1e-12)


def test_an_image_of_the_set_is_its_own_nearest(train):
    found = nearest_training_image(train.images, train.labels, train)
    assert (found.distances == 0).all()
    brighter = train.images[:5].astype(np.float32) + 3
    found = nearest_training_image(brighter, train.labels[:5], train)
    np.testing.assert_array_equal(train.images[found.positions], train.images[:5])
    np.testing.assert_allclose(found.distances, 3)


def test_refusals(train, network, attack):
    for classes in ((0, 7), ()):
        with pytest.raises(InputError, match="An inversion of 3 images of each of the classes"):
            known_images(train, classes, 3, network)
    with pytest.raises(InputError, match="21 images of each"):
        known_images(train, (0,), 21, network)
    with pytest.raises(InputError, match="count = 0"):
        inversion_without_images(network, (0,), 0)
    for classes in ((), (3,), (-1, 0)):
        with pytest.raises(InputError, match="An inversion of the classes"):
            inversion_without_images(network, classes, 1)
    with pytest.raises(InputError, match=r"No image of the classes \[1\]"):
        attack.of_classes((1,))
    kept = train.take(train.labels != 2)
    with pytest.raises(InputError, match=r"Images of the classes \[2\]"):
        nearest_training_image(attack.images, attack.labels, kept)

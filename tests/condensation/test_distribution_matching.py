"""Distribution matching: the loss and a step against plain loops, descent, batches, settings."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import fresh, repeated, toy_splits

from dcmu_jax.condensation import distribution_matching
from dcmu_jax.condensation.condenser import classes_to_condense
from dcmu_jax.condensation.coresets import RandomCoreset
from dcmu_jax.condensation.distribution_matching import (
    DistributionMatching,
    class_means,
    mean_distance,
)
from dcmu_jax.condensation.siamese import SiameseAugmentation
from dcmu_jax.condensation.synthesis import RealImages, check_start
from dcmu_jax.errors import InputError
from dcmu_jax.networks.partition import apply_features, initialise
from dcmu_jax.training.keys import named_key

TRAIN = toy_splits(per_class=10).train
UNEVEN = TRAIN.take(np.delete(np.arange(len(TRAIN)), np.flatnonzero(TRAIN.labels == 0)[:4]))
PLAIN = {"iterations": 4, "real_batch": 100, "augmentation": None}


class Part(nn.Module):
    width: int

    @nn.compact
    def __call__(self, x):
        return nn.tanh(nn.Dense(self.width)(x.reshape(x.shape[0], -1)))


class Net(nn.Module):
    def setup(self):
        self.beginning, self.intermediate, self.final = Part(12), Part(7), nn.Dense(3)


CLASSIFIER = fresh(Net(), TRAIN)
means_of = jax.jit(class_means, static_argnums=(0, 1))
loss_of = jax.jit(mean_distance, static_argnames=("model", "augmentation"))
features_of = jax.jit(apply_features, static_argnums=0)
change = jax.jit(SiameseAugmentation.__call__, static_argnums=0)
draw = jax.jit(RealImages.draw, static_argnums=2)


@pytest.fixture
def two_at_a_time(monkeypatch):
    """Iterations in blocks of two: several blocks even in a short test, and one program."""
    monkeypatch.setattr(distribution_matching, "BLOCK", 2)


def _condense(seed=0, **settings):
    method = DistributionMatching(**{**PLAIN, **settings})
    return method(TRAIN, 2, classifier=CLASSIFIER, seed=seed)


def test_class_means_and_loss_are_those_of_a_loop_over_classes():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3, 4, 8, 8, 1)).astype(np.float32)
    targets = rng.normal(size=(3, 7)).astype(np.float32)
    weights = np.float32([[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0]])
    variables, key = CLASSIFIER.variables, jax.random.key(1)
    augmentation = SiameseAugmentation(strategies=("scale",))
    means = means_of(Net(), augmentation, variables, x, weights, key)
    loss = loss_of(x, targets, variables, key, model=Net(), augmentation=augmentation)
    total = 0.0
    for c in range(3):
        features = np.asarray(features_of(Net(), variables, change(augmentation, x[c], key)))
        np.testing.assert_allclose(means[c], features[weights[c] > 0].mean(axis=0), rtol=1e-4)
        total += float(np.sum((features.mean(axis=0) - targets[c]) ** 2))
    np.testing.assert_allclose(loss, total, rtol=1e-5)


def test_iterations_are_steps_of_momentum_in_fresh_networks(two_at_a_time):
    # The real batch holds every sample, so that only networks are random.
    ours = _condense(learning_rate=0.7, seed=5)
    normalisation, key = CLASSIFIER.normalisation, named_key(5, "distribution matching")
    x = normalisation.apply(RandomCoreset()(TRAIN, 2, seed=5).images).reshape(3, 2, 8, 8, 1)
    real = [normalisation.apply(TRAIN.images[TRAIN.labels == c]) for c in range(3)]
    velocity = jnp.zeros_like(x)

    def loss(x, params):
        total = 0.0
        for c in range(3):
            means = []
            for y in (x[c], real[c]):
                y = y.reshape(y.shape[0], -1)
                for part in ("beginning", "intermediate"):
                    dense = params[part]["Dense_0"]
                    y = jnp.tanh(y @ dense["kernel"] + dense["bias"][None])
                means.append(y.mean(0))
            total += jnp.sum((means[0] - means[1]) ** 2)
        return total

    gradient = jax.jit(jax.grad(loss))
    for number in range(4):
        network_key = jax.random.split(jax.random.fold_in(key, number), 3)[0]
        variables = initialise(Net(), network_key, (8, 8, 1))["params"]
        velocity = 0.5 * velocity + gradient(x, variables)
        x = x - 0.7 * velocity
    expected = normalisation.invert(x).reshape(6, 8, 8, 1)
    np.testing.assert_allclose(ours.images, expected, rtol=1e-4, atol=1e-2)


def test_mean_features_come_nearer_in_networks_not_seen(two_at_a_time):
    start = RandomCoreset()(TRAIN, 2, seed=0)
    result = _condense(iterations=60, learning_rate=0.5)
    away = []
    for condensed in (start, result):
        total = 0.0
        for seed in range(5):
            network = fresh(Net(), TRAIN, 100 + seed)
            for c in range(3):
                real = network.features(TRAIN.images[TRAIN.labels == c]).mean(axis=0)
                ours = network.features(condensed.images[condensed.labels == c]).mean(axis=0)
                total += np.sum((real - ours) ** 2)
        away.append(total)
    assert away[1] < 0.5 * away[0]


def test_the_same_by_seed(two_at_a_time):
    first, again, other = (_condense(seed=s, start="noise").images for s in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)


def test_batches_of_classes_of_unequal_size():
    classes = classes_to_condense(UNEVEN, 2)
    reals = RealImages.of(UNEVEN, classes, CLASSIFIER.normalisation)
    sizes = np.bincount(UNEVEN.labels)
    assert len(set(sizes.tolist())) > 1
    inputs = np.asarray(CLASSIFIER.normalisation.apply(UNEVEN.images))
    seen = [set(), set(), set()]
    for number in range(20):
        x, weights = draw(reals, jax.random.key(number), 5)
        assert x.shape == (3, 5, 8, 8, 1)
        np.testing.assert_array_equal(weights.sum(1), np.minimum(sizes, 5))
        for c in range(3):
            chosen = [
                int(np.abs(inputs - image[None]).max((1, 2, 3)).argmin())
                for image, weight in zip(np.asarray(x[c]), weights[c], strict=True)
                if weight
            ]
            assert len(set(chosen)) == len(chosen) and (UNEVEN.labels[chosen] == c).all()
            seen[c] |= set(chosen)
    assert [len(s) for s in seen] == sizes.tolist()
    more = jax.eval_shape(lambda key: reals.draw(key, 10_000), jax.random.key(0))[0]
    assert more.shape[1] == sizes.max()


def test_rate_grows_with_many_images(monkeypatch):
    rates = {}
    for count in (2, 100):
        many = repeated(TRAIN, np.arange(count * 3 * 2) % len(TRAIN))

        def advance(*args, count=count):
            rates[count] = float(args[7][0])
            return args[5]

        monkeypatch.setattr(distribution_matching, "_advance", advance)
        DistributionMatching(iterations=1)(many, count, classifier=CLASSIFIER)
    assert rates == {2: 1.0, 100: 10.0}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"iterations": -1}, r"iterations = -1"),
        ({"learning_rate": 0.0}, r"learning_rate = 0"),
        ({"real_batch": 0}, r"real_batch = 0"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(InputError, match=message):
        DistributionMatching(**settings)


def test_an_unknown_start():
    with pytest.raises(InputError, match=r"start of condensed images 'nois'.*you mean 'noise'"):
        check_start("nois")

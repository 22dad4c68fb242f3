"""Gradient matching: the distance and a step against plain loops, descent, loops, settings."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import fresh, toy_splits

from dcmu_jax.condensation import gradient_matching
from dcmu_jax.condensation.gradient_matching import (
    GradientMatching,
    class_gradient,
    gradient_distance,
    published_loops,
)
from dcmu_jax.condensation.siamese import SiameseAugmentation, SiameseTraining
from dcmu_jax.condensation.synthesis import starting_inputs
from dcmu_jax.errors import InputError
from dcmu_jax.networks.partition import initialise
from dcmu_jax.training.examples import Examples
from dcmu_jax.training.keys import named_key
from dcmu_jax.training.loop import Fitted, fit

TRAIN = toy_splits(per_class=10).train
GAP = TRAIN.take(TRAIN.labels != 1)
CLASSES = np.array([0, 2], np.int32)


class Part(nn.Module):
    width: int

    @nn.compact
    def __call__(self, x):
        return nn.tanh(nn.Dense(self.width)(x.reshape(x.shape[0], -1)))


class Net(nn.Module):
    def setup(self):
        self.beginning, self.intermediate, self.final = Part(12), Part(7), nn.Dense(3)


CLASSIFIER = fresh(Net(), TRAIN)
gradient_of = jax.jit(class_gradient, static_argnums=0)
distance_of = jax.jit(gradient_distance)


def plain_distance(ours, theirs):
    """Unit by unit, with kernels as (outputs, everything else)."""
    total = 0.0
    leaves = zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True)
    for a, b in ((np.asarray(a, np.float64), np.asarray(b, np.float64)) for a, b in leaves):
        if a.ndim == 1:
            continue
        for unit in range(a.shape[-1]):
            u, v = a[..., unit].ravel(), b[..., unit].ravel()
            total += 1 - u @ v / (np.linalg.norm(u) * np.linalg.norm(v) + 1e-6)
    return total


def plain_gradient(variables, x, label):
    def loss(params):
        y = x.reshape(x.shape[0], -1)
        for part in ("beginning", "intermediate"):
            dense = params[part]["Dense_0"]
            y = jnp.tanh(y @ dense["kernel"] + dense["bias"][None])
        logits = y @ params["final"]["kernel"] + params["final"]["bias"][None]
        return -jax.nn.log_softmax(logits)[:, label].mean()

    return jax.grad(loss)(variables["params"])


def test_distance_is_one_minus_the_cosine_of_every_unit():
    rng = np.random.default_rng(0)
    ours, theirs = (
        {"conv": {"kernel": rng.normal(size=(3, 3, 2, 4)), "bias": rng.normal(size=4)}}
        | {"dense": {"kernel": rng.normal(size=(6, 5)), "bias": rng.normal(size=5)}}
        for _ in range(2)
    )
    ours, theirs = (jax.tree.map(jnp.float32, tree) for tree in (ours, theirs))
    np.testing.assert_allclose(distance_of(ours, theirs), plain_distance(ours, theirs), rtol=1e-5)
    np.testing.assert_allclose(distance_of(ours, ours), 0, atol=1e-4)
    opposite = jax.tree.map(jnp.negative, ours)
    np.testing.assert_allclose(distance_of(ours, opposite), 2 * 9, rtol=1e-5)
    none = jax.tree.map(jnp.zeros_like, ours)
    np.testing.assert_allclose(distance_of(none, theirs), 9, rtol=1e-6)
    # At no gradient at all the derivative is 0, not NaN.
    slope = jax.jit(jax.grad(gradient_distance))(none, theirs)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slope))


def test_gradient_of_a_class_leaves_out_what_weighs_nothing():
    x = CLASSIFIER.normalisation.apply(TRAIN.images[:5])
    weights = np.float32([1, 1, 0, 1, 0])
    ours = gradient_of(Net(), CLASSIFIER.variables, x, np.int32(1), weights)
    theirs = jax.jit(plain_gradient)(CLASSIFIER.variables, x[np.array([0, 1, 3])], 1)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), ours, theirs)


def test_outer_steps_are_steps_of_momentum_and_training_between():
    # The real batch holds every sample, so that only the network and its training are random.
    method = GradientMatching(
        iterations=1, outer_steps=2, inner_epochs=3, real_batch=100, learning_rate=0.3
    )
    ours = method(GAP, 1, classifier=CLASSIFIER, seed=4)
    normalisation = CLASSIFIER.normalisation
    x = starting_inputs("noise", GAP, CLASSES, 1, normalisation, 4)
    start_key, key = jax.random.split(jax.random.fold_in(named_key(4, "gradient matching"), 0))
    network = fresh(Net(), TRAIN)
    network.variables.update(initialise(Net(), start_key, (8, 8, 1)))
    velocity = jnp.zeros_like(x)

    def loss(x, variables):
        total = 0.0
        for i, c in enumerate(CLASSES):
            real = normalisation.apply(GAP.images[GAP.labels == c])
            theirs = plain_gradient(variables, real, c)
            total += gradient_distance(plain_gradient(variables, x[i], c), theirs)
        return total

    gradient = jax.jit(jax.grad(loss))
    for step in range(2):
        velocity = 0.5 * velocity + gradient(x, network.variables)
        x = x - 0.3 * velocity
        if step == 0:
            network = fit(
                network,
                Examples.of(normalisation.invert(x).reshape(2, 8, 8, 1), CLASSES),
                epochs=3,
                key=jax.random.split(jax.random.fold_in(key, 0))[1],
                optimizer=method.network_optimizer,
            ).classifier
    np.testing.assert_allclose(
        ours.images, normalisation.invert(x).reshape(2, 8, 8, 1), rtol=1e-3, atol=0.1
    )
    assert ours.labels.tolist() == CLASSES.tolist()


def test_gradients_come_nearer_in_networks_not_seen():
    networks, away = [fresh(Net(), GAP, 100 + seed) for seed in range(4)], []
    for iterations in (0, 100):
        method = GradientMatching(iterations=iterations, real_batch=100, learning_rate=0.02)
        result = method(GAP, 1, classifier=CLASSIFIER)
        total = 0.0
        for network in networks:
            for c in CLASSES:
                ours, theirs = (
                    gradient_of(Net(), network.variables, CLASSIFIER.normalisation.apply(x), c)
                    for x in (result.images[result.labels == c], GAP.images[GAP.labels == c])
                )
                total += float(distance_of(ours, theirs))
        away.append(total)
    assert away[1] < 0.5 * away[0]


def test_networks_train_by_plain_sgd_and_images_move_with_momentum():
    method = GradientMatching()
    rule = method.network_optimizer
    assert (rule.name, rule.learning_rate, rule.momentum) == ("sgd", 0.01, 0.0)
    assert not rule.nesterov and not rule.l1
    assert (method.learning_rate, method.momentum) == (0.1, 0.5)
    weights = jnp.array([1.0, -2.0])
    sgd = rule.build(1)
    state = sgd.init(weights)
    for slope in (3.0, 5.0):  # the second step owes nothing to the first
        updates, state = sgd.update(jnp.array([slope, 0.0]), state, weights)
        np.testing.assert_allclose(np.asarray(updates), [-0.01 * slope, 0.0])


def test_the_same_by_seed():
    method = GradientMatching(iterations=3, real_batch=100)
    first, again, other = (method(GAP, 1, classifier=CLASSIFIER, seed=s).images for s in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)


def test_siamese_changes_the_images_and_the_training_between(monkeypatch):
    seen = []

    def untrained(network, examples, **options):
        seen.append(options)
        return Fitted(network, f"state {len(seen)}", (), (), 0.0, 0.0, None)

    monkeypatch.setattr(gradient_matching, "fit", untrained)
    settings = {"iterations": 1, "outer_steps": 3, "inner_epochs": 1, "real_batch": 100}
    siamese = SiameseAugmentation(strategies=("flip", "crop"))
    with_it, without = (
        GradientMatching(**settings, augmentation=a)(GAP, 1, classifier=CLASSIFIER)
        for a in (siamese, None)
    )
    assert not np.allclose(with_it.images, without.images)
    expected = SiameseTraining.of(siamese, CLASSIFIER.normalisation)
    assert [options["loss"].augmentation for options in seen] == [expected, expected, None, None]
    # The optimizer goes on from one training to the next, and starts anew with a new network.
    assert [options["parts"].opt_state for options in seen] == [None, "state 1", None, "state 3"]


def test_loops_as_published():
    assert [published_loops(n) for n in (1, 10, 50)] == [(1, 1), (10, 50), (50, 10)]
    assert [published_loops(n) for n in (5, 29, 450)] == [(1, 1), (20, 25), (50, 10)]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"outer_steps": 0}, r"outer_steps = 0"),
        ({"inner_epochs": -1}, r"inner_epochs = -1"),
        ({"learning_rate": -0.1}, r"learning_rate = -0\.1"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(InputError, match=message):
        GradientMatching(**settings)

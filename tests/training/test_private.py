"""Private gradients: clipping against a loop, the noise, the draws, and what is refused."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from toys import Noisy, Plain, assert_close, examples_of, fresh, toy_splits

from dcmu_jax.errors import InputError
from dcmu_jax.networks.partition import apply_parts
from dcmu_jax.training.arguments import Objective, Placement
from dcmu_jax.training.examples import cross_entropy
from dcmu_jax.training.keys import named_key
from dcmu_jax.training.loop import fit
from dcmu_jax.training.optimizers import Optimizer
from dcmu_jax.training.population import fit_population, member, stack
from dcmu_jax.training.private import PrivateGradient

TRAIN = toy_splits().train
KEY = named_key(0, "test")
SGD = Optimizer(name="sgd", learning_rate=1.0, momentum=0.0)
NO_NOISE = {"noise_multiplier": 0.0, "chunk": 5}


def _fit(rule, start=None, **options):
    settings = {"epochs": 1, "key": KEY, "optimizer": SGD, "batch_size": None}
    start = start or fresh(Plain(), TRAIN)
    return fit(start, examples_of(TRAIN), loss=Objective(rule=rule), **{**settings, **options})


def _gradient_of(network, position):
    def loss(params):
        x = network.normalisation.apply(TRAIN.images[position : position + 1])
        logits = apply_parts(network.model, {**network.variables, "params": params}, x)[0]
        return cross_entropy(logits, jnp.asarray(TRAIN.labels[position : position + 1]))[0]

    return jax.grad(loss)(network.variables["params"])


def test_clipping_by_example_is_that_of_a_loop():
    start = fresh(Plain(), TRAIN)
    gradients = [_gradient_of(start, position) for position in range(len(TRAIN))]
    norms = np.array([optax.global_norm(g) for g in gradients])
    clip = float(np.median(norms))  # some are clipped, some are not
    total = jax.tree.map(jnp.zeros_like, gradients[0])
    for gradient, norm in zip(gradients, norms, strict=True):
        factor = min(1.0, clip / norm)
        total = jax.tree.map(lambda t, g, f=factor: t + f * g, total, gradient)
    wanted = jax.tree.map(lambda p, t: p - t / len(TRAIN), start.variables["params"], total)
    found = _fit(PrivateGradient(clip=clip, **NO_NOISE), start).classifier.variables["params"]
    assert_close(found, wanted, atol=1e-6)
    # Clipping the mean instead of each would be something else.
    mean = jax.tree.map(lambda *g: sum(g) / len(g), *gradients)
    assert float(optax.global_norm(mean)) < clip


def test_without_noise_and_clipping_it_is_plain_adam():
    options = {"epochs": 4, "optimizer": Optimizer(learning_rate=0.01)}
    plain = _fit(None, **options)
    private = _fit(PrivateGradient(clip=math.inf, **NO_NOISE), **options)
    assert_close(private.classifier.variables, plain.classifier.variables, atol=2e-5)
    np.testing.assert_allclose(private.losses, plain.losses, rtol=1e-5)
    assert private.accuracies == plain.accuracies and private.flops is None


def test_the_noise_has_the_stated_scale():
    start = fresh(Plain(width=64), TRAIN)
    silent = examples_of(TRAIN, np.zeros(len(TRAIN)))  # no example counts: noise alone moves
    rule = PrivateGradient(clip=0.5, noise_multiplier=3.0)
    options = {"epochs": 1, "key": KEY, "optimizer": SGD, "batch_size": 8}
    moved = fit(start, silent, loss=Objective(rule=rule), **options).classifier
    difference = jax.tree.map(lambda a, b: a - b, moved.variables, start.variables)
    steps = np.concatenate([np.ravel(x) for x in jax.tree.leaves(difference["params"])])
    assert steps.std() == pytest.approx(3.0 * 0.5 / 8 * math.sqrt(len(TRAIN) / 8), rel=0.03)
    assert abs(steps.mean()) < 4 * steps.std() / math.sqrt(len(steps))


def test_every_example_is_drawn_by_a_coin_of_its_own():
    count, batch_size, draws = 50, 20, 400
    rule = PrivateGradient(clip=1.0, noise_multiplier=0.0, chunk=8)
    examples = examples_of(TRAIN)._replace(
        inputs=np.eye(count, dtype=np.float32),
        labels=np.zeros(count, np.int32),
        weights=np.ones(count, np.float32),
    )

    def objective(params, batch, key):
        return jnp.vdot(params, batch.inputs[0]), batch.inputs[0]

    def drawn(key):
        def take(rows):
            return jax.tree.map(lambda x: jnp.asarray(x)[rows], examples)

        return rule.gradient(objective, jnp.ones(count), take, count, batch_size, key)

    gradients, seen = jax.jit(jax.vmap(drawn))(jax.random.split(KEY, draws))
    seen = np.asarray(seen)
    assert set(np.unique(seen)) == {0.0, 1.0}  # none is seen twice, none is cut off
    np.testing.assert_allclose(gradients, seen / batch_size, atol=1e-6)
    sizes, q = seen.sum(1), batch_size / count
    assert sizes.mean() == pytest.approx(batch_size, abs=4 * math.sqrt(count * q * (1 - q) / draws))
    assert sizes.var() == pytest.approx(count * q * (1 - q), rel=0.3)  # a fixed size would have 0
    assert np.abs(seen.mean(0) - q).max() < 5 * math.sqrt(q * (1 - q) / draws)
    assert np.abs(np.corrcoef(seen.T)[np.triu_indices(count, 1)]).max() < 0.3


def test_a_member_of_a_population_is_the_network_trained_alone():
    rows = np.stack([np.random.default_rng(i).permutation(len(TRAIN))[:13] for i in range(2)])
    rule = PrivateGradient(clip=0.5, noise_multiplier=0.7, chunk=4)
    networks = [fresh(Plain(), TRAIN, seed=i) for i in range(2)]
    keys = jnp.stack([named_key(i, "member") for i in range(2)])
    options = {"epochs": 2, "optimizer": Optimizer(), "batch_size": 6, "loss": Objective(rule=rule)}
    both = fit_population(
        stack(networks),
        examples_of(TRAIN),
        rows,
        keys=keys,
        placement=Placement(chunk=2),
        **options,
    )
    for i, network in enumerate(networks):
        alone = fit(network, examples_of(TRAIN.take(rows[i])), key=keys[i], **options)
        assert_close(member(both.classifiers, i).variables, alone.classifier.variables, atol=2e-5)


@pytest.mark.parametrize(
    ("rule", "model", "weights", "message"),
    [
        (PrivateGradient(), Noisy(), None, "BatchNorm.*norm='group'"),
        (PrivateGradient(), Plain(), 2.0, "Weights other than 0 and 1"),
        (PrivateGradient(clip=0.0), Plain(), None, "clip = 0.0"),
        (PrivateGradient(noise_multiplier=-1.0), Plain(), None, "noise_multiplier = -1.0"),
        (PrivateGradient(clip=math.inf), Plain(), None, "without clipping"),
        (PrivateGradient(chunk=0), Plain(), None, "chunk = 0"),
    ],
    ids=["BatchNorm", "weights", "clip", "noise", "noise alone", "chunk"],
)
def test_what_would_not_be_private_is_refused(rule, model, weights, message):
    examples = examples_of(TRAIN, weights and np.full(len(TRAIN), weights))
    options = {"epochs": 1, "optimizer": SGD, "loss": Objective(rule=rule)}
    with pytest.raises(InputError, match=message):
        fit(fresh(model, TRAIN), examples, key=KEY, **options)
    with pytest.raises(InputError, match=message):
        keys, rows = KEY[None], np.arange(len(TRAIN))[None]
        fit_population(stack([fresh(model, TRAIN)]), examples, rows, keys=keys, **options)


def test_a_mesh_is_refused():
    mesh = jax.make_mesh((2,), ("data",), devices=jax.devices()[:2])
    with pytest.raises(InputError, match="over a mesh"):
        _fit(dataclasses.replace(PrivateGradient(), clip=2.0), placement=Placement(mesh))

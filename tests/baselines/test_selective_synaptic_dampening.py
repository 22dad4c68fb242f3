"""Selective synaptic dampening against its formula."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from baselines.convex import TRAIN, request
from toys import Noisy, assert_close, fresh, same_bits

from dcmu_jax.baselines.by_importance import (
    SelectiveSynapticDampening,
    dampened,
)
from dcmu_jax.errors import InputError
from dcmu_jax.networks.partition import apply_parts
from dcmu_jax.unlearning.task import Hooks


@pytest.fixture(scope="module")
def task():
    return request(fresh(Noisy(), TRAIN), TRAIN.ids[TRAIN.labels == 1])


def test_dampening_is_the_formula():
    whole = [1.0, 1.0, 1.0, 0.0, 0.0, 4.0]
    forget = [0.5, 2.0, 8.0, 3.0, 0.0, 8.1]
    params = [3.0, 3.0, -3.0, 3.0, 3.0, 3.0]
    found = dampened(*(jnp.array(x) for x in (params, whole, forget)), 2.0, 1.0)
    np.testing.assert_allclose(found, [3, 3, -3 / 8, 0, 3, 3 * 4 / 8.1], rtol=1e-6)
    found = dampened(*(jnp.array(x) for x in (params, whole, forget)), 2.0, 4.0)
    np.testing.assert_allclose(found, [3, 3, -1.5, 0, 3, 3], rtol=1e-6)  # never more than before


@jax.jit
def gradient(variables, x, label):
    def loss(params):
        logits, _ = apply_parts(Noisy(), {**variables, "params": params}, x[None])
        return -jax.nn.log_softmax(logits[0])[label]

    return jax.grad(loss)(variables["params"])


def importance(classifier, dataset):
    """Mean squared gradient, by a loop over the samples."""
    total = jax.tree.map(np.zeros_like, classifier.variables["params"])
    for pixels, label in zip(dataset.images, dataset.labels, strict=True):
        x = jnp.asarray(classifier.normalisation.apply(pixels))
        total = jax.tree.map(
            lambda t, g: t + np.asarray(g) ** 2 / len(dataset),
            total,
            gradient(classifier.variables, x, label),
        )
    return total


def test_the_method_is_the_formula_on_single_samples(task):
    whole, forget = (importance(task.original, d) for d in (task.train, task.forget()))
    chosen = []

    def leaf(p, i_d, i_f):
        new = np.array(p)
        for at in np.ndindex(new.shape):
            if i_f[at] > 1.5 * i_d[at]:
                new[at] *= min(0.8 * i_d[at] / i_f[at], 1)
                chosen.append(at)
        return new

    wanted = jax.tree.map(leaf, task.original.variables["params"], whole, forget)
    method = SelectiveSynapticDampening(alpha=1.5, dampening=0.8, batch_size=1)
    result = method(task, Hooks())
    assert len(chosen) > 50
    assert_close(result.classifier.variables["params"], wanted, rtol=1e-3, atol=1e-4)
    assert same_bits(
        result.classifier.variables["batch_stats"], task.original.variables["batch_stats"]
    )
    np.testing.assert_array_equal(np.sort(result.trained_ids), np.sort(TRAIN.ids))


def test_batches_are_drawn_with_the_seed(task):
    method = SelectiveSynapticDampening(alpha=1.5, batch_size=8)
    one, two = (
        method(request(task.original, task.forget_ids, seed=seed), Hooks()) for seed in (1, 2)
    )
    assert not same_bits(one.classifier.variables, two.classifier.variables)
    assert same_bits(one.classifier.variables, method(task, Hooks()).classifier.variables)
    assert one.flops > 0


def test_a_threshold_that_single_samples_cannot_reach_is_refused(task):
    with pytest.raises(InputError, match=r"alpha = 3 for single samples, 20 of 60.*below 3,"):
        SelectiveSynapticDampening(alpha=3.0, batch_size=1)(task, Hooks())
    SelectiveSynapticDampening(alpha=3.0, batch_size=64)(task, Hooks())


@pytest.mark.parametrize("setting", [{"alpha": 0.0}, {"dampening": -1.0}, {"batch_size": 0}])
def test_bad_settings_are_refused(task, setting):
    with pytest.raises(InputError, match=next(iter(setting))):
        SelectiveSynapticDampening(**setting)(task, Hooks())

"""Optimizers as values: what each builds, step by step in plain NumPy; names and numbers."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dcmu_jax.errors import InputError
from dcmu_jax.training.optimizers import Optimizer

GRADIENTS = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)


def path(optimizer, steps=6):
    """The parameters after every step on ``GRADIENTS``."""
    transform = optimizer.build(steps)
    params = jnp.ones(4)
    state, seen = transform.init(params), []
    for gradient in GRADIENTS[:steps]:
        updates, state = transform.update(jnp.asarray(gradient), state, params)
        params = optax.apply_updates(params, updates)
        seen.append(np.asarray(params))
    return np.stack(seen)


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_sgd_l2_adds_the_decay_to_the_gradient(decay):
    params, velocity, expected = np.ones(4), np.zeros(4), []
    for gradient in GRADIENTS:
        velocity = 0.9 * velocity + gradient + decay * params
        params = params - 0.05 * velocity
        expected.append(params)
    ours = path(Optimizer(name="sgd_l2", learning_rate=0.05, momentum=0.9, weight_decay=decay))
    np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("steps", [5, 6])
def test_step_is_a_tenth_in_the_second_half(steps):
    ours = path(Optimizer(name="sgd", learning_rate=0.5, momentum=0.0, schedule="step"), steps)
    moved = np.diff(ours, axis=0, prepend=1.0)
    rates = np.array([0.5] * 3 + [0.05] * (steps - 3))
    np.testing.assert_allclose(moved, -rates[:, None] * GRADIENTS[:steps], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "sdg"}, r"optimizer 'sdg'.*Did you mean 'sgd'"),
        ({"schedule": "steps"}, r"schedule 'steps'.*Did you mean 'step'"),
    ],
)
def test_unknown_names(settings, message):
    optimizer = Optimizer()
    for name, value in settings.items():  # the tests' checked annotations refuse it at once
        object.__setattr__(optimizer, name, value)
    with pytest.raises(InputError, match=message):
        optimizer.check()

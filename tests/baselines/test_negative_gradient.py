"""Gradient ascent and NegGrad+: the objectives they start from, and factors that add up to them."""

import dataclasses

import numpy as np
import pytest
from baselines.setting import FAST, make_task
from baselines.watching import watched
from toys import Plain, fresh

from dcmu_jax.baselines.ascent import GradientAscent, NegativeGradient, signed_factors
from dcmu_jax.errors import InputError
from dcmu_jax.training.optimizers import Optimizer
from dcmu_jax.unlearning.task import Hooks

WHOLE = {"epochs": 1, "batch_size": 1000, "optimizer": FAST}


@pytest.fixture(scope="module")
def task():
    """Of an untrained network, whose losses are not yet lost in rounding."""
    task = make_task(request="random:0.2")
    return dataclasses.replace(task, original=fresh(Plain(), task.train))


def mean_losses(task):
    return [
        task.original.evaluate(d).losses.mean(dtype=float) for d in (task.retain(), task.forget())
    ]


def test_negative_gradient_starts_from_its_objective(task):
    _, [(_, _, [loss])] = watched(NegativeGradient(alpha=0.8, **WHOLE), task)
    retain, forget = mean_losses(task)
    np.testing.assert_allclose(loss, 0.8 * retain - 0.2 * forget, rtol=1e-4)


def test_batches_of_any_size_have_the_objective_on_average():
    rng = np.random.default_rng(0)
    losses, alpha = rng.random(28), 0.9
    terms = losses * signed_factors(21, 7, alpha)
    expected = alpha * losses[:21].mean() - (1 - alpha) * losses[21:].mean()
    for size in (4, 7, 28):
        batches = rng.permutation(terms).reshape(-1, size).mean(1)
        np.testing.assert_allclose(batches.mean(), expected, rtol=1e-6)


def test_gradient_ascent_starts_from_the_negative_loss(task):
    result, [(_, _, [loss])] = watched(GradientAscent(**WHOLE), task)
    np.testing.assert_allclose(loss, -mean_losses(task)[1], rtol=1e-4)
    assert sorted(result.trained_ids) == sorted(task.forget_ids)


def test_gradient_ascent_climbs(task):
    slow = Optimizer(name="sgd", learning_rate=1e-3, momentum=0.0)
    method = GradientAscent(epochs=5, batch_size=1000, optimizer=slow)
    _, [(_, _, losses)] = watched(method, task)
    assert (np.diff(losses) < 0).all()


@pytest.mark.parametrize("alpha", [0.0, 1.0, -0.5])
def test_weights_without_sense_are_refused(task, alpha):
    with pytest.raises(InputError, match=f"alpha = {alpha}"):
        NegativeGradient(alpha=alpha)(task, Hooks())

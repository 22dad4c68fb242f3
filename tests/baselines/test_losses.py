"""Losses of unlearning methods against their closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from baselines.watching import cross_entropy, divergence

from dcmu_jax.baselines import losses
from dcmu_jax.baselines.losses import Distillation, scaled_cross_entropy
from dcmu_jax.errors import InputError

RNG = np.random.default_rng(0)
STUDENT, TEACHER = (jnp.asarray(3 * RNG.normal(size=(7, 4)), jnp.float32) for _ in range(2))
LABELS = jnp.asarray(RNG.integers(0, 4, 7), jnp.int32)
NEAR = {"rtol": 2e-5, "atol": 1e-6}


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_divergence(temperature):
    expected = divergence(TEACHER, STUDENT, temperature)
    ours = losses.divergence(TEACHER, STUDENT, temperature)
    np.testing.assert_allclose(ours, expected, **NEAR)
    assert not np.allclose(expected, divergence(STUDENT, TEACHER, temperature), rtol=0.1)
    np.testing.assert_allclose(losses.divergence(TEACHER, TEACHER, temperature), 0, atol=1e-6)


def test_divergence_of_two_coins():
    teacher, student = jnp.log(jnp.array([[0.5, 0.5]])), jnp.log(jnp.array([[0.25, 0.75]]))
    expected = 0.5 * np.log(0.5 / 0.25) + 0.5 * np.log(0.5 / 0.75)
    np.testing.assert_allclose(losses.divergence(teacher, student), [expected], rtol=1e-5)


@pytest.mark.parametrize("alpha", [0.0, 1.0, 0.99])
@pytest.mark.parametrize("beta", [0.1, -1.0])
def test_distillation(alpha, beta):
    loss = Distillation(cross_entropy=alpha, divergence=beta, temperature=4.0)
    expected = alpha * cross_entropy(STUDENT, LABELS) + beta * 16 * divergence(TEACHER, STUDENT, 4)
    np.testing.assert_allclose(loss(STUDENT, LABELS, TEACHER), expected, **NEAR)


def test_gradient_of_distillation_keeps_its_size_over_temperatures():
    """For large T, T^2 KL tends to the squared distance of the centred logits over 2 C."""

    def gradient(temperature):
        loss = Distillation(cross_entropy=0.0, divergence=1.0, temperature=temperature)
        return jax.grad(lambda s: loss(s, LABELS, TEACHER).sum())(STUDENT)

    difference = np.asarray(STUDENT - TEACHER)
    limit = (difference - difference.mean(-1, keepdims=True)) / 4
    np.testing.assert_allclose(gradient(300.0), limit, atol=0.03)


def test_equal_settings_are_equal_values():
    """Equal settings are one key of the compilation cache."""
    assert Distillation() == Distillation() and hash(Distillation()) == hash(Distillation())
    assert Distillation() != Distillation(divergence=0.2)


def test_factors_scale_and_turn_the_cross_entropy():
    factors = jnp.asarray([1, -1, 0, 2, -0.5, 1, 1], jnp.float32)
    expected = np.asarray(factors) * cross_entropy(STUDENT, LABELS)
    np.testing.assert_allclose(scaled_cross_entropy(STUDENT, LABELS, factors), expected, **NEAR)


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
def test_temperatures_without_sense_are_refused(temperature):
    with pytest.raises(InputError, match="temperature ="):
        Distillation(temperature=temperature).check()

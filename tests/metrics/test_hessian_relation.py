"""The closed form for unlearning: first order where training is convex, wrong elsewhere."""

import dataclasses

import flax.linen as nn
import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from toys import Plain, fresh, toy_splits

from dcmu_jax.errors import InputError
from dcmu_jax.metrics.hessian_relation import hessian_relation, predicted_difference
from dcmu_jax.networks.partition import apply_parts
from dcmu_jax.training.examples import cross_entropy
from dcmu_jax.training.minimise import minimise

TRAIN = toy_splits(classes=3, per_class=40).train
TRAIN = TRAIN.take(np.random.default_rng(0).permutation(120))
DECAY = 2.0


def _flat(x):
    """Every other pixel: 32 of them."""
    return x.reshape(len(x), -1)[:, ::2]


def _same(x):
    return x


class Linear(nn.Module):
    """Logistic regression."""

    def setup(self):
        self.beginning, self.intermediate = nn.Sequential([_flat]), nn.Sequential([_same])
        self.final = nn.Dense(3, use_bias=False)


def optimum(network, dataset, weights=1.0):
    """Minimum of the weighted loss and decay / 2 |W|^2 by Newton's method in float64."""
    x = _flat(np.asarray(network.normalisation.apply(dataset.images), np.float64))
    truth = np.eye(3)[dataset.labels]
    weights = np.broadcast_to(weights, len(x))[:, None]
    w = np.zeros(x.shape[1] * 3)
    for _ in range(30):
        logits = x @ w.reshape(-1, 3)
        p = np.exp(logits - logits.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        slope = (x.T @ (weights * (p - truth))).ravel() + DECAY * w
        bends = weights[:, None] * (p[:, :, None] * np.eye(3) - p[:, :, None] * p[:, None])
        hessian = np.einsum("ni,nab,nj->iajb", x, bends, x).reshape(len(w), -1)
        w -= np.linalg.solve(hessian + DECAY * np.eye(len(w)), slope)
    assert np.linalg.norm(slope) < 1e-9
    params = {
        **network.variables["params"],
        "final": {"kernel": jnp.asarray(w.reshape(-1, 3), jnp.float32)},
    }
    return dataclasses.replace(network, variables={**network.variables, "params": params})


def related(count, zeta=1.0, **settings):
    """Logistic regression without the first ``count`` samples, which counted ``zeta`` before."""
    forget, retain = TRAIN.take(np.arange(count)), TRAIN.take(np.arange(count, len(TRAIN)))
    network = fresh(Linear(), TRAIN)
    weights = np.where(np.arange(len(TRAIN)) < count, zeta, 1.0)
    networks = optimum(network, TRAIN, weights), optimum(network, retain)
    return hessian_relation(*networks, retain, forget, zeta=zeta, decay=DECAY, **settings)


def test_the_error_is_of_second_order_in_zeta():
    found = {zeta: related(8, zeta, batch_size=50) for zeta in (0.1, 0.2, 0.4)}
    errors = {zeta: r.residual * r.actual_norm for zeta, r in found.items()}
    for relation in found.values():
        assert relation.slope < 1e-4
        assert relation.solver_residual < 1e-4
    assert found[0.1].residual < 0.05
    assert found[0.1].cosine > 0.999
    for small in (0.1, 0.2):
        assert 1.8 < found[2 * small].actual_norm / found[small].actual_norm < 2.1
        assert 3 < errors[2 * small] / errors[small] < 4.5


def test_the_error_falls_faster_than_the_forgotten_share():
    two, thirty_two = related(2), related(32)
    assert two.residual < 0.1
    assert two.cosine > 0.99
    assert 5 * two.residual < thirty_two.residual
    # The error itself, not only its share of the difference: at 16 times the samples.
    assert 64 * two.residual * two.actual_norm < thirty_two.residual * thirty_two.actual_norm


def test_a_large_share_breaks_it():
    assert related(100).residual > 0.5


def test_change_of_the_loss_to_first_order():
    relation = related(2)
    assert relation.predicted_loss_change == pytest.approx(relation.actual_loss_change, rel=0.3)


def test_without_a_common_minimum_it_says_nothing():
    """Two trainings of a network with a hidden layer, from different starts."""
    retain = TRAIN.take(np.arange(10, len(TRAIN)))

    def trained(dataset, seed):
        network = fresh(Plain(width=4), dataset, seed)
        x = network.normalisation.apply(dataset.images)

        def loss(params, x, labels):
            logits, _ = apply_parts(network.model, {"params": params}, x)
            penalty = sum(jnp.vdot(p, p) for p in jax.tree.leaves(params))
            return cross_entropy(logits, labels).sum() + penalty / 2

        params, _ = jax.jit(minimise, static_argnums=(0, 2, 3))(
            loss, network.variables["params"], optax.adam(1e-2), 300, x, dataset.labels
        )
        return dataclasses.replace(network, variables={**network.variables, "params": params})

    relation = hessian_relation(
        trained(TRAIN, 0), trained(retain, 1), retain, TRAIN.take(np.arange(10)), decay=1.0
    )
    assert relation.residual > 0.8


def test_solves_the_dense_system():
    """The whole Hessian, of a network that is not linear, made positive definite."""
    zeta, network = 0.3, fresh(Plain(width=4), TRAIN)
    retain, forget = TRAIN.take(np.arange(9, 30)), TRAIN.take(np.arange(9))
    theta, unravel = jax.flatten_util.ravel_pytree(network.variables["params"])

    def loss(theta, dataset):
        x = network.normalisation.apply(dataset.images)
        logits, _ = apply_parts(network.model, {"params": unravel(theta)}, x)
        return cross_entropy(logits, jnp.asarray(dataset.labels)).sum()

    def of_retain(theta):
        return loss(theta, retain)

    hessian = np.asarray(jax.hessian(of_retain)(theta), float)
    damping = 1 - 2 * np.linalg.eigvalsh(hessian)[0]
    right = -zeta * np.asarray(jax.grad(loss)(theta, forget), float)
    wanted = np.linalg.solve(hessian + damping * np.eye(len(hessian)), right)
    found = predicted_difference(
        network, retain, forget, zeta=zeta, decay=damping, tolerance=1e-6, batch_size=8
    )
    vector = np.asarray(jax.flatten_util.ravel_pytree(found.vector)[0], float)
    np.testing.assert_allclose(vector, wanted, atol=2e-3 * abs(wanted).max())
    assert float(found.residual) < 1e-5


def test_refusals():
    network = fresh(Linear(), TRAIN)
    some, none = TRAIN.take(np.arange(3)), TRAIN.take(np.arange(0))
    with pytest.raises(InputError, match="3 retained and 0 forgotten"):
        predicted_difference(network, some, none)
    for name, value in (("zeta", -1.0), ("decay", -1.0), ("iterations", 0), ("batch_size", 0)):
        with pytest.raises(InputError, match=f"{name} = {value}"):
            predicted_difference(network, some, some, **{name: value})
    with pytest.raises(InputError, match="same parameters"):
        hessian_relation(network, network, some, some, decay=1.0)

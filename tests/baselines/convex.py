"""A network whose logits are linear in its parameters, and dense twins of matrix-free products."""

import dataclasses

import flax.linen as nn
import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
from toys import fresh, toy_splits

from dcmu_jax.networks.partition import apply_parts
from dcmu_jax.unlearning.task import Training, UnlearningTask

TRAIN = toy_splits(classes=3, per_class=20).train


def _flat(x):
    return x.reshape(x.shape[0], -1)


class Linear(nn.Module):
    """One dense layer on the pixels."""

    classes: int = 3

    def setup(self):
        self.beginning = nn.Sequential([_flat])
        self.intermediate = nn.Sequential([_flat])
        self.final = nn.Dense(self.classes)


def columns(classifier, dataset):
    """What ``Linear`` multiplies its parameters by, with a column of ones; float64."""
    x = np.asarray(classifier.normalisation.apply(dataset.images), np.float64)
    return np.concatenate([_flat(x), np.ones((len(x), 1))], 1)


def one_hot(dataset):
    """Float64 ``(N, classes)``."""
    return np.eye(dataset.num_classes)[dataset.labels]


def with_matrix(classifier, matrix):
    """``Linear`` with the kernel and, in the last row, the bias of ``matrix``."""
    params = {
        **classifier.variables["params"],
        "final": {
            "kernel": jnp.asarray(matrix[:-1], jnp.float32),
            "bias": jnp.asarray(matrix[-1], jnp.float32),
        },
    }
    return dataclasses.replace(classifier, variables={**classifier.variables, "params": params})


def matrix_of(classifier):
    """The inverse of ``with_matrix``, float64."""
    final = classifier.variables["params"]["final"]
    return np.concatenate([final["kernel"], np.asarray(final["bias"])[None]]).astype(np.float64)


def request(original, forget_ids, train=TRAIN, seed=1):
    """A task without an offline phase."""
    return UnlearningTask(
        original=original,
        train=train,
        forget_ids=np.asarray(forget_ids, np.int64),
        seed=seed,
        training=Training(),
    )


def linear_task(matrix_on, forget_ids):
    """The network that ``matrix_on(x, dataset)`` gives on all of ``TRAIN``, and what must go."""
    network = fresh(Linear(), TRAIN)
    return request(with_matrix(network, matrix_on(columns(network, TRAIN), TRAIN)), forget_ids)


def flat(tree):
    """All of a tree in one float64 vector."""
    return np.asarray(jax.flatten_util.ravel_pytree(tree)[0], np.float64)


def dense(classifier, dataset, loss, weights=None, target=1.0):
    """Gradient and Gauss-Newton matrix of the mean loss, by the whole Jacobian; float64."""
    theta, unravel = jax.flatten_util.ravel_pytree(classifier.variables["params"])

    def logits(theta):
        x = classifier.normalisation.apply(dataset.images)
        variables = {**classifier.variables, "params": unravel(theta)}
        return apply_parts(classifier.model, variables, x)[0]

    f = np.asarray(logits(theta), np.float64)
    jacobian = np.asarray(jax.jacrev(logits)(theta), np.float64)
    weights = np.full(len(f), 1 / len(f)) if weights is None else weights
    p = np.exp(f - f.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    slopes, bent = [], []
    for row in range(len(f)):
        if loss == "squared":
            slope, bend = f[row] - target * one_hot(dataset)[row], np.eye(f.shape[1])
        else:
            slope = p[row] - one_hot(dataset)[row]
            bend = np.diag(p[row]) - np.outer(p[row], p[row])
        slopes.append(weights[row] * slope)
        bent.append(weights[row] * bend @ jacobian[row])
    tall = jacobian.reshape(-1, jacobian.shape[-1])
    return tall.T @ np.concatenate(slopes), tall.T @ np.concatenate(bent)

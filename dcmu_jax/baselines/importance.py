"""Importance of each parameter: mean squared gradients of the log-likelihood."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from dcmu_jax.data.dataset import Dataset
from dcmu_jax.errors import check_at_least
from dcmu_jax.platforms import on_cpu
from dcmu_jax.training.batches import batched, evaluation_logits
from dcmu_jax.training.classifier import Classifier
from dcmu_jax.training.flops import spend_on

_ROOM = 2**27
"""Numbers that the gradients of one chunk may take, all together: 512 MiB."""


def _at_once() -> int:
    """Samples in a chunk, at most.

    One on CPU, where the batched matrix products of single samples' gradients are far slower
    than one product after another.
    """
    return 1 if on_cpu() else 64


@dataclasses.dataclass(frozen=True)
class _Settings:
    model: nn.Module
    classes: int | None  # to sum over; None for the true labels


def _add_chunk(settings, variables, normalisation, total, pixels, labels, weights):
    """``total`` plus the weighted squares of a chunk of units, each of one gradient."""
    params = variables["params"]

    def unit(pixels, labels, weights):
        logits, pull = jax.vjp(
            lambda params: evaluation_logits(
                settings.model, variables, normalisation, params, pixels
            ),
            params,
        )
        probabilities = jax.nn.softmax(logits)
        share = weights.sum()

        def add(total, labels, factor):
            """``total`` plus ``factor`` times the squared gradient of mean log p(labels)."""
            error = jax.nn.one_hot(labels, logits.shape[-1]) - probabilities
            mean = weights / jnp.where(share == 0, 1, share)
            (gradient,) = pull(mean[:, None] * error)
            # Summed over the chunk here, so that what a scan carries is of the size of params.
            return jax.tree.map(
                lambda t, g: t + jax.lax.psum(factor * g.astype(jnp.float32) ** 2, "unit"),
                total,
                gradient,
            )

        if settings.classes is None:
            return add(total, labels, share)

        def add_class(total, y):
            return add(total, y[None], share * probabilities[0, y]), None

        classes = jnp.arange(settings.classes)
        return jax.lax.scan(add_class, total, classes)[0]

    return jax.vmap(unit, axis_name="unit", out_axes=None)(pixels, labels, weights)


@functools.partial(jax.jit, static_argnames=("settings",))
def _mean_squares(settings, variables, normalisation, batches):
    def step(total, batch):
        return _add_chunk(settings, variables, normalisation, total, *batch), None

    zeros = jax.tree.map(lambda p: jnp.zeros(p.shape, jnp.float32), variables["params"])
    return jax.lax.scan(step, zeros, batches)[0]


def mean_squared_gradients(
    classifier: Classifier,
    dataset: Dataset,
    kind: Literal["label", "fisher"] = "label",
    *,
    group: int = 1,
) -> Any:
    r"""The mean over samples of the squared gradient of the log-likelihood.

    With ``label``, at the true label, and with ``fisher`` the diagonal of Fisher's matrix under
    the network's own distribution, exactly, one class after another:

    .. math::
        \frac1N \sum_x \big(\nabla_\theta \log p(y_x | x)\big)^2,
        \qquad \frac1N \sum_x \sum_y p(y | x) \big(\nabla_\theta \log p(y | x)\big)^2

    Evaluation mode, BatchNorm's statistics held constant. One compiled scan over chunks, of as
    many gradients as fit into 512 MiB (at least one; just one on CPU). The device holds the data
    in their own dtype, the gradients of one chunk and the activations behind them.

    Args:
        classifier: the network.
        dataset: at least one sample.
        kind: see above.

    Other Args:
        group: for ``label``: successive samples whose mean gradient is squared, as one gradient;
            a last group that is smaller counts by its size. 1 is the formula above.

    Returns:
        A tree like ``params``, float32.

    Raises:
        InputError: an empty data set, or a group below 1.
    """
    check_at_least("group", group, 1)
    variables, normalisation = classifier.variables, classifier.normalisation
    group = min(group, len(dataset)) if kind == "label" else 1
    parameters = sum(p.size for p in jax.tree.leaves(variables["params"]))
    count = -(-len(dataset) // max(group, 1))
    units = max(1, min(_at_once() // max(group, 1), _ROOM // max(parameters, 1), count))
    batches = batched(dataset, units, max(group, 1))
    settings = _Settings(classifier.model, dataset.num_classes if kind == "fisher" else None)
    # One unit after another, so that the count does not depend on how many fit a machine.
    one = jax.tree.map(lambda a: jax.ShapeDtypeStruct((1, *a.shape[2:]), a.dtype), tuple(batches))
    params = variables["params"]
    spend_on(_add_chunk, settings, variables, normalisation, params, *one, times=count)
    return _mean_squares(settings, variables, normalisation, batches)

"""The unlearning metric UM: the angle between the loss gradients on retain and forget set."""

from __future__ import annotations

import functools
import math
from typing import Any, Literal, overload

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, Num

from dcmu_jax.data.dataset import Normalisation
from dcmu_jax.errors import InputError, check_at_least
from dcmu_jax.models.partition import PARTS, Variables, apply_parts

_Gradient = dict[str, Any]
"""Like ``params``, with a leading axis of two: on the retain set, on the forget set."""


@functools.partial(jax.jit, static_argnames=("model",))
def _mean_gradients(
    model: nn.Module,
    variables: Variables,
    normalisation: Normalisation,
    pixels: Num[Array, "steps batch height width channels"],
    labels: Int[Array, "steps batch"],
    weights: Float[Array, "steps batch"],
    which: Int[Array, " steps"],
) -> _Gradient:
    """Mean loss gradient of each of the two sets, evaluation mode, one pass over the batches."""
    params = variables["params"]
    rest = {name: tree for name, tree in variables.items() if name != "params"}

    def weighted_loss(params, pixels, labels, weights):
        x = normalisation.apply(pixels)
        logits, _ = apply_parts(model, {"params": params, **rest}, x)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits.astype(jnp.float32), labels)
        return (losses * weights).sum()

    def step(totals, batch):
        *examples, which = batch
        gradient = jax.grad(weighted_loss)(params, *examples)
        return jax.tree.map(lambda t, g: t.at[which].add(g), totals, gradient), None

    totals = jax.tree.map(lambda p: jnp.zeros((2, *p.shape), p.dtype), params)
    totals, _ = jax.lax.scan(step, totals, (pixels, labels, weights, which))
    counts = jnp.zeros(2).at[which].add(weights.sum(1))
    return jax.tree.map(lambda t: t / counts.reshape((2,) + (1,) * (t.ndim - 1)), totals)


@jax.jit
def _unlearning_metric_of(gradients: _Gradient) -> Float[Array, ""]:
    """100 (1 - cos) between the two stacked gradients; 100 when one of them is zero."""
    leaves = [leaf.astype(jnp.float32) for leaf in jax.tree.leaves(gradients)]
    # Memorised samples have gradients whose squares underflow: bring each to unit size first.
    largest = functools.reduce(
        jnp.maximum, [jnp.abs(leaf).reshape(2, -1).max(1, initial=0.0) for leaf in leaves]
    )
    scale = jnp.where(largest == 0, 1.0, largest)
    leaves = [leaf / scale.reshape((2,) + (1,) * (leaf.ndim - 1)) for leaf in leaves]
    dot = sum(jnp.vdot(leaf[0], leaf[1]) for leaf in leaves)
    norms = [jnp.sqrt(sum(jnp.vdot(leaf[i], leaf[i]) for leaf in leaves)) for i in (0, 1)]
    product = norms[0] * norms[1]
    cosine = jnp.where(product == 0, 0.0, dot / jnp.where(product == 0, 1.0, product))
    return 100 * (1 - jnp.clip(cosine, -1, 1))


def _batches(pixels: np.ndarray, labels: np.ndarray, batch_size: int) -> list[np.ndarray]:
    """Pixels, labels and weights cut into whole batches; the filling has weight 0."""
    steps = math.ceil(len(labels) / batch_size)
    # Filled up by repetition rather than zeros, so that the filling is an ordinary image.
    rows = np.arange(steps * batch_size) % len(labels)
    weights = (np.arange(steps * batch_size) < len(labels)).astype(np.float32)
    return [
        a.reshape(steps, batch_size, *a.shape[1:]) for a in (pixels[rows], labels[rows], weights)
    ]


@overload
def unlearning_metric(
    model: nn.Module,
    variables: Variables,
    normalisation: Normalisation,
    retain_pixels: np.ndarray,
    retain_labels: np.ndarray,
    forget_pixels: np.ndarray,
    forget_labels: np.ndarray,
    *,
    batch_size: int = 256,
    per_part: Literal[False] = False,
) -> float: ...


@overload
def unlearning_metric(
    model: nn.Module,
    variables: Variables,
    normalisation: Normalisation,
    retain_pixels: np.ndarray,
    retain_labels: np.ndarray,
    forget_pixels: np.ndarray,
    forget_labels: np.ndarray,
    *,
    batch_size: int = 256,
    per_part: Literal[True],
) -> dict[str, float]: ...


def unlearning_metric(
    model: nn.Module,
    variables: Variables,
    normalisation: Normalisation,
    retain_pixels: Num[np.ndarray, "retain height width channels"],
    retain_labels: Int[np.ndarray, " retain"],
    forget_pixels: Num[np.ndarray, "forget height width channels"],
    forget_labels: Int[np.ndarray, " forget"],
    *,
    batch_size: int = 256,
    per_part: bool = False,
) -> float | dict[str, float]:
    r"""UM :math:`= 100 (1 - \cos(\nabla L(R), \nabla L(F)))`, 0..200, as the paper defines it.

    Each gradient is that of the mean cross-entropy over the whole set with respect to all
    parameters, flattened, in evaluation mode: 0 when the two sets pull the same way, 100 when
    they pull at right angles, 200 when against each other.

    A gradient that is exactly zero has no direction: its cosine counts as 0, so UM is 100. A
    gradient that is not finite gives NaN.

    Both sets are gone through once, in batches, by one compiled scan; a second model, or a second
    request, with the same total number of batches does not compile again. The device holds both
    sets in their own dtype, the activations of one batch, and two gradients.

    Args:
        model: a Linen module in three parts.
        variables: its parameters and statistics.
        normalisation: of its inputs.
        retain_pixels: uint8 or float32 in 0..255.
        retain_labels: classes.
        forget_pixels: as ``retain_pixels``.
        forget_labels: classes.
        batch_size: examples per step; changes memory and speed, not the result.
        per_part: return the metric of each part's gradient instead.

    Returns:
        The metric; or, for ``per_part``, that of each part that has parameters, by its name.

    Raises:
        InputError: an empty set, or a batch size below 1.
    """
    check_at_least("batch_size", batch_size, 1)
    sizes = len(retain_labels), len(forget_labels)
    if not all(sizes):
        raise InputError(
            f"A gradient over {sizes[0]} retained and {sizes[1]} forgotten samples",
            "at least one of each",
            "Forget some samples, and not all of them",
        )
    retain = _batches(retain_pixels, retain_labels, batch_size)
    forget = _batches(forget_pixels, forget_labels, batch_size)
    which = np.repeat(np.arange(2, dtype=np.int32), [len(retain[1]), len(forget[1])])
    examples = [np.concatenate(pair) for pair in zip(retain, forget, strict=True)]
    gradients = _mean_gradients(model, variables, normalisation, *examples, which)
    if per_part:
        return {
            part: float(_unlearning_metric_of(gradients[part]))
            for part in PARTS
            if jax.tree.leaves(gradients.get(part))
        }
    return float(_unlearning_metric_of(gradients))

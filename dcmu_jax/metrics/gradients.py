"""The unlearning metric UM: the angle between the loss gradients on retain and forget set."""

from __future__ import annotations

import functools
from typing import Any, Literal, overload

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Num

from dcmu_jax.data.dataset import Normalisation
from dcmu_jax.errors import InputError, unknown_name
from dcmu_jax.metrics.layers import by_layer, layer_names
from dcmu_jax.networks.partition import PARTS, Variables
from dcmu_jax.training.derivatives import mean_gradients

_PER: tuple[str, ...] = ("part", "layer", "class")

_Gradient = dict[str, Any]
"""Like ``params``, with a leading axis of two: on the retain set, on the forget set."""


@jax.jit
def unlearning_metric_of(gradients: _Gradient) -> Float[Array, ""]:
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


def class_gradients(
    model: nn.Module,
    variables: Variables,
    normalisation: Normalisation,
    retain: tuple[np.ndarray, np.ndarray],
    forget: tuple[np.ndarray, np.ndarray],
    *,
    batch_size: int = 256,
    at_most: int | None = None,
) -> dict[int, _Gradient]:
    """Mean loss gradients of each class that both sets have, by the same program for all.

    The device holds two gradients for every class.

    Args:
        model: a Linen module in three parts.
        variables: its parameters and statistics.
        normalisation: of its inputs.
        retain: pixels and classes.
        forget: pixels and classes.
        batch_size: examples per step.
        at_most: take only this many samples of a class from either set, the first.

    Returns:
        By class: a tree like ``params`` with a leading axis of two, retain and forget.

    Raises:
        InputError: the two sets have no class in common, or a batch size below 1.
    """
    shared = np.intersect1d(retain[1], forget[1])
    if not len(shared):
        raise InputError(
            f"Retained classes {np.unique(retain[1]).tolist()} and forgotten classes "
            f"{np.unique(forget[1]).tolist()}",
            "at least one class in both",
            "A metric per class needs a request that leaves some samples of a class",
        )
    sets = []
    for label in shared:
        for pixels, labels in (retain, forget):
            rows = np.flatnonzero(labels == label)[:at_most]
            sets.append((pixels[rows], labels[rows]))
    stacked = mean_gradients(model, variables, normalisation, sets, batch_size)
    return {
        int(label): jax.tree.map(lambda g, at=2 * i: g[at : at + 2], stacked)
        for i, label in enumerate(shared)
    }


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
    per: None = None,
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
    per: Literal["part", "layer", "class"],
) -> dict[Any, float]: ...


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
    per: str | None = None,
) -> float | dict[Any, float]:
    r"""UM :math:`= 100 (1 - \cos(\nabla L(R), \nabla L(F)))`, 0..200, as the paper defines it.

    Each gradient is that of the mean cross-entropy over the whole set with respect to all
    parameters, flattened, in evaluation mode: 0 when the two sets pull the same way, 100 when
    they pull at right angles, 200 when against each other.

    A gradient that is exactly zero has no direction: its cosine counts as 0, so UM is 100. A
    gradient that is not finite gives NaN.

    Both sets are gone through once, in batches, by one compiled scan; a second model, or a second
    request, with the same total number of batches does not compile again. The device holds both
    sets in their own dtype, the activations of one batch, and three gradients (per class, two
    for every class and one more).

    Args:
        model: a Linen module in three parts.
        variables: its parameters and statistics.
        normalisation: of its inputs.
        retain_pixels: uint8 or float32 in 0..255.
        retain_labels: classes.
        forget_pixels: as ``retain_pixels``.
        forget_labels: classes.
        batch_size: examples per step; changes memory and speed, not the result.
        per: return the metric of each ``part``'s or ``layer``'s gradient instead, or of the
            gradients over each ``class``'s samples alone.

    Returns:
        The metric; or those of the parts by name; of the layers by path, from shallow to deep; of
        the classes that both sets have. Parts and layers without parameters are left out.

    Raises:
        InputError: an empty set, a batch size below 1, an unknown ``per``; for ``class``, no class
            that both sets have.
    """
    sizes = len(retain_labels), len(forget_labels)
    if not all(sizes):
        raise InputError(
            f"A gradient over {sizes[0]} retained and {sizes[1]} forgotten samples",
            "at least one of each",
            "Forget some samples, and not all of them",
        )
    if per is not None and per not in _PER:
        raise unknown_name("view of the unlearning metric", per, _PER)
    network = model, variables, normalisation
    sets = (retain_pixels, retain_labels), (forget_pixels, forget_labels)
    if per == "class":
        of_classes = class_gradients(*network, *sets, batch_size=batch_size)
        return {label: float(unlearning_metric_of(g)) for label, g in of_classes.items()}
    gradients = mean_gradients(*network, sets, batch_size)
    if per is None:
        return float(unlearning_metric_of(gradients))
    if per == "part":
        views = {part: gradients[part] for part in PARTS if jax.tree.leaves(gradients.get(part))}
    else:
        layers = by_layer(gradients)
        order = layer_names(model, variables, retain_pixels.shape[1:])
        views = {name: layers[name] for name in order}
    return {name: float(unlearning_metric_of(view)) for name, view in views.items()}

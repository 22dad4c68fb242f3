"""A data set cut for a compiled pass over it in evaluation mode, and the logits on one batch."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Num

from dcmu_jax.data.dataset import Dataset, Normalisation
from dcmu_jax.errors import InputError
from dcmu_jax.networks.partition import Variables, apply_parts


class Batches(NamedTuple):
    """A data set in whole batches; a pytree.

    Attributes:
        pixels: as the data set has them.
        labels: int32 classes.
        weights: float32, what each sample counts in the mean; 0 for the padding.
    """

    pixels: Num[np.ndarray, "steps *batch height width channels"]
    labels: Int[np.ndarray, "steps *batch"]
    weights: Float[np.ndarray, "steps *batch"]


def cut(
    pixels: np.ndarray, labels: np.ndarray, *sizes: int, weights: np.ndarray | None = None
) -> Batches:
    """Samples cut into batches of the shape ``sizes``, in their order.

    Args:
        pixels: at least one image.
        labels: their classes.
        *sizes: of the axes of a batch before those of an image.
        weights: of the samples; 1 / N each if not given, so that sums are means.

    Raises:
        InputError: there is no sample.
    """
    count = len(labels)
    if not count:
        raise InputError(
            "A mean over no samples", "at least one", "Forget some samples, and not all of them"
        )
    if weights is None:
        weights = np.full(count, 1 / count, np.float32)
    steps = math.ceil(count / math.prod(sizes))
    # Padded by repetition rather than zeros, so that the padding is an ordinary image.
    rows = np.arange(steps * math.prod(sizes)).reshape(steps, *sizes)
    real = rows < count
    rows %= count
    return Batches(pixels[rows], labels[rows], np.where(real, weights[rows], 0).astype(np.float32))


def batched(dataset: Dataset, *sizes: int, weights: np.ndarray | None = None) -> Batches:
    """``dataset`` cut into batches of the shape ``sizes``, in its order; see ``cut``."""
    return cut(dataset.images, dataset.labels, *sizes, weights=weights)


def evaluation_logits(
    model: nn.Module, variables: Variables, normalisation: Normalisation, params: Any, pixels: Array
) -> Float[Array, "batch classes"]:
    """Logits with ``params`` in the place of those in ``variables``; float32.

    In evaluation mode: BatchNorm's statistics are constants, its scales and biases parameters.
    """
    x = normalisation.apply(pixels)
    logits, _ = apply_parts(model, {**variables, "params": params}, x)
    return logits.astype(jnp.float32)

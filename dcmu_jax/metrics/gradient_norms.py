"""Norms of the loss gradient, layer by layer, over a whole set and batch by batch."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dcmu_jax.data.dataset import Dataset
from dcmu_jax.errors import InputError, check_at_least, unknown_name
from dcmu_jax.metrics.layers import by_layer, layer_names
from dcmu_jax.networks.partition import PARTS
from dcmu_jax.training.batches import batched
from dcmu_jax.training.classifier import Classifier
from dcmu_jax.training.derivatives import batch_gradient, gradient_over


def _norm(tree: Any) -> Float[Array, ""]:
    """L2 norm of a tree; scaled first, because the squares of tiny gradients underflow."""
    leaves = [jnp.ravel(leaf).astype(jnp.float32) for leaf in jax.tree.leaves(tree)]
    flat = jnp.concatenate(leaves)
    largest = jnp.abs(flat).max()
    scale = jnp.where(largest == 0, 1.0, largest)
    return scale * jnp.linalg.norm(flat / scale)


@jax.jit
def _layer_norms(gradient):
    return {name: _norm(own) for name, own in by_layer(gradient).items()}


@functools.partial(jax.jit, static_argnames=("model",))
def _norms_of_batches(model, variables, normalisation, batches):
    def step(_, batch):
        gradient = batch_gradient(model, variables, normalisation, batch)
        return None, _layer_norms(gradient)

    return jax.lax.scan(step, None, batches)[1]


def _in_order(classifier: Classifier, norms: Mapping[str, Any]) -> dict[str, Any]:
    names = layer_names(classifier.model, classifier.variables, classifier.image_shape)
    return {name: norms[name] for name in names}


def layer_gradient_norms(
    classifier: Classifier, dataset: Dataset, *, batch_size: int = 256
) -> dict[str, float]:
    """L2 norm of the gradient of the mean loss over a whole set, by layer (Fig. 5).

    Evaluation mode. A layer is a module with parameters of its own: kernel and bias together.

    Args:
        classifier: the network.
        dataset: at least one sample.
        batch_size: examples per step; changes memory and speed, not the result.

    Returns:
        The norms by path, from shallow to deep.

    Raises:
        InputError: an empty data set, or a batch size below 1.
    """
    norms = _layer_norms(gradient_over(classifier, dataset, batch_size))
    return {name: float(x) for name, x in _in_order(classifier, norms).items()}


def batch_gradient_norms(
    classifier: Classifier, dataset: Dataset, batch_size: int = 256
) -> dict[str, Float[np.ndarray, " batches"]]:
    """L2 norm of the gradient of each batch's mean loss, by layer (Fig. 6 is made of these).

    Evaluation mode, and every batch's gradient is its own. (The authors' notebook never clears
    the gradient, so that theirs are norms of running sums.) Batches are taken in the set's order:
    mix it first where it is sorted by class, ``dataset.take(rng.permutation(len(dataset)))``.

    Args:
        classifier: the network.
        dataset: at least one sample.
        batch_size: examples per batch; the last batch may have fewer.

    Returns:
        By path, from shallow to deep: float32 ``(batches,)``.

    Raises:
        InputError: an empty data set, or a batch size below 1.
    """
    check_at_least("batch_size", batch_size, 1)
    size = max(min(batch_size, len(dataset)), 1)
    batches = batched(dataset, size)
    own = batches.weights / batches.weights.sum(1, keepdims=True)
    found = _norms_of_batches(
        classifier.model,
        classifier.variables,
        classifier.normalisation,
        batches._replace(weights=own),
    )
    return {name: np.asarray(x) for name, x in _in_order(classifier, found).items()}


def norms_of_part(norms: Mapping[str, Any], part: str) -> Any:
    """The norm of a whole part's gradient from those of its layers, per batch or over the set.

    Args:
        norms: what ``layer_gradient_norms`` or ``batch_gradient_norms`` gives.
        part: beginning, intermediate or final.

    Raises:
        InputError: an unknown part, or one without parameters.
    """
    if part not in PARTS:
        raise unknown_name("part of a model", part, PARTS)
    of_part = [x for name, x in norms.items() if name == part or name.startswith(f"{part}/")]
    if not of_part:
        raise InputError(
            f"The part {part!r}, which has no layer with parameters",
            f"a part of the layers {', '.join(norms)}",
            "Choose another part",
        )
    # Not by squares, which would underflow.
    return functools.reduce(np.hypot, of_part)

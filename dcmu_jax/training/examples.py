"""What networks are trained on, and the usual loss on it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, Num

from dcmu_jax.errors import InputError
from dcmu_jax.networks.partition import count_outputs


class Examples(NamedTuple):
    """What is trained on; a pytree.

    Attributes:
        inputs: pixels ``(N, H, W, C)``, uint8 or float32 in 0..255; or, when training starts
            above ``beginning``, the input of the part it starts from.
        labels: int32 ``(N,)``.
        weights: float32 ``(N,)``, how much each example counts in the loss.
        targets: whatever else the loss needs to know of each example, any pytree of arrays
            ``(N, ...)``; None for nothing.
    """

    inputs: Num[Array | np.ndarray, "n *shape"]
    labels: Int[Array | np.ndarray, " n"]
    weights: Float[Array | np.ndarray, " n"]
    targets: Any = None

    @classmethod
    def of(cls, inputs, labels, weights=None, targets=None) -> Examples:
        """Examples that count 1 each unless ``weights`` are given."""
        labels = np.asarray(labels, np.int32)
        if weights is None:
            weights = np.ones(len(labels), np.float32)
        return cls(inputs, labels, np.asarray(weights, np.float32), targets)


Loss = Callable[..., Float[Array, " batch"]]
"""``loss(outputs, labels)``, or ``loss(outputs, labels, targets)`` where examples have targets.

Outputs are what the last part of the model gives: logits, or a tuple of which they come first."""


def cross_entropy(logits: Array, labels: Array) -> Array:
    """Softmax cross-entropy of each example, float32 ``(batch,)``."""
    return optax.softmax_cross_entropy_with_integer_labels(logits.astype(jnp.float32), labels)


@dataclasses.dataclass(frozen=True)
class LabelSmoothing:
    """Cross-entropy with a share of each label spread evenly over all classes.

    Attributes:
        share: in [0, 1); 0 is plain cross-entropy.
    """

    share: float

    def __post_init__(self):
        if not 0 <= self.share < 1:
            raise InputError(
                f"share = {self.share!r}", "a number from 0, below 1", "Set share within [0, 1)"
            )

    def __call__(
        self, logits: Float[Array, "batch classes"], labels: Int[Array, " batch"]
    ) -> Float[Array, " batch"]:
        """Loss of each example."""
        logits = logits.astype(jnp.float32)
        targets = jax.nn.one_hot(labels, logits.shape[-1])
        return optax.softmax_cross_entropy(logits, optax.smooth_labels(targets, self.share))


def check_examples(examples: Examples) -> None:
    """Raise unless there are some, as many inputs as labels and weights."""
    counts = [len(array) for array in jax.tree.leaves(examples)]
    if len(set(counts)) > 1:  # indexing beyond the end would go unnoticed in a compiled step
        targets = "".join(f", {count} targets" for count in counts[3:])
        raise InputError(
            "Examples of {} inputs, {} labels and {} weights".format(*counts) + targets,
            "as many of each",
            "Pass one label, one weight and one target for each input",
        )
    if counts[0] == 0:
        raise InputError(
            "No examples to train on", "at least one", "Check what is left to train on"
        )


def check_labels(labels: Any, weights: Any, loss: Loss, network: Any) -> None:
    """Raise where the loss takes labels for numbers of outputs and the network lacks one of them.

    The loss would be no number, or that of another output: compiled programs check no index. What
    other losses do with labels is theirs. At weight 0 a label may be -1, say.
    """
    labels, weights = np.asarray(labels), np.asarray(weights)
    of_outputs = loss is cross_entropy or isinstance(loss, LabelSmoothing)
    if not of_outputs or labels.shape != weights.shape:
        return
    count = count_outputs(network.model, network.image_shape)
    wrong = labels[(labels >= count) | (labels < -count) | ((labels < 0) & (weights != 0))]
    if len(wrong):
        raise InputError(
            f"Examples of class {int(wrong[0])} for a network of {count} outputs",
            f"labels 0..{count - 1}",
            "Leave those examples out, or take a network of as many outputs as there are classes",
        )

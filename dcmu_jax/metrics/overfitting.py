"""The overfitting metric OM of each sample: its loss less the mean size of its gradient."""

from __future__ import annotations

import dataclasses
import os

import jax
import numpy as np
from jaxtyping import Float

from dcmu_jax.data.dataset import Dataset
from dcmu_jax.errors import InputError, check_at_least, unknown_name
from dcmu_jax.fast.sample_gradients import Kind, formed_parameters, gradient_sums
from dcmu_jax.platforms import full_precision, on_cpu
from dcmu_jax.training.classifier import Classifier, in_batches

_KINDS: tuple[str, ...] = ("paper", "squared")
_ROOM = 2**28
"""Numbers that the gradients of one chunk may take, all together: 1 GiB."""


def _at_once() -> int:
    """Samples in a chunk, at most: on CPU so few that the activations stay near the processor."""
    return 32 if on_cpu() else 256


def _workers() -> int:
    """Chunks at a time: on CPU much of a chunk's work is done by one thread, so one for each core.

    At most 4, for their memory.
    """
    if not on_cpu():
        return 1
    available = getattr(os, "sched_getaffinity", lambda _: range(os.cpu_count() or 1))
    return min(4, len(available(0)))


@dataclasses.dataclass(frozen=True)
class OverfittingMetric:
    """OM of every sample of a set, and what it is made of.

    Attributes:
        values: float32 ``(N,)``, the metric; the smaller, the more overfitted.
        losses: float32 ``(N,)``, softmax cross-entropy.
        gradients: float32 ``(N,)``, mean over all parameters of |g|, or of its square.
    """

    values: Float[np.ndarray, " samples"]
    losses: Float[np.ndarray, " samples"]
    gradients: Float[np.ndarray, " samples"]


@full_precision()
def overfitting_metric(
    classifier: Classifier,
    dataset: Dataset,
    *,
    kind: Kind = "paper",
    batch_size: int | None = None,
    workers: int | None = None,
) -> OverfittingMetric:
    r"""OM of each sample by itself, evaluation mode (section IV-D).

    .. math::
        \mathrm{OM}(x) = \big| L(x, \theta)
            - \operatorname{mean}_\theta |\nabla_\theta L(x, \theta)| \big|

    The authors' code takes the mean of squares instead, ``kind="squared"``, and runs in training
    mode, with dropout, on one sample's BatchNorm statistics, which it leaves changed; nothing is
    changed here. In either form the second term is far below the loss for most samples, so that
    OM orders them nearly as the loss does; compare ``losses``.

    Gradients are those of single samples, a chunk of samples at a time. Those by the kernels of
    dense and convolutional layers are never formed; what the device holds is the activations of
    a chunk, several times over, and its gradients by all other parameters.

    Args:
        classifier: the network.
        dataset: at least one sample.
        kind: ``paper`` or ``squared``.
        batch_size: samples in a chunk; changes memory and speed, not the result. Unless given, as
            many as keep the gradients that are formed under 1 GiB, at most 32 on CPU and
            256 elsewhere.
        workers: chunks at a time, each in a thread of its own; changes memory and speed, not the
            result. Unless given, one for each core of a CPU, at most 4, and one elsewhere.

    Raises:
        InputError: an unknown kind, an empty data set, a batch size or workers below 1.
    """
    if kind not in _KINDS:
        raise unknown_name("overfitting metric", kind, _KINDS)
    if not len(dataset):
        raise InputError(
            "The overfitting metric of no samples", "at least one", "Choose a set with samples"
        )
    network = classifier.variables, classifier.normalisation
    if batch_size is None:
        formed = formed_parameters(classifier.model, *network, dataset.images)
        batch_size = max(1, min(_at_once(), _ROOM // max(formed, 1)))
    workers = _workers() if workers is None else workers
    check_at_least("batch_size", batch_size, 1)
    check_at_least("workers", workers, 1)

    def chunk(pixels, labels):
        return gradient_sums(classifier.model, kind, *network, pixels, labels)

    losses, sums = in_batches(
        chunk, dataset.images, dataset.labels, batch_size=batch_size, workers=workers
    )
    parameters = sum(leaf.size for leaf in jax.tree.leaves(classifier.variables["params"]))
    gradients = sums / np.float32(parameters)
    return OverfittingMetric(np.abs(losses - gradients), losses, gradients)

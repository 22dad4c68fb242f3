"""The unlearning metric as the authors' published code computes it, in its three versions.

Only for comparison with their figures: each measures something other than the paper's formula,
which is ``unlearning_metric``. All take the mean loss gradients class by class, over the classes
that both sets have, and evaluation mode (theirs runs in whichever mode the network was left).
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dcmu_jax.data.dataset import Dataset
from dcmu_jax.errors import check_at_least
from dcmu_jax.metrics.gradients import class_gradients, unlearning_metric_of
from dcmu_jax.training.classifier import Classifier


def _by_class(classifier, retain, forget, batch_size, at_most=None):
    return class_gradients(
        classifier.model,
        classifier.variables,
        classifier.normalisation,
        (retain.images, retain.labels),
        (forget.images, forget.labels),
        batch_size=batch_size,
        at_most=at_most,
    )


@jax.jit
def _mean_over_tensors(gradients: Any) -> Float[Array, ""]:
    """Mean over tensors of the mean over output units of 1 - cos; vectors count 0."""

    def of_tensor(pair):
        if pair.ndim < 3:  # a leading axis of two, then a bias or a scale
            return jnp.zeros(())
        # The output axis is the last in Flax: a row of theirs is a column here.
        pair = pair.astype(jnp.float32).reshape(2, -1, pair.shape[-1])
        largest = jnp.abs(pair).max(1, keepdims=True)
        pair = pair / jnp.where(largest == 0, 1, largest)  # the squares could underflow
        product = jnp.sqrt((pair**2).sum(1).prod(0))
        cosine = (pair[0] * pair[1]).sum(0) / jnp.where(product == 0, 1, product)
        return (1 - cosine).mean()

    return jnp.stack([of_tensor(leaf) for leaf in jax.tree.leaves(gradients)]).mean()


def rowwise_metric(
    classifier: Classifier,
    retain: Dataset,
    forget: Dataset,
    *,
    batch_size: int = 256,
    at_most: int | None = None,
) -> float:
    r"""Version (a): mean over classes, all tensors and output units of 1 - cos, times 100.

    Version (b) is the same with ``at_most=256``: its retain gradient is that of a few samples,
    most of it their own noise, which moves every angle towards 90 degrees.

    What is wrong with it: tensors of one axis (biases, BatchNorm's scales) contribute 0 but are
    averaged over, so that right angles give less than 100 (50 where every layer has a bias, and
    still less with BatchNorm); a unit whose gradient is tiny counts as much as any other; and
    whatever angle two classes' gradients make is lost.

    Args:
        classifier: the network.
        retain: the retain set.
        forget: the forget set.
        batch_size: examples per step; changes memory and speed, not the result.
        at_most: samples of a class taken from either set, the first; all if ``None``.

    Returns:
        0..200 in principle. A unit with a zero gradient has a cosine of 0.

    Raises:
        InputError: the sets have no class in common, or a number below 1.
    """
    if at_most is not None:
        check_at_least("at_most", at_most, 1)
    gradients = _by_class(classifier, retain, forget, batch_size, at_most)
    return 100 * float(np.mean([_mean_over_tensors(pair) for pair in gradients.values()]))


def first_samples_metric(
    classifier: Classifier, retain: Dataset, forget: Dataset, *, samples: int = 32
) -> float:
    """Version (c): 100 (1 - mean over classes of cos), from the first 4 or 32 samples of each.

    The cosine is that of the flattened gradients, as in the paper. What is wrong with it: the
    gradient of so few samples is mostly noise, so that the value lies near 100 for any network
    and moves by several points with the samples that happen to come first.

    Args:
        classifier: the network.
        retain: the retain set.
        forget: the forget set.
        samples: of a class, taken from either set; the authors have 4 and 32.

    Raises:
        InputError: the sets have no class in common, or fewer than one sample is asked for.
    """
    check_at_least("samples", samples, 1)
    gradients = _by_class(classifier, retain, forget, samples, samples)
    return float(np.mean([unlearning_metric_of(pair) for pair in gradients.values()]))

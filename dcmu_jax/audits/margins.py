"""Logit margins, the one number of an example that the attacks look at."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float32, Float64, Int
from scipy.special import logsumexp

from dcmu_jax.data.numbers import as_classes, as_numbers
from dcmu_jax.errors import InputError, check_positive


def logit_margins(
    logits: Float[np.ndarray, "examples classes"],
    labels: Int[np.ndarray, "..."],
    *,
    clip: float = 100.0,
) -> Float32[np.ndarray, " examples"]:
    r"""The margin of the label's logit over all others together.

    .. math:: m = z_y - \log \sum_{j \ne y} e^{z_j} = \log \frac{p_y}{1 - p_y}

    It is close to normal over models (Carlini et al. 2022, section IV), and is worked out in
    float64 from the logits, so no probability is ever rounded to 0 or 1.

    Args:
        logits: before the softmax, of any float type.
        labels: class of each example, ``(examples,)``.

    Other Args:
        clip: margins are cut to plus and minus this.

    Raises:
        InputError: logits that are not finite, fewer than two classes, labels that do not match.
    """
    check_positive("clip", clip)
    others = as_numbers("Logits", logits, "examples classes")
    examples, classes = others.shape
    labels = as_classes("Labels", labels, examples)
    if classes < 2 or labels.min() < 0 or labels.max() >= classes:
        raise InputError(
            f"Labels from {labels.min()} to {labels.max()} for logits of shape {others.shape}",
            "labels from 0 to the number of columns - 1, and 2 columns or more",
            "Take both from the same examples",
        )
    rows = np.arange(examples)
    own = others[rows, labels].copy()
    others[rows, labels] = -np.inf
    return np.clip(own - logsumexp(others, axis=1), -clip, clip).astype(np.float32)


def losses_of(margins: Float[np.ndarray, "*shape"]) -> Float64[np.ndarray, "*shape"]:
    r"""Cross-entropy in nats, :math:`\log(1 + e^{-m}) = -\log p_y`, without overflow.

    Raises:
        InputError: margins that are NaN.
    """
    return np.logaddexp(0.0, -as_numbers("Margins", margins, infinite=True))

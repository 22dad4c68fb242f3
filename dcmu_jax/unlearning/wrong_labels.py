"""Wrong labels for the forget set, drawn at random."""

from __future__ import annotations

import jax
import numpy as np
from jaxtyping import Int

from dcmu_jax.data.dataset import Dataset
from dcmu_jax.errors import InputError
from dcmu_jax.prng import Key, typed_key


def wrong_labels(labels: Int[np.ndarray, " n"], classes: int, key: Key) -> Int[np.ndarray, " n"]:
    """A label for each example, drawn uniformly from the ``classes - 1`` that are not its own."""
    if classes < 2:
        raise InputError(
            f"Wrong labels among {classes} class(es)", "2 or more", "Choose another method"
        )
    shift = np.asarray(jax.random.randint(typed_key(key), labels.shape, 1, classes))
    return ((labels + shift) % classes).astype(np.int32)


def wrong_labels_among(
    forget: Dataset, classes: Int[np.ndarray, " some"], key: Key
) -> Int[np.ndarray, " n"]:
    """Wrong labels for the forget set, of the classes that the training set has samples of.

    A class that became empty was forgotten: it is not taught again. Where one class alone is left,
    any other is wrong.

    Args:
        forget: the forget set.
        classes: ascending, those of ``forget`` among them.
        key: of the draw.
    """
    if len(classes) < 2:
        return wrong_labels(forget.labels, forget.num_classes, key)
    own = np.searchsorted(classes, forget.labels)
    return classes[wrong_labels(own, len(classes), key)].astype(np.int32)

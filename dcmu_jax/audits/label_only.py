"""Attacks that see only whether a model's answer is right (Choquette-Choo et al. 2021).

"Label-only membership inference attacks", section 3: augmentation attack and gap attack.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64

from dcmu_jax.data.selections import Mask, as_mask
from dcmu_jax.errors import InputError


def label_only_scores(
    correct: Mask,
) -> Float64[np.ndarray, " examples"]:
    """Share of an example's transformations that the model classifies right.

    Members are right over a larger neighbourhood. Scores are multiples of 1 / transformations.

    Args:
        correct: whether the answer is right, for shifted, flipped or noisy copies of each example,
            the plain one among them.

    Raises:
        InputError: answers that are not booleans, no examples or no transformations.
    """
    correct = _checked(correct, least=2)
    return correct.mean(axis=1, dtype=np.float64)


def gap_attack_scores(
    correct: Mask,
) -> Float64[np.ndarray, " examples"]:
    """1 where the plain example is classified right, else 0 (Yeom et al. 2018): the baseline.

    Its balanced accuracy is 1/2 + (training accuracy - test accuracy) / 2.

    Args:
        correct: ``(examples,)``, or as of ``label_only_scores`` with the plain example first.

    Raises:
        InputError: answers that are not booleans, no examples or no transformations.
    """
    correct = _checked(correct, least=1)
    return correct.reshape(len(correct), -1)[:, 0].astype(np.float64)


def _checked(given: Mask, least: int) -> np.ndarray:
    correct = as_mask("Answers", given)
    if not correct.size or not least <= correct.ndim <= 2:
        raise InputError(
            f"A label-only attack on answers of shape {correct.shape}",
            "(examples, transformations) with at least one of each",
            "Bring at least the plain example of each",
        )
    return correct

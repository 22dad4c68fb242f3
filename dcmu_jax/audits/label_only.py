"""Attacks that see only whether a model's answer is right (Choquette-Choo et al. 2021).

"Label-only membership inference attacks", section 3: augmentation attack and gap attack.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float64, Num

from dcmu_jax.data.dataset import Dataset
from dcmu_jax.data.selections import Mask, as_mask
from dcmu_jax.errors import InputError
from dcmu_jax.training.classifier import Classifier

Shift = tuple[int, int]
"""Rows and columns by which the frame moves over the image: down and right where positive."""

CROSS: tuple[Shift, ...] = ((1, 0), (-1, 0), (0, 1), (0, -1))
"""One pixel in each direction."""


def label_only_scores(correct: Mask) -> Float64[np.ndarray, " examples"]:
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


def gap_attack_scores(correct: Mask) -> Float64[np.ndarray, " examples"]:
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


def correct_under_transformations(
    classifier: Classifier,
    dataset: Dataset,
    *,
    shifts: Sequence[Shift] = CROSS,
    flip: bool = True,
) -> Bool[np.ndarray, "examples transformations"]:
    """Whether each answer is right; for ``label_only_scores`` and ``gap_attack_scores``.

    Column 0 is the plain image; the shifts follow in their order; where ``flip`` is set, so do
    the horizontal flips of all of these. One column of images is held at a time.

    Args:
        classifier: the attacked network.
        dataset: the examples.

    Other Args:
        shifts: what comes in at the border is the image's reflection there, as in
            ``data.augmentation``.
        flip: flip horizontally as well.

    Raises:
        InputError: a shift that is not smaller than the side, no shift at all, or one named twice.
    """
    moves = [(0, 0), *((int(rows), int(columns)) for rows, columns in shifts)]
    repeated = [move for number, move in enumerate(moves) if move in moves[:number]]
    if repeated:
        raise InputError(
            f"The shift {repeated[0]} more than once",
            "shifts that differ, and from (0, 0), which is always there",
            "Name each once: a copy would count twice",
        )
    columns = []
    for flipped in (False, True) if flip else (False,):
        for move in moves:
            images = shifted(dataset.images, move)
            images = images[:, :, ::-1] if flipped else images
            columns.append(classifier.evaluate(dataclasses.replace(dataset, images=images)).correct)
    return np.stack(columns, axis=1)


def shifted(
    images: Num[np.ndarray, "batch height width channels"], shift: Shift
) -> Num[np.ndarray, "batch height width channels"]:
    """The images seen through a frame moved by ``shift``, reflected at the border.

    The same as padding by reflection and cropping at a place that is given, not drawn.

    Raises:
        InputError: a shift that is not smaller than the side of the images.
    """
    _, height, width, _ = images.shape
    if abs(shift[0]) >= height or abs(shift[1]) >= width:
        raise InputError(
            f"A shift by {shift} of images of {height}x{width} pixels",
            f"at most {height - 1} rows and {width - 1} columns",
            "Shift by less",
        )
    rows, columns = _index(height, shift[0]), _index(width, shift[1])
    return images[:, rows[:, None], columns[None]]


def _index(side: int, move: int) -> np.ndarray:
    index = np.abs(np.arange(side) + move)
    return np.where(index >= side, 2 * (side - 1) - index, index)

"""From per-sample results to the accuracies of a table and its whole row."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Int

from dcmu_jax.data.numbers import as_classes
from dcmu_jax.data.selections import Mask, as_mask
from dcmu_jax.errors import InputError, check_seed
from dcmu_jax.metrics.measurement import Measurement
from dcmu_jax.metrics.membership import Control, control_losses_for, loss_attack
from dcmu_jax.training.classifier import Evaluation


@dataclasses.dataclass(frozen=True)
class Accuracies:
    """The four accuracies of a model after a request, in percent.

    Attributes:
        retain: on the retain set (RA).
        forget: on the forget set (FA).
        train: on the whole training set (TrA).
        test: on the test samples that may be used (TeA).
    """

    retain: float
    forget: float
    train: float
    test: float


def _percent(correct: np.ndarray, name: str) -> float:
    if not len(correct):
        raise InputError(
            f"An accuracy over an empty {name} set",
            "at least one sample in the retain, forget and test sets",
            f"Leave samples in the {name} set",
        )
    return 100 * float(np.mean(correct))


def _row(name: str, given: Mask) -> np.ndarray:
    """A mask of one axis, of any length."""
    mask = as_mask(name, given)
    return as_mask(name, mask, mask.shape[:1] or (0,))


def accuracies(
    train_correct: Mask,
    test_correct: Mask,
    forget: Mask,
    usable: Mask,
) -> Accuracies:
    """Accuracies from which samples are classified correctly.

    Args:
        train_correct: of the training set.
        test_correct: of the test split.
        forget: which training samples are forgotten.
        usable: which test samples may be used: False for remembrance samples, which some
            methods train on.

    Raises:
        InputError: a mask that is not boolean or of another length, or an empty set.

    >>> train, test = np.array([True, True, True, False]), np.array([True, False])
    >>> forget, usable = np.array([True, True, False, False]), np.ones(2, bool)
    >>> accuracies(train, test, forget, usable)
    Accuracies(retain=50.0, forget=100.0, train=75.0, test=50.0)
    """
    train_correct = _row("train_correct", train_correct)
    test_correct = _row("test_correct", test_correct)
    forget = as_mask("forget mask", forget, train_correct.shape, "training samples")
    usable = as_mask("usable mask", usable, test_correct.shape, "test samples")
    return Accuracies(
        retain=_percent(train_correct[~forget], "retain"),
        forget=_percent(train_correct[forget], "forget"),
        train=_percent(train_correct, "training"),
        test=_percent(test_correct[usable], "test"),
    )


def measure(
    method: str,
    *,
    train: Evaluation,
    test: Evaluation,
    train_labels: Int[np.ndarray, " train"],
    test_labels: Int[np.ndarray, " test"],
    forget: Mask,
    usable: Mask,
    unlearning_metric: float,
    control: Control = "all",
    seed: int = 0,
    **costs: Any,
) -> Measurement:
    """The row of a table, less its scores (``with_scores`` adds them).

    Pure NumPy: the model was evaluated before, once, on all of ``train`` and ``test``.

    Args:
        method: name of the method.
        train: per-sample results on the training set.
        test: per-sample results on the test split.
        train_labels: classes.
        test_labels: classes.
        forget: which training samples are forgotten.
        usable: which test samples may be used; the others enter neither accuracy nor attack.
        unlearning_metric: UM, from ``metrics.gradients``.
        control: of the membership attack, see ``control_losses_for``.
        seed: of the membership attack.
        **costs: fields of ``Measurement`` that were measured elsewhere.

    Returns:
        The measurement. A model that has diverged (losses that are NaN) has ``mia`` NaN, so that
        it spoils its own row and not the table.

    Raises:
        InputError: a mask that is not boolean or of another length, an empty set, too few samples
            for the attack.
    """
    seed = check_seed("seed", seed)
    train_labels = as_classes("Training labels", train_labels, len(train.losses))
    test_labels = as_classes("Test labels", test_labels, len(test.losses))
    forget = as_mask("forget mask", forget, train.losses.shape, "training samples")
    usable = as_mask("usable mask", usable, test.losses.shape, "test samples")
    found = accuracies(train.correct, test.correct, forget, usable)
    forget_losses = train.losses[forget]
    control_losses = control_losses_for(
        control, test.losses[usable], test_labels[usable], train_labels[forget]
    )
    if np.isnan(forget_losses).any() or np.isnan(control_losses).any():
        mia = float("nan")
    else:
        mia = loss_attack(forget_losses, control_losses, seed=seed)
    return Measurement(
        method=method,
        retain_accuracy=found.retain,
        forget_accuracy=found.forget,
        train_accuracy=found.train,
        test_accuracy=found.test,
        mia=mia,
        unlearning_metric=unlearning_metric,
        **costs,
    )

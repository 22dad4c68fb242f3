"""From per-sample results to the accuracies of a table and its whole row."""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Bool, Int

from dcmu_jax.errors import InputError
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


def _check_mask(name: str, mask: np.ndarray, count: int) -> None:
    if len(mask) != count:
        raise InputError(
            f"A {name} mask of {len(mask)} entries for {count} samples",
            "one entry per sample",
            "Build the mask over the same samples, in their order",
        )


def accuracies(
    train_correct: Bool[np.ndarray, " train"],
    test_correct: Bool[np.ndarray, " test"],
    forget: Bool[np.ndarray, " mask"],
    usable: Bool[np.ndarray, " test_mask"],
) -> Accuracies:
    """Accuracies from which samples are classified correctly.

    Args:
        train_correct: of the training set.
        test_correct: of the test split.
        forget: which training samples are forgotten.
        usable: which test samples may be used: False for remembrance samples, which some
            methods train on.

    Raises:
        InputError: a mask of another length, or an empty set.

    >>> train, test = np.array([True, True, True, False]), np.array([True, False])
    >>> forget, usable = np.array([True, True, False, False]), np.ones(2, bool)
    >>> accuracies(train, test, forget, usable)
    Accuracies(retain=50.0, forget=100.0, train=75.0, test=50.0)
    """
    _check_mask("forget", forget, len(train_correct))
    _check_mask("usable", usable, len(test_correct))
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
    forget: Bool[np.ndarray, " mask"],
    usable: Bool[np.ndarray, " test_mask"],
    unlearning_metric: float,
    control: Control = "all",
    seed: int = 0,
    reduction: float | None = None,
    online_s: float | None = None,
    offline_s: float | None = None,
    compile_s: float | None = None,
    online_flops: float | None = None,
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
        reduction: see ``Measurement``, as are the rest.
        online_s: seconds.
        offline_s: seconds.
        compile_s: seconds.
        online_flops: operations.

    Returns:
        The measurement. A model that has diverged (losses that are NaN) has ``mia`` NaN, so that
        it spoils its own row and not the table.

    Raises:
        InputError: a mask of another length, an empty set, too few samples for the attack.
    """
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
        reduction=reduction,
        online_s=online_s,
        offline_s=offline_s,
        compile_s=compile_s,
        online_flops=online_flops,
    )

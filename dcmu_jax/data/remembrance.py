"""Remembrance samples: a few images per class on which the final part is retrained."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from dcmu_jax.data.dataset import Dataset
from dcmu_jax.data.requests import ForgetRequest, RequestLike, as_request
from dcmu_jax.errors import InputError, check_at_least, check_seed, unknown_name

RemembranceMethod = Literal["first", "random"]
"""``first``: the paper's choice, in the order of the test split; ``random``: drawn by seed."""


def remembrance_samples(
    test: Dataset,
    per_class: int,
    *,
    method: RemembranceMethod,
    seed: int,
    setting: str = "per_class",
) -> Dataset:
    """``per_class`` samples of each class, taken from the test split.

    They are trained on, so no evaluation may see them: evaluate on
    ``test.without(remembrance.ids)``, which keeps at least one sample of every class.

    Args:
        test: the test split.
        per_class: samples per class (the paper's M, 10 there), 1 or more.
        method: ``first`` takes them in the order of the split (the paper), ``random`` draws them
            by ``seed``; with one seed a smaller set is part of a larger one.
        seed: for ``random`` only.
        setting: what a message says to lower where there are too many: the option of a command.

    Returns:
        The samples in the order of ``test``, with their ids.

    Raises:
        InputError: a class has too few test samples to leave one for evaluation.
    """
    seed = check_seed("seed", seed)
    if method not in get_args(RemembranceMethod):
        raise unknown_name("remembrance method", method, get_args(RemembranceMethod))
    check_at_least("per_class", per_class, 1)
    counts = np.bincount(test.labels, minlength=test.num_classes)
    scarce = int(counts.argmin())
    most = int(counts[scarce]) - 1
    if per_class > most:
        raise InputError(
            f"{per_class} remembrance samples per class, but class {scarce} has only "
            f"{counts[scarce]} test samples",
            f"1..{most} per class, so that one of each is left to evaluate on"
            if most > 0
            else "test sets with 2 samples of each class or more",
            f"Lower {setting} to {most}, or add test samples"
            if most > 0
            else f"Add test samples of class {scarce}",
        )
    chosen = []
    for label in range(test.num_classes):
        members = np.flatnonzero(test.labels == label)
        if method == "random":
            # A stream per class: the draw of one does not depend on the number of the others.
            members = np.random.default_rng([seed, label]).permutation(members)
        chosen.append(members[:per_class])
    return test.take(np.sort(np.concatenate(chosen)))


def allowed_remembrance(remembrance: Dataset, request: ForgetRequest) -> Dataset:
    """``remembrance`` without the samples of classes that ``request`` forgets wholly."""
    return remembrance.take(~np.isin(remembrance.labels, request.forgotten_classes))


def retained_samples(train: Dataset, request: RequestLike, per_class: int, seed: int) -> Dataset:
    """Remembrance samples out of the retain set instead: ``per_class`` of each class that stays.

    They are training samples: no test image is spent, but a network that has trained on them shows
    them more clearly than images it never saw. Drawn when the request is known, so the offline
    phase cannot use them.

    Args:
        train: the training set.
        request: what to forget; none of it is drawn.
        per_class: samples per class, 1 or more.
        seed: of the draw; with one seed a smaller set is part of a larger one.

    Raises:
        InputError: a class has too few retained samples.
    """
    seed = check_seed("seed", seed)
    check_at_least("per_class", per_class, 1)
    retain = train.without(as_request(request, train).ids)
    classes, counts = np.unique(retain.labels, return_counts=True)
    if per_class > counts.min():
        raise InputError(
            f"{per_class} remembrance samples per class out of the retain set, where class "
            f"{classes[counts.argmin()]} has {counts.min()}",
            f"1..{counts.min()} per class",
            "Take fewer remembrance samples",
        )
    chosen = [
        np.random.default_rng([seed, label]).permutation(np.flatnonzero(retain.labels == label))
        for label in classes
    ]
    return retain.take(np.sort(np.concatenate([members[:per_class] for members in chosen])))

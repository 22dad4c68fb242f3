"""Defence against membership inference: a network unlearns what it is overfitted on."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Literal

import numpy as np
from jaxtyping import Float

from dcmu_jax.applications.overfitted import Overfitted, overfitted_subset
from dcmu_jax.audits.lira import lira_scores
from dcmu_jax.data.dataset import Dataset
from dcmu_jax.data.selections import Mask
from dcmu_jax.errors import InputError, check_at_least, unknown_name
from dcmu_jax.metrics.overfitting import overfitting_metric
from dcmu_jax.training.classifier import Classifier
from dcmu_jax.unlearning.modular import ModularUnlearning

DefenceRule = Literal["otsu", "otsu_per_class", "quantile", "lira"]
DEFENCE_RULES: tuple[str, ...] = ("otsu", "otsu_per_class", "quantile", "lira")


@dataclasses.dataclass(frozen=True, eq=False)
class Defended:
    """The regularised network and what it unlearned.

    Attributes:
        classifier: the new network.
        subset: the overfitted samples.
        ids: int64, their ids, sorted.
    """

    classifier: Classifier
    subset: Overfitted
    ids: np.ndarray


def few_epochs(method: ModularUnlearning, epochs: int) -> ModularUnlearning:
    """``method`` cut to a few epochs: at most so many rounds, and so many passes in each step.

    The paper unlearns the overfitted subset "over few epochs" (section IV-E.1).

    Args:
        method: the online phase of a preset.
        epochs: 2 or more, so that a schedule with a tail keeps 0 < tail < rounds.
    """
    check_at_least("epochs", epochs, 2)
    rounds = min(method.rounds, epochs)
    tail = min(method.tail, max(rounds // 2, 1)) if method.tail else 0
    closing = tuple(
        dataclasses.replace(step, epochs=min(step.epochs, epochs)) for step in method.closing_steps
    )
    return dataclasses.replace(method, rounds=rounds, tail=tail, closing_steps=closing)


def exposed_values(
    original: Classifier,
    train: Dataset,
    rule: str,
    *,
    margins: Float[np.ndarray, " samples"] | None = None,
    shadows: Float[np.ndarray, "models samples"] | None = None,
    member: Mask | None = None,
) -> np.ndarray:
    """What the samples are chosen by: small where a sample is overfitted, or found out.

    Args:
        original: the network.
        train: what it was trained on.
        rule: for ``lira``, minus the LiRA score of each sample, online with a fixed variance; else
            OM.

    Other Args:
        margins: for ``lira``: the network's, of ``train``.
        shadows: for ``lira``: of shadow models, on the same samples.
        member: whether a shadow was trained on a sample.

    Raises:
        InputError: an unknown rule, or ``lira`` without shadows.
    """
    if rule not in DEFENCE_RULES:
        raise unknown_name("rule of the defence", rule, DEFENCE_RULES)
    if rule != "lira":
        return overfitting_metric(original, train).values
    if margins is None or shadows is None or member is None:
        raise InputError(
            "The rule 'lira' without shadow models",
            "margins of the network and of shadow models on its training samples",
            "Train a shadow population, or take the rule quantile",
        )
    return -lira_scores(margins, shadows, member)


def defend(
    original: Classifier,
    train: Dataset,
    unlearn: Callable[[np.ndarray], Classifier],
    *,
    values: Float[np.ndarray, " samples"],
    rule: str = "otsu",
    share: float = 0.2,
) -> Defended:
    """Choose the overfitted subset of ``train``, and unlearn it.

    Args:
        original: trained on ``train``; not changed.
        train: the training set; ids name what is unlearned, not positions.
        unlearn: given sorted ids, the network after modular unlearning of them.

    Other Args:
        values: see ``exposed_values``.
        rule: of the threshold; ``lira`` takes the ``quantile`` of its scores.
        share: see ``overfitted_subset``.

    Raises:
        InputError: as ``overfitted_subset``.
    """
    how = "quantile" if rule == "lira" else rule
    subset = overfitted_subset(values, train.labels, rule=how, share=share)
    subset = dataclasses.replace(subset, rule=rule)
    ids = np.sort(train.ids[subset.chosen])
    return Defended(unlearn(ids), subset, ids)

"""Retraining (R): a fresh network trained on the retain set. The reference of every comparison."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from dcmu_jax.unlearning.serving import Serving
from dcmu_jax.unlearning.task import (
    Hooks,
    Training,
    Unlearned,
    UnlearningTask,
    train_from_scratch,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Retraining:
    """Train from scratch on the retain set, exactly as the original was trained on everything.

    Its seed is the unlearning seed, so that it is not the original's initialisation again.
    """

    sees_forget_set: ClassVar[bool] = False

    def __call__(self, task: UnlearningTask, hooks: Hooks) -> Unlearned:
        """Retrain."""
        return retrain(task, hooks, task.training)


def retrain(
    task: UnlearningTask, hooks: Hooks, training: Training, method: str | None = None
) -> Unlearned:
    """A fresh network trained on the retain set, by any training.

    Args:
        task: the request.
        hooks: see ``Hooks``.
        training: how.
        method: name of a method other than the reference, for a seed of its own.
    """
    with Serving(task, hooks, method or "retrain") as serving:
        retain = task.retain()
        with hooks.progress("retraining", training.epochs) as progress:
            fitted = train_from_scratch(
                task.original.model,
                retain,
                training,
                task.seed if method is None else serving.seed,
                normalisation=task.original.normalisation if task.statistics == "given" else None,
                mesh=task.mesh,
                progress=progress,
                observe=serving.observe,
            )
    return serving.unlearned(fitted.classifier, retain.ids)

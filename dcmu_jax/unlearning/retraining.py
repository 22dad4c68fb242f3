"""Retraining (R): a fresh network trained on what stays. The reference of every comparison."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from dcmu_jax.training.timing import Stopwatch
from dcmu_jax.unlearning.task import Hooks, Unlearned, UnlearningTask, observer, train_from_scratch


@dataclasses.dataclass(frozen=True, kw_only=True)
class Retraining:
    """Train from scratch on the retain set, exactly as the original was trained on everything.

    Its seed is the unlearning seed, so that it is not the original's initialisation again.
    """

    sees_forget_set: ClassVar[bool] = False

    def __call__(self, task: UnlearningTask, hooks: Hooks) -> Unlearned:
        """Forget by never having seen."""
        watch = Stopwatch()
        with watch.running(), hooks.progress("retraining", task.training.epochs) as progress:
            retain = task.retain()
            fitted = train_from_scratch(
                task.original.model,
                retain,
                task.training,
                task.seed,
                normalisation=(task.original.normalisation if task.statistics == "given" else None),
                mesh=task.mesh,
                progress=progress,
                observe=observer(hooks, watch),
            )
        return Unlearned(
            fitted.classifier, watch.run_s, watch.compile_s, fitted.flops, 1.0, retain.ids
        )

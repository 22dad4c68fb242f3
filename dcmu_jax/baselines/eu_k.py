"""Exact unlearning of the last k parts (EU-k): train them from scratch on the retain set."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from dcmu_jax.baselines.cf_k import last_parts, train_parts
from dcmu_jax.training.optimizers import Optimizer
from dcmu_jax.unlearning.schedule import Reset, Step, reset_parts
from dcmu_jax.unlearning.serving import Serving
from dcmu_jax.unlearning.task import Hooks, Unlearned, UnlearningTask


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExactUnlearningLast:
    """Re-initialise the last k parts and train them on the retain set (EU-k; Goel et al., 2022).

    Exact for those parts alone: the parts below stay as they were trained on the forget set too.
    The source counts layers; here k counts the three parts of a network.

    Attributes:
        k: 1 for ``final``, 2 for ``intermediate`` and ``final``.
        epochs: passes over the retain set.
        batch_size: examples per step; 0 for all in one batch.
        optimizer: that of retraining.
    """

    sees_forget_set: ClassVar[bool] = False
    k: int = 1
    epochs: int = 30
    batch_size: int = 256
    optimizer: Optimizer = Optimizer(schedule="cosine")

    def _step(self) -> Step:
        return Step(
            parts=last_parts(self.k),
            epochs=self.epochs,
            batch_size=self.batch_size,
            optimizer=self.optimizer,
        )

    def check(self) -> None:
        """Raise ``InputError`` where a field makes no sense."""
        self._step().check()

    def __call__(self, task: UnlearningTask, hooks: Hooks) -> Unlearned:
        """Train fresh last parts on the retain set."""
        self.check()
        step = self._step()
        with Serving(task, hooks, "eu_k") as serving:
            retain, name = task.retain(), f"retraining {' and '.join(step.parts)}"
            resets = tuple(Reset(part=part) for part in step.parts)
            network = reset_parts(task.original, resets, serving.key("reset"))
            network = train_parts(serving, name, network, retain, step)
        return serving.unlearned(network, retain.ids)

"""Catastrophic forgetting (CF): go on training the original on the retain set."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from dcmu_jax.training.examples import Examples
from dcmu_jax.training.optimizers import Optimizer
from dcmu_jax.unlearning.serving import Serving
from dcmu_jax.unlearning.task import Hooks, Unlearned, UnlearningTask


@dataclasses.dataclass(frozen=True, kw_only=True)
class CatastrophicForgetting:
    """Fine-tune all parts of the original on the retain set (paper section V-A.2).

    Attributes:
        epochs: passes over the retain set; the paper has 30, or 10 when a class is forgotten.
        batch_size: examples per step.
        optimizer: Adam at 1e-3 as in the paper, with the schedule that retraining has.
    """

    sees_forget_set: ClassVar[bool] = False
    epochs: int = 30
    batch_size: int = 256
    optimizer: Optimizer = Optimizer(schedule="cosine")

    def __call__(self, task: UnlearningTask, hooks: Hooks) -> Unlearned:
        """Fine-tune on the retain set."""
        with Serving(task, hooks, "catastrophic_forgetting") as serving:
            retain = task.retain()
            network = serving.fit(
                "fine-tuning",
                task.original,
                Examples.of(retain.images, retain.labels),
                epochs=self.epochs,
                key=serving.key("catastrophic forgetting"),
                optimizer=self.optimizer,
                batch_size=self.batch_size,
            )
        return serving.unlearned(network, retain.ids)

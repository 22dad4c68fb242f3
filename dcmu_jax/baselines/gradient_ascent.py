"""Gradient ascent (GA): climb the loss on the forget set."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import numpy as np

from dcmu_jax.baselines.losses import scaled_cross_entropy
from dcmu_jax.training.examples import Examples
from dcmu_jax.training.optimizers import Optimizer
from dcmu_jax.unlearning.serving import Serving
from dcmu_jax.unlearning.task import Hooks, Unlearned, UnlearningTask


@dataclasses.dataclass(frozen=True, kw_only=True)
class GradientAscent:
    """Minimise -L(F), the negative cross-entropy on the forget set (Thudi et al., 2022).

    The loss has no bound: too many steps ruin the network, and nothing else holds it back.

    Attributes:
        epochs: passes over the forget set.
        batch_size: examples per step.
        optimizer: at a constant rate and a small one, since there is nothing to converge to.
    """

    sees_forget_set: ClassVar[bool] = True
    epochs: int = 5
    batch_size: int = 256
    optimizer: Optimizer = Optimizer(learning_rate=1e-4)

    def __call__(self, task: UnlearningTask, hooks: Hooks) -> Unlearned:
        """Ascend the loss on the forget set."""
        with Serving(task, hooks, "gradient_ascent") as serving:
            forget = task.forget()
            factors = np.full(len(forget), -1, np.float32)
            network = serving.fit(
                "gradient ascent",
                task.original,
                Examples.of(forget.images, forget.labels, targets=factors),
                epochs=self.epochs,
                optimizer=self.optimizer,
                batch_size=self.batch_size,
                loss=scaled_cross_entropy,
            )
        return serving.unlearned(network, forget.ids)

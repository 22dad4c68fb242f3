"""Sparsity (S): fine-tune the original on the retain set, with an L1 penalty that fades."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from dcmu_jax.training.examples import Examples
from dcmu_jax.training.optimizers import Optimizer
from dcmu_jax.unlearning.serving import Serving
from dcmu_jax.unlearning.task import Hooks, Unlearned, UnlearningTask


@dataclasses.dataclass(frozen=True, kw_only=True)
class SparsityUnlearning:
    r"""Catastrophic forgetting with :math:`\gamma_e \|\theta\|_1` on top (Jia et al., 2023).

    S of the paper's section V-A.2. The penalty is on all parameters, biases and those of BatchNorm
    included. The authors have :math:`\gamma_e = 10^{-4} (1 - e / (E - 15))` for e < E - 15 and 0
    after, with E epochs: it fades over the first half of 30. That half is kept here for every E:
    in their code the 10 epochs for a class never have a penalty, and S is then CF. Here it falls
    from step to step, and is theirs at the start of each epoch.

    Attributes:
        epochs: passes over the retain set; the paper has 30, or 10 when a class is forgotten.
        batch_size: examples per step.
        optimizer: that of catastrophic forgetting, with ``l1``, the penalty's factor at first, and
            ``l1_until``, the share of the training over which it fades.
    """

    sees_forget_set: ClassVar[bool] = False
    epochs: int = 30
    batch_size: int = 256
    optimizer: Optimizer = Optimizer(schedule="cosine", l1=1e-4, l1_until=0.5)

    def __call__(self, task: UnlearningTask, hooks: Hooks) -> Unlearned:
        """Fine-tune with the L1 penalty."""
        with Serving(task, hooks, "sparsity") as serving:
            retain = task.retain()
            network = serving.fit(
                "sparse fine-tuning",
                task.original,
                Examples.of(retain.images, retain.labels),
                epochs=self.epochs,
                optimizer=self.optimizer,
                batch_size=self.batch_size,
            )
        return serving.unlearned(network, retain.ids)

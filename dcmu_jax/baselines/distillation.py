"""Distillation (D): a fresh student learns the retain set from its labels and the original."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from dcmu_jax.baselines.losses import Distillation
from dcmu_jax.training.classifier import fresh_classifier
from dcmu_jax.training.examples import Examples
from dcmu_jax.training.optimizers import Optimizer
from dcmu_jax.unlearning.serving import Serving
from dcmu_jax.unlearning.task import Hooks, Unlearned, UnlearningTask


@dataclasses.dataclass(frozen=True, kw_only=True)
class DistillationUnlearning:
    r"""Train a fresh network on the retain set with the original as its teacher.

    The loss is :math:`CE + 0.1\, T^2\, KL(p_T(original) \| p_T(student))` (Hinton et al., 2015;
    paper section V-A.2). The student's initialisation is its own, not the
    retrained model's; its normalisation is found as that model's is.

    The original teaches in evaluation mode, from logits that are computed once. The authors left
    it in training mode, where dropout blurs what it says and its BatchNorm statistics drift.

    Attributes:
        cross_entropy: factor of the cross-entropy with the labels.
        divergence: factor of T^2 KL.
        temperature: T.
        epochs: passes over the retain set; the paper has 30, or 10 when a class is forgotten.
        batch_size: examples per step.
        optimizer: Adam at 1e-3 as in the paper, with the schedule that retraining has.
    """

    sees_forget_set: ClassVar[bool] = False
    cross_entropy: float = 1.0
    divergence: float = 0.1
    temperature: float = 4.0
    epochs: int = 30
    batch_size: int = 256
    optimizer: Optimizer = Optimizer(schedule="cosine")

    def _loss(self) -> Distillation:
        return Distillation(
            cross_entropy=self.cross_entropy,
            divergence=self.divergence,
            temperature=self.temperature,
        )

    def check(self) -> None:
        """Raise ``InputError`` where a field makes no sense."""
        self._loss().check()

    def __call__(self, task: UnlearningTask, hooks: Hooks) -> Unlearned:
        """Train the student."""
        self.check()
        loss = self._loss()
        with Serving(task, hooks, "distillation") as serving:
            retain, teacher = task.retain(), task.original
            normalisation = teacher.normalisation if task.statistics == "given" else None
            network = serving.fit(
                "distillation",
                fresh_classifier(teacher.model, retain, serving.seed, normalisation),
                Examples.of(retain.images, retain.labels, targets=teacher.logits(retain.images)),
                epochs=self.epochs,
                optimizer=self.optimizer,
                batch_size=self.batch_size,
                loss=loss,
            )
        return serving.unlearned(network, retain.ids)

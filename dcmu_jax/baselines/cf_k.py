"""Catastrophic forgetting of the last k parts (CF-k): fine-tune them on the retain set."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from dcmu_jax.data.dataset import Dataset
from dcmu_jax.errors import InputError
from dcmu_jax.networks.partition import PARTS, Part
from dcmu_jax.training.classifier import Classifier
from dcmu_jax.training.examples import Examples
from dcmu_jax.training.optimizers import Optimizer
from dcmu_jax.unlearning.schedule import Step, train_step
from dcmu_jax.unlearning.serving import Serving
from dcmu_jax.unlearning.task import Hooks, Unlearned, UnlearningTask


def last_parts(k: int) -> tuple[Part, ...]:
    """The last ``k`` parts of a network: 1 for ``final``, 2 for ``intermediate`` too."""
    if k not in (1, 2):
        raise InputError(
            f"k = {k} last parts",
            "1 (final) or 2 (intermediate and final)",
            "Choose 1 or 2; to train all three, use retraining or catastrophic forgetting",
        )
    return PARTS[-k:]


def train_parts(
    serving: Serving, name: str, classifier: Classifier, retain: Dataset, step: Step
) -> Classifier:
    """Train the parts of ``step`` on the retain set; those below are frozen and run but once."""
    with serving.hooks.progress(name, step.epochs) as progress:
        return train_step(
            step,
            classifier,
            Examples.of(retain.images, retain.labels),
            key=serving.key(name),
            mesh=serving.task.mesh,
            progress=progress,
            observe=serving.observe,
        ).classifier


@dataclasses.dataclass(frozen=True, kw_only=True)
class CatastrophicForgettingLast:
    """Fine-tune the last k parts of the original on the retain set (CF-k; Goel et al., 2022).

    The source counts layers; here k counts the three parts of a network. The parts below stay as
    they were trained on the forget set too, so what they know of it stays with them.

    Attributes:
        k: 1 for ``final``, 2 for ``intermediate`` and ``final``.
        epochs: passes over the retain set.
        batch_size: examples per step; 0 for all in one batch.
        optimizer: that of catastrophic forgetting.
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
        """Fine-tune the last parts on the retain set."""
        self.check()
        step = self._step()
        with Serving(task, hooks, "cf_k") as serving:
            retain, name = task.retain(), f"fine-tuning {' and '.join(step.parts)}"
            network = train_parts(serving, name, task.original, retain, step)
        return serving.unlearned(network, retain.ids)

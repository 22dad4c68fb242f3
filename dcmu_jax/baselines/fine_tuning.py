"""Training on the retain set alone: CF and S of all parts; CF-k and EU-k of the last."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from dcmu_jax.baselines.one_fit import Fit, OneFit, on
from dcmu_jax.errors import InputError
from dcmu_jax.networks.partition import PARTS, Part
from dcmu_jax.training.classifier import Classifier
from dcmu_jax.training.examples import Examples
from dcmu_jax.training.optimizers import Optimizer
from dcmu_jax.unlearning.schedule import Reset, Step, reset_parts, train_step
from dcmu_jax.unlearning.serving import Serving
from dcmu_jax.unlearning.task import Hooks, Unlearned, UnlearningTask


@dataclasses.dataclass(frozen=True, kw_only=True)
class CatastrophicForgetting(OneFit):
    """Fine-tune all parts of the original on the retain set (paper section V-A.2).

    Attributes:
        epochs: passes over the retain set; the paper has 30, or 10 when a class is forgotten.
        batch_size: examples per step.
        optimizer: Adam at 1e-3 as in the paper, with the schedule that retraining has.
    """

    sees_forget_set: ClassVar[bool] = False
    _names: ClassVar[tuple[str, str]] = ("catastrophic_forgetting", "fine-tuning")
    epochs: int = 30
    batch_size: int = 256
    optimizer: Optimizer = Optimizer(schedule="cosine")

    def _fit(self, serving: Serving) -> Fit:
        return on(serving.task.retain(), key=serving.key("catastrophic forgetting"))


@dataclasses.dataclass(frozen=True, kw_only=True)
class SparsityUnlearning(OneFit):
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
    _names: ClassVar[tuple[str, str]] = ("sparsity", "sparse fine-tuning")
    epochs: int = 30
    batch_size: int = 256
    optimizer: Optimizer = Optimizer(schedule="cosine", l1=1e-4, l1_until=0.5)

    def _fit(self, serving: Serving) -> Fit:
        return on(serving.task.retain())


def last_parts(k: int) -> tuple[Part, ...]:
    """The last ``k`` parts of a network: 1 for ``final``, 2 for ``intermediate`` too."""
    if k not in (1, 2):
        raise InputError(
            f"k = {k} last parts",
            "1 (final) or 2 (intermediate and final)",
            "Choose 1 or 2; to train all three, use retraining or catastrophic forgetting",
        )
    return PARTS[-k:]


class _LastParts:
    """Training of the last parts on the retain set; the parts below are frozen, and run but once.

    Attributes:
        k: 1 for ``final``, 2 for ``intermediate`` and ``final``.
        epochs: passes over the retain set.
        batch_size: examples per step; 0 for all in one batch.
        optimizer: see ``Optimizer``.
    """

    k: int
    epochs: int
    batch_size: int
    optimizer: Optimizer
    _names: ClassVar[tuple[str, str]]

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

    def _start(self, serving: Serving) -> Classifier:
        return serving.task.original

    def __call__(self, task: UnlearningTask, hooks: Hooks) -> Unlearned:
        """Train the last parts on the retain set."""
        self.check()
        step, (name, verb) = self._step(), self._names
        title = f"{verb} {' and '.join(step.parts)}"
        with Serving(task, hooks, name) as serving:
            retain, start = task.retain(), self._start(serving)
            with hooks.progress(title, step.epochs) as progress:
                network = train_step(
                    step,
                    start,
                    Examples.of(retain.images, retain.labels),
                    key=serving.key(title),
                    mesh=task.mesh,
                    callbacks=serving.callbacks(progress),
                ).classifier
        return serving.unlearned(network, retain.ids)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CatastrophicForgettingLast(_LastParts):
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
    _names: ClassVar[tuple[str, str]] = ("cf_k", "fine-tuning")
    k: int = 1
    epochs: int = 30
    batch_size: int = 256
    optimizer: Optimizer = Optimizer(schedule="cosine")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExactUnlearningLast(_LastParts):
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
    _names: ClassVar[tuple[str, str]] = ("eu_k", "retraining")
    k: int = 1
    epochs: int = 30
    batch_size: int = 256
    optimizer: Optimizer = Optimizer(schedule="cosine")

    def _start(self, serving: Serving) -> Classifier:
        resets = tuple(Reset(part=part) for part in last_parts(self.k))
        return reset_parts(serving.task.original, resets, serving.key("reset"))

"""Methods that learn from teachers: distillation (D), bad teaching (BD) and SCRUB."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import jax
import numpy as np

from dcmu_jax.baselines.losses import Distillation
from dcmu_jax.baselines.one_fit import Fit, OneFit, on_both
from dcmu_jax.errors import InputError, check_at_least, check_positive
from dcmu_jax.networks.partition import initialise
from dcmu_jax.training.arguments import Trainable
from dcmu_jax.training.classifier import Classifier, fresh_classifier
from dcmu_jax.training.examples import Examples
from dcmu_jax.training.optimizers import Optimizer
from dcmu_jax.unlearning.serving import Serving
from dcmu_jax.unlearning.task import Hooks, Unlearned, UnlearningTask


@dataclasses.dataclass(frozen=True, kw_only=True)
class DistillationUnlearning(OneFit):
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
    _names: ClassVar[tuple[str, str]] = ("distillation", "distillation")
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

    def _fit(self, serving: Serving) -> Fit:
        task, teacher, retain = serving.task, serving.task.original, serving.task.retain()
        normalisation = teacher.normalisation if task.statistics == "given" else None
        return Fit(
            Examples.of(retain.images, retain.labels, targets=teacher.logits(retain.images)),
            retain.ids,
            fresh_classifier(teacher.model, retain, serving.seed, normalisation),
            {"loss": self._loss()},
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class BadTeaching(OneFit):
    r"""Distil two teachers into the original (Chundawat et al., 2023; paper section V-A.2).

    .. math::
        \frac{1}{|F| + |R'|} \Big( \sum_{x \in F} KL(p_T(bad(x)) \,\|\, p_T(s(x)))
        + \sum_{x \in R'} KL(p_T(original(x)) \,\|\, p_T(s(x))) \Big)

    with a freshly initialised network ``bad`` and a share R' of the retain set, drawn once. The
    student s starts as the original; both teachers are in evaluation mode, their logits computed
    once.

    The paper's authors average over classes too, which makes their loss smaller by the number of
    classes; ``loss_scale=0.1`` is theirs for ten. Adam hardly notices.

    Attributes:
        share: of the retain set, how much is trained on: above 0, at most 1.
        temperature: T.
        loss_scale: factor of the loss.
        epochs: passes over F and R'; the paper has 30, or 10 when a class is forgotten.
        batch_size: examples per step.
        optimizer: Adam at 1e-3 as in the paper, with the schedule that retraining has.
    """

    sees_forget_set: ClassVar[bool] = True
    _names: ClassVar[tuple[str, str]] = ("bad_teaching", "bad teaching")
    share: float = 0.3
    temperature: float = 4.0
    loss_scale: float = 1.0
    epochs: int = 30
    batch_size: int = 256
    optimizer: Optimizer = Optimizer(schedule="cosine")

    def check(self) -> None:
        """Raise ``InputError`` where a field makes no sense."""
        if not 0 < self.share <= 1:
            raise InputError(
                f"share = {self.share!r}", "a number above 0, 1 at most", "Set share within (0, 1]"
            )
        check_positive("temperature", self.temperature)
        check_positive("loss_scale", self.loss_scale)

    def _fit(self, serving: Serving) -> Fit:
        good, forget, retain = serving.task.original, serving.task.forget(), serving.task.retain()
        random = initialise(good.model, serving.key("bad teacher"), good.image_shape)
        bad = dataclasses.replace(good, variables=random)
        order = np.asarray(jax.random.permutation(serving.key("retain share"), len(retain)))
        retain = retain.take(np.sort(order[: max(1, round(self.share * len(retain)))]))
        return on_both(
            forget,
            retain,
            targets=np.concatenate([bad.logits(forget.images), good.logits(retain.images)]),
            loss=Distillation(
                cross_entropy=0.0,
                divergence=self.loss_scale / self.temperature**2,  # no T^2 in this loss
                temperature=self.temperature,
            ),
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scrub:
    r"""A student that disobeys its teacher, the original, on F alone (Kurmanji et al., 2023).

    .. math::
        \min_s \; \alpha\, d(R) + \gamma\, CE(R) - d(F), \qquad
        d = T^2\, KL(p_T(original) \,\|\, p_T(s))

    The first ``max_epochs`` epochs are pairs: a pass over F that maximises d, a pass over R that
    minimises the rest. The others are passes over R. One optimizer state goes through all of them.
    The original teaches in evaluation mode, from logits that are computed once. As the student
    starts on its teacher, d is at its least at first, without a slope: the first step away is for
    dropout, BatchNorm and rounding to choose, and Adam makes it a step of full size.

    The defaults are those of the source's small experiments, batch sizes apart; its rate falls to
    a tenth at set epochs, which a state that goes on from call to call does not allow here.

    Attributes:
        alpha: factor of the divergence on the retain set.
        gamma: factor of the cross-entropy on the retain set.
        temperature: T.
        epochs: passes over the retain set.
        max_epochs: how many of them a pass over the forget set precedes.
        batch_size: examples per step on the retain set.
        forget_batch_size: examples per step on the forget set.
        optimizer: with a constant rate.
    """

    sees_forget_set: ClassVar[bool] = True
    alpha: float = 0.001
    gamma: float = 0.99
    temperature: float = 4.0
    epochs: int = 5
    max_epochs: int = 2
    batch_size: int = 256
    forget_batch_size: int = 256
    optimizer: Optimizer = Optimizer(learning_rate=5e-4)

    def check(self) -> None:
        """Raise ``InputError`` where a field makes no sense."""
        check_at_least("epochs", self.epochs, 1)
        check_at_least("max_epochs", self.max_epochs, 0)
        if self.max_epochs > self.epochs:
            raise InputError(
                f"max_epochs = {self.max_epochs} of {self.epochs} epochs",
                f"0 to {self.epochs}",
                "Raise epochs, so that each pass away from the teacher is followed by one back",
            )
        if self.optimizer.scheduled:
            raise InputError(
                f"The schedule {self.optimizer.schedule!r} for passes that go on from each other",
                "'constant' without l1",
                "Take 'constant'",
            )

    def __call__(self, task: UnlearningTask, hooks: Hooks) -> Unlearned:
        """Alternate between the forget set and the retain set."""
        self.check()
        keep = Distillation(
            cross_entropy=self.gamma, divergence=self.alpha, temperature=self.temperature
        )
        keep.check()
        turn = Distillation(cross_entropy=0.0, divergence=-1.0, temperature=self.temperature)
        with Serving(task, hooks, "scrub") as serving:
            sets = [
                Examples.of(part.images, part.labels, targets=task.original.logits(part.images))
                for part in (task.forget(), task.retain())
            ]
            network, opt_state = task.original, None

            def train(name: str, on: int, epochs: int) -> tuple[Classifier, Any]:
                fitted = serving.fitted(
                    name,
                    network,
                    sets[on],
                    epochs=epochs,
                    optimizer=self.optimizer,
                    parts=Trainable(opt_state=opt_state),
                    batch_size=(self.forget_batch_size, self.batch_size)[on],
                    loss=(turn, keep)[on],
                )
                return fitted.classifier, fitted.opt_state

            for epoch in range(self.max_epochs):
                network, opt_state = train(f"SCRUB, away from the teacher {epoch + 1}", 0, 1)
                network, opt_state = train(f"SCRUB, back {epoch + 1}", 1, 1)
            if self.epochs > self.max_epochs:
                network, _ = train("SCRUB, repair", 1, self.epochs - self.max_epochs)
        return serving.unlearned(network, task.train.ids)

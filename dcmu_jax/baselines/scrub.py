"""SCRUB: away from the original on the forget set, near it on the retain set, by turns."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

from dcmu_jax.baselines.losses import Distillation
from dcmu_jax.errors import InputError, check_at_least
from dcmu_jax.training.classifier import Classifier
from dcmu_jax.training.examples import Examples
from dcmu_jax.training.optimizers import Optimizer
from dcmu_jax.unlearning.serving import Serving
from dcmu_jax.unlearning.task import Hooks, Unlearned, UnlearningTask


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
                    opt_state=opt_state,
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

"""Retraining (R), the reference of every comparison, from scratch on the retain set; and fast."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from dcmu_jax.errors import check_at_least
from dcmu_jax.training.optimizers import Optimizer
from dcmu_jax.unlearning.schedule import batch_size_for
from dcmu_jax.unlearning.serving import Serving
from dcmu_jax.unlearning.task import (
    Hooks,
    Training,
    Unlearned,
    UnlearningTask,
    train_from_scratch,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Retraining:
    """Train from scratch on the retain set, exactly as the original was trained on everything.

    Its seed is the unlearning seed, so that it is not the original's initialisation again.
    """

    sees_forget_set: ClassVar[bool] = False

    def __call__(self, task: UnlearningTask, hooks: Hooks) -> Unlearned:
        """Retrain."""
        return retrain(task, hooks, task.training)


@dataclasses.dataclass(frozen=True, kw_only=True)
class FastRetraining:
    """A short schedule, large batches, smoothed labels and horizontal flips by turns.

    The ingredients are those by which CIFAR-10 is learnt in seconds (Jordan, 2024), without what
    would change the architecture. Guarantee: as for retraining, no forgotten sample has any part in
    the result. It is another network than the reference where the recipe generalises otherwise,
    so its gap to the reference says as much about the recipe as about forgetting.

    It is the baseline that a claim of time has to beat: the reference trains as the original did,
    which nobody chose for speed.

    Attributes:
        training: the recipe.
        min_steps: as of ``Step``: where the set is small, batches are halved until there are so
            many steps.
    """

    sees_forget_set: ClassVar[bool] = False
    training: Training = Training(
        epochs=10,
        batch_size=512,
        optimizer=Optimizer(learning_rate=3e-3, schedule="triangle"),
        crop=2,
        alternating_flip=True,
        label_smoothing=0.1,
    )
    min_steps: int = 300

    def check(self) -> None:
        """Raise ``InputError`` where a field makes no sense."""
        check_at_least("min_steps", self.min_steps, 0)
        check_at_least("training.epochs", self.training.epochs, 1)
        self.training.augmentation()  # checks itself

    def __call__(self, task: UnlearningTask, hooks: Hooks) -> Unlearned:
        """Retrain by the fast recipe."""
        self.check()
        training = self.training
        size = batch_size_for(
            training.epochs,
            training.batch_size,
            self.min_steps,
            len(task.train) - len(task.forget_ids),
            1 if task.mesh is None else task.mesh.shape["data"],
        )
        faster = dataclasses.replace(training, batch_size=size)
        return retrain(task, hooks, faster, "fast_retraining")


def retrain(
    task: UnlearningTask, hooks: Hooks, training: Training, method: str | None = None
) -> Unlearned:
    """A fresh network trained on the retain set, by any training.

    Args:
        task: the request.
        hooks: see ``Hooks``.
        training: how.
        method: name of a method other than the reference, for a seed of its own.
    """
    with Serving(task, hooks, method or "retrain") as serving:
        retain = task.retain()
        with hooks.progress("retraining", training.epochs) as progress:
            fitted = train_from_scratch(
                task.original.model,
                retain,
                training,
                task.seed if method is None else serving.seed,
                normalisation=task.original.normalisation if task.statistics == "given" else None,
                mesh=task.mesh,
                callbacks=serving.callbacks(progress),
            )
    return serving.unlearned(fitted.classifier, retain.ids)

"""Random labels (RL): learn wrong labels of the forget set and right ones of the retain set."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import numpy as np

from dcmu_jax.training.examples import Examples
from dcmu_jax.training.optimizers import Optimizer
from dcmu_jax.unlearning.serving import Serving
from dcmu_jax.unlearning.task import Hooks, Unlearned, UnlearningTask
from dcmu_jax.unlearning.wrong_labels import wrong_labels_among


def random_label_examples(serving: Serving) -> Examples:
    """The retain set, and the forget set with wrong labels, drawn once by the unlearning seed."""
    retain, forget = serving.task.retain(), serving.task.forget()
    classes = np.unique(serving.task.train.labels)
    wrong = wrong_labels_among(forget, classes, serving.key("wrong labels"))
    return Examples.of(
        np.concatenate([retain.images, forget.images]), np.concatenate([retain.labels, wrong])
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class RandomLabels:
    """Fine-tune on the retain set and on the forget set with wrong labels (amnesiac unlearning).

    Minimises L(R + F') where F' is F with labels drawn once, uniformly from the other classes
    (Graves et al., 2021). Codes that draw from all classes leave some samples their own.

    Attributes:
        epochs: passes over both sets.
        batch_size: examples per step.
        optimizer: that of catastrophic forgetting.
    """

    sees_forget_set: ClassVar[bool] = True
    epochs: int = 10
    batch_size: int = 256
    optimizer: Optimizer = Optimizer(schedule="cosine")

    def __call__(self, task: UnlearningTask, hooks: Hooks) -> Unlearned:
        """Fine-tune on right and wrong labels."""
        with Serving(task, hooks, "random_labels") as serving:
            network = serving.fit(
                "random labels",
                task.original,
                random_label_examples(serving),
                epochs=self.epochs,
                optimizer=self.optimizer,
                batch_size=self.batch_size,
            )
        return serving.unlearned(network, task.train.ids)

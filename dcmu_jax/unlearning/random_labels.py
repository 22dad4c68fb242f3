"""Random labels (RL): learn wrong labels of the forget set and right ones of the retain set."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax
import numpy as np
from jaxtyping import Int

from dcmu_jax.data.dataset import Dataset
from dcmu_jax.errors import InputError
from dcmu_jax.prng import Key, typed_key
from dcmu_jax.training.examples import Examples
from dcmu_jax.training.optimizers import Optimizer
from dcmu_jax.unlearning.serving import Serving
from dcmu_jax.unlearning.task import Hooks, Unlearned, UnlearningTask


def wrong_labels(labels: Int[np.ndarray, " n"], classes: int, key: Key) -> Int[np.ndarray, " n"]:
    """A label for each example, drawn uniformly from the ``classes - 1`` that are not its own."""
    if classes < 2:
        raise InputError(
            f"Wrong labels among {classes} class(es)", "2 or more", "Choose another method"
        )
    shift = np.asarray(jax.random.randint(typed_key(key), labels.shape, 1, classes))
    return ((labels + shift) % classes).astype(np.int32)


def wrong_labels_of(task: UnlearningTask, key: Key) -> Int[np.ndarray, " n"]:
    """Wrong labels for the forget set, of the classes that the training set has samples of."""
    return wrong_labels_among(task.forget(), np.unique(task.train.labels), key)


def wrong_labels_among(
    forget: Dataset, classes: Int[np.ndarray, " some"], key: Key
) -> Int[np.ndarray, " n"]:
    """Wrong labels for the forget set, of the classes that the training set has samples of.

    A class that became empty was forgotten: it is not taught again. Where one class alone is left,
    any other is wrong.

    Args:
        forget: the forget set.
        classes: ascending, those of ``forget`` among them.
        key: of the draw.
    """
    if len(classes) < 2:
        return wrong_labels(forget.labels, forget.num_classes, key)
    own = np.searchsorted(classes, forget.labels)
    return classes[wrong_labels(own, len(classes), key)].astype(np.int32)


def random_label_examples(serving: Serving) -> Examples:
    """The retain set, and the forget set with wrong labels, drawn once by the unlearning seed."""
    retain, forget = serving.task.retain(), serving.task.forget()
    wrong = wrong_labels_of(serving.task, serving.key("wrong labels"))
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

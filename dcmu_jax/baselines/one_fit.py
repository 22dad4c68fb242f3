"""Methods that are one fit: of which network, on which examples, by which loss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import numpy as np

from dcmu_jax.data.dataset import Dataset
from dcmu_jax.training.classifier import Classifier
from dcmu_jax.training.examples import Examples
from dcmu_jax.training.optimizers import Optimizer
from dcmu_jax.unlearning.serving import Serving
from dcmu_jax.unlearning.task import Hooks, Unlearned, UnlearningTask


class Fit(NamedTuple):
    """What a method fits.

    Attributes:
        examples: what is trained on.
        ids: of the training samples among them.
        start: where training starts; at the original if not given.
        options: further arguments of ``fit``, such as the loss or a mask.
    """

    examples: Examples
    ids: np.ndarray
    start: Classifier | None = None
    options: Mapping[str, Any] = {}


class OneFit:
    """The skeleton of such a method, a frozen dataclass of its settings: it says ``_fit``.

    What ``_fit`` computes is on the clock, and part of the request's cost.

    Attributes:
        epochs: passes over the examples.
        batch_size: examples per step.
        optimizer: see ``Optimizer``.
    """

    epochs: int
    batch_size: int
    optimizer: Optimizer
    _names: ClassVar[tuple[str, str]]
    """Of the method, under which it derives its keys; and of the fit, as the user is shown it."""

    def check(self) -> None:
        """Raise ``InputError`` where a field makes no sense."""

    def _fit(self, serving: Serving) -> Fit:
        raise NotImplementedError

    def __call__(self, task: UnlearningTask, hooks: Hooks) -> Unlearned:
        """Forget ``task.forget_ids``."""
        self.check()
        name, shown = self._names
        with Serving(task, hooks, name) as serving:
            fit = self._fit(serving)
            network = serving.fit(
                shown,
                fit.start or task.original,
                fit.examples,
                epochs=self.epochs,
                optimizer=self.optimizer,
                batch_size=self.batch_size,
                **fit.options,
            )
        return serving.unlearned(network, fit.ids)


def on(dataset: Dataset, start: Classifier | None = None, **options: Any) -> Fit:
    """A fit on a whole data set by its own labels."""
    return Fit(Examples.of(dataset.images, dataset.labels), dataset.ids, start, options)


def on_both(
    one: Dataset, other: Dataset, labels: Any = None, targets: Any = None, **options: Any
) -> Fit:
    """A fit on two data sets, one after the other.

    Args:
        one: comes first.
        other: comes second.
        labels: of ``other``, if not its own.
        targets: of all examples, where the loss has some.
        **options: see ``Fit``.
    """
    labels = other.labels if labels is None else labels
    examples = Examples.of(
        np.concatenate([one.images, other.images]),
        np.concatenate([one.labels, labels]),
        targets=targets,
    )
    return Fit(examples, np.concatenate([one.ids, other.ids]), None, options)

"""What is recorded while a stage runs: its epochs, and accuracies that its time does not count."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from dcmu_jax.data.dataset import Dataset, Splits
from dcmu_jax.data.requests import ForgetRequest
from dcmu_jax.data.selections import Mask, as_mask
from dcmu_jax.metrics.measurement import Trajectory
from dcmu_jax.training.callbacks import Progress
from dcmu_jax.training.classifier import Classifier
from dcmu_jax.unlearning.task import Hooks

_SAMPLES = 500


def logged(stage: str, shown: Any, log: Callable[..., None], observe: Any = None) -> Hooks:
    """Hooks of a stage that log every epoch.

    Args:
        stage: its name in the log.
        shown: progress as in ``Hooks``, told as well; nothing is shown if not given.
        log: takes the fields of a line.
        observe: as in ``Hooks``.
    """

    @contextlib.contextmanager
    def progress(name: str, epochs: int) -> Iterator[Progress]:
        with (shown or Hooks().progress)(f"{stage}: {name}", epochs) as show:

            def both(epoch: int, loss: float, accuracy: float) -> None:
                show(epoch, loss, accuracy)
                # A step that is no training has neither.
                known = {"loss": loss, "accuracy": accuracy} if math.isfinite(loss) else {}
                log(stage=stage, phase=name, epoch=epoch, **known)

            yield both

    return Hooks(progress, observe) if observe else Hooks(progress)


@dataclasses.dataclass(frozen=True)
class _Sets:
    retain: Dataset
    forget: Dataset
    test: Dataset


def _sample(dataset: Dataset, rng: np.random.Generator) -> Dataset:
    if len(dataset) <= _SAMPLES:
        return dataset
    return dataset.take(np.sort(rng.choice(len(dataset), _SAMPLES, replace=False)))


class TrajectoryRecorder:
    """Collects the points of a ``Trajectory``; called by methods through ``Hooks.observe``.

    It looks after the epochs 1, 2, 3, 4, 5, 7, 9, 12, ... of a method, each time at up to 500
    samples of the retain, forget and test set.
    """

    def __init__(
        self,
        method: str,
        splits: Splits,
        request: ForgetRequest,
        usable: Mask,
        original: Classifier,
    ):
        rng = np.random.default_rng(0)
        train = splits.train
        forget = np.isin(train.ids, request.ids)
        self._sets = _Sets(
            _sample(train.take(~forget), rng),
            _sample(train.take(forget), rng),
            _sample(splits.test.take(as_mask("usable mask", usable, (len(splits.test),))), rng),
        )
        self._method = method
        self._rows: list[tuple[float, float, float, float]] = []
        self._calls, self._next = 0, 1
        self._look(0.0, original)  # until the new model is there, the original serves

    def __call__(self, seconds: float, classifier: Classifier) -> None:
        """Measure, if this epoch is to be measured."""
        self._calls += 1
        if self._calls >= self._next:
            self._next = max(self._next + 1, round(self._next * 1.35))
            self._look(seconds, classifier)

    def finish(self, seconds: float, classifier: Classifier) -> Trajectory:
        """Measure the final network and return all points."""
        if self._rows[-1][0] >= seconds:
            self._rows.pop()
        self._look(seconds, classifier)
        columns = tuple(zip(*self._rows, strict=True))
        return Trajectory(
            method=self._method,
            seconds=columns[0],
            retain=columns[1],
            forget=columns[2],
            test=columns[3],
        )

    def _look(self, seconds: float, classifier: Classifier) -> None:
        accuracies = [
            100 * float(classifier.evaluate(dataset).correct.mean())
            for dataset in (self._sets.retain, self._sets.forget, self._sets.test)
        ]
        self._rows.append((seconds, accuracies[0], accuracies[1], accuracies[2]))

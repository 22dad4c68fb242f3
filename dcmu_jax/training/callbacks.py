"""What a training calls after every epoch: progress, observation, checkpoints, one's own."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from dcmu_jax.errors import InputError
from dcmu_jax.training.classifier import Classifier


@dataclasses.dataclass(frozen=True, eq=False)
class EpochEnd:
    """A training at the end of one of its epochs, as every callback is given it.

    Network and state are valid only during the call: their arrays are given to the next epoch.

    Attributes:
        number: epochs done, those before a resumption included.
        epochs: how many there are to be.
        history: mean loss and accuracy (%) of each epoch done; in a population arrays over its
            networks.
        seconds: of training so far, compilation and callbacks apart.
        read_state: gives ``state``.
        assemble: makes ``network`` of it.
    """

    number: int
    epochs: int
    history: Sequence[tuple[Any, Any]]
    seconds: float
    read_state: Callable[[], Any]
    assemble: Callable[[Any], Classifier]

    @property
    def losses(self) -> tuple[float, ...]:
        """Mean training loss of each epoch done; of a population, the mean over its networks."""
        return tuple(float(np.mean(loss)) for loss, _ in self.history)

    @property
    def loss(self) -> float:
        """Mean training loss of this epoch; of a population, the mean over its networks."""
        return float(np.mean(self.history[-1][0]))

    @property
    def accuracy(self) -> float:
        """Training accuracy (%) in this epoch; of a population, the mean over its networks."""
        return float(np.mean(self.history[-1][1]))

    @property
    def state(self) -> Any:
        """The ``TrainState``: parameters, statistics, the optimizer's state."""
        return self.read_state()

    @property
    def network(self) -> Classifier:
        """The network as it is now; of a population all of them, stacked."""
        return self.assemble(self.state)


Callback = Callable[[EpochEnd], Any]
"""Called after every epoch, off the clock, in the order given. One that returns ``True`` ends the
training there. It decides by what it is given, such as ``losses``, so that a training that is
resumed ends where it would have ended; in a run of several processes, all must decide alike."""

Progress = Callable[[int, float, float], None]
"""Told the epochs done, mean loss and accuracy (%)."""


def reporting(progress: Progress | None) -> tuple[Callback, ...]:
    """The callback that tells ``progress`` of every epoch; none for ``None``."""
    if progress is None:
        return ()
    return (lambda now: progress(now.number, now.loss, now.accuracy),)


def says_true(answer: Any) -> bool:
    """Whether a callback ends the training: True of Python, of NumPy, or of JAX.

    >>> says_true(np.True_), says_true(jax.numpy.asarray(True)), says_true(1), says_true("yes")
    (True, True, False, False)
    """
    single = isinstance(answer, np.ndarray | jax.Array) and answer.ndim == 0
    plain = answer.item() if single else answer
    return isinstance(plain, bool | np.bool_) and bool(plain)


def check_callbacks(callbacks: Sequence[Callback] | Any) -> tuple[Callback, ...]:
    """The callbacks; raises ``InputError`` for what cannot be called."""
    if not isinstance(callbacks, Sequence) or not all(map(callable, callbacks)):
        raise InputError(
            f"Callbacks given as {callbacks!r:.80}",
            "a tuple of functions of an EpochEnd",
            "Give callbacks=(function,), or () for none",
        )
    return tuple(callbacks)

"""Diverged training: how it is detected, and its error message."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from dcmu_jax.errors import InputError

if TYPE_CHECKING:  # it loads no network
    from dcmu_jax.training.classifier import Classifier


_RATE = "optimizer.learning_rate"


class Diverged(InputError):
    """A training or optimisation whose loss or result is no longer finite.

    Args:
        found: what is not finite, and when.
        option: the setting that is most likely at fault, as fields joined by dots; "" for none.
        value: of it.
        stage: what was being done.
        place: where to set it otherwise, if that is not where it was set.
    """

    def __init__(
        self, found: str, option: str = "", value: float = 0, stage: str = "", place: str = ""
    ):
        self.found, self.option, self.value = found, option, value
        self.stage, self.place = stage, place
        typed = option if not option.startswith("--") else option.replace("_", "-")
        super().__init__(
            f"{stage or 'A training'} diverged: {found}"
            + (f", with {typed} = {value:g}" if option else ""),
            "losses and results that are finite numbers; nothing of this stage was kept",
            f"Set {typed} below {value:g}{place}" if option else f"Change its settings{place}",
        )

    def __reduce__(self) -> Any:
        return type(self), (self.found, self.option, self.value, self.stage, self.place)


@contextlib.contextmanager
def during(stage: str = "", within: str = "", place: str = "", option: str = "") -> Iterator[None]:
    """Tell a ``Diverged`` from inside what was being done and where its setting is found.

    Args:
        stage: what is being done, for those from inside that name no stage.
        within: put before the name of the setting: ``--method.online.``.
        place: see ``Diverged``.
        option: the setting's name here, if it is another than inside.
    """
    try:
        yield
    except Diverged as error:
        name = (option or error.option) if error.option else ""  # by optax there is none
        raise Diverged(
            error.found,
            within + name if name else "",
            error.value,
            f"{stage} ({error.stage})" if stage and error.stage else stage or error.stage,
            place or error.place,
        ) from error


def check_losses(losses: Any, epoch: int, epochs: int, rate: float | None) -> None:
    """Raise ``Diverged`` unless the mean loss of an epoch is finite.

    Args:
        losses: of one network, or of each network of a population.
        epoch: which it is, from 1.
        epochs: of how many.
        rate: the learning rate, if it is known.
    """
    for number in np.flatnonzero(~np.isfinite(losses))[:1].tolist():
        who = f" of network {number}" if np.ndim(losses) else ""
        found = float(np.ravel(losses)[number])
        raise _at_rate(f"the loss{who} is {found} in epoch {epoch} of {epochs}", rate)


def check_parameters(tree: Any, rate: float | None) -> None:
    """Raise ``Diverged`` unless parameters and statistics are finite after the last epoch."""
    if not all_finite(tree):
        raise _at_rate("parameters are not finite after the last epoch", rate)


def _at_rate(found: str, rate: float | None) -> Diverged:
    """The error of a training at a learning rate; None where the user's optimizer keeps it."""
    return Diverged(found) if rate is None else Diverged(found, _RATE, rate)


def check_outputs(classifier: Classifier, pixels: np.ndarray) -> None:
    """Raise ``Diverged`` unless a network's logits are finite: its parameters may be and be huge.

    Args:
        classifier: the network.
        pixels: a few images ``(N, H, W, C)``.
    """
    if not all_finite(classifier.logits(pixels)):
        raise Diverged("the network gives logits that are not finite")


def all_finite(tree: Any) -> bool:
    """Whether every number of every floating-point array in a tree is finite.

    On the host: nothing is compiled.
    """
    arrays = (np.asarray(leaf) for leaf in jax.tree.leaves(tree))
    return all(bool(np.isfinite(a).all()) for a in arrays if jnp.issubdtype(a.dtype, jnp.inexact))

"""Optimizers: hashable settings that build an optax transformation, or one of the user's own."""

from __future__ import annotations

import dataclasses
import functools
from typing import Annotated, Any, Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import optax
import pydantic
import tyro
from jaxtyping import Array

from dcmu_jax.errors import InputError, check_at_least, check_positive, unknown_name


class _Steps(NamedTuple):
    taken: Array


def _add_l1_gradient(factor: optax.Schedule) -> optax.GradientTransformation:
    """Adds the (sub)gradient of ``factor(step)`` times the sum of absolute values."""

    def init(params: optax.Params) -> optax.OptState:
        del params
        return _Steps(jnp.zeros((), jnp.int32))

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, optax.OptState]:
        now = factor(state.taken)
        updates = jax.tree.map(lambda g, p: g + now * jnp.sign(p), updates, params)
        return updates, _Steps(state.taken + 1)

    return optax.GradientTransformation(init, update)


def _triangle(peak: float, steps: int, step: Any) -> Array:
    """The learning rate of a step, counted from 0; above zero for every step."""
    rise = max(1, steps // 5)
    return peak * jnp.clip(jnp.minimum((step + 1) / rise, (steps - step) / (steps - rise + 1)), 0)


_NAMES = ("adam", "adamw", "sgd", "sgd_l2")
_SCHEDULES = ("constant", "cosine", "step", "triangle")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Optimizer:
    """An optimizer by name and numbers.

    Two equal values are one key of the compilation cache, which two optax closures would not be.

    Attributes:
        name: adam, adamw, sgd, or sgd_l2: sgd with the decay added to the gradient, as PyTorch
            has it.
        learning_rate: the (peak) learning rate.
        schedule: constant; cosine from ``learning_rate`` to 0 over the steps of the call; step, a
            tenth of it for the second half of them; or triangle, in a straight line from 0 to it
            over the first fifth of them, and back to 0.
        momentum: of sgd and sgd_l2.
        nesterov: of sgd and sgd_l2: momentum that looks ahead.
        weight_decay: of adamw and sgd_l2.
        l1: factor of the sum of absolute parameter values that the loss is charged with, all
            parameters alike. It falls to 0 in a straight line,
        l1_until: over this share of the steps of the call, and stays there.
    """

    name: Literal["adam", "adamw", "sgd", "sgd_l2"] = "adam"
    learning_rate: float = 1e-3
    schedule: Literal["constant", "cosine", "step", "triangle"] = "constant"
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 1e-4
    l1: float = 0.0
    l1_until: float = 0.5

    @property
    def scheduled(self) -> bool:
        """Whether a step depends on how many there are in all, so that no call can go on."""
        return self.schedule != "constant" or self.l1 > 0

    def check(self) -> None:
        """Raise ``InputError`` for a name or number that makes no sense."""
        if self.name not in _NAMES:
            raise unknown_name("optimizer", self.name, _NAMES)
        if self.schedule not in _SCHEDULES:
            raise unknown_name("schedule", self.schedule, _SCHEDULES)
        check_positive("learning_rate", self.learning_rate)
        check_at_least("momentum", self.momentum, 0)
        check_at_least("weight_decay", self.weight_decay, 0)
        check_at_least("l1", self.l1, 0)
        if not 0 < self.l1_until <= 1:
            raise InputError(
                f"l1_until = {self.l1_until!r}",
                "a number above 0, 1 at most",
                "Set l1_until within (0, 1]",
            )

    def build(self, steps: int) -> optax.GradientTransformation:
        """The optax transformation for a call of ``steps`` steps in all."""
        if not self.l1:
            return self._build(steps)
        factor = optax.linear_schedule(self.l1, 0.0, max(1, round(self.l1_until * steps)))
        return optax.chain(_add_l1_gradient(factor), self._build(steps))

    def _build(self, steps: int) -> optax.GradientTransformation:
        rate: float | optax.Schedule = self.learning_rate
        if self.schedule == "cosine":
            rate = optax.cosine_decay_schedule(self.learning_rate, max(steps, 1))
        if self.schedule == "step":
            # Steps count from 0; of an odd number the middle one is still at the full rate.
            rate = optax.piecewise_constant_schedule(self.learning_rate, {(steps + 1) // 2: 0.1})
        if self.schedule == "triangle":
            rate = functools.partial(_triangle, self.learning_rate, steps)
        if self.name == "adam":
            return optax.adam(rate)
        if self.name == "adamw":
            return optax.adamw(rate, weight_decay=self.weight_decay)
        sgd = optax.sgd(rate, momentum=self.momentum or None, nesterov=self.nesterov)
        if self.name == "sgd_l2":
            return optax.chain(optax.add_decayed_weights(self.weight_decay), sgd)
        return sgd


@dataclasses.dataclass(frozen=True)
class _Given:
    """A user's optax transformation in place of an ``Optimizer``."""

    transformation: optax.GradientTransformation
    scheduled = False  # its schedule, if it has one, counts in its state and goes on
    learning_rate = None

    def check(self) -> None:
        pass

    def build(self, steps: int) -> optax.GradientTransformation:
        del steps
        return self.transformation


OptimizerLike: TypeAlias = Optimizer | optax.GradientTransformation
"""Wherever a function trains: an ``Optimizer``, or any optax transformation.

A transformation is a key of the compilation cache by identity: make it once, outside of loops.
"""

OptimizerField: TypeAlias = Annotated[
    OptimizerLike,
    pydantic.GetPydanticSchema(lambda _, handler: handler(Optimizer)),
    tyro.conf.arg(constructor=Optimizer),
]
"""A field of settings: in Python either; files and the command line know an ``Optimizer`` alone."""


def as_optimizer(given: Any) -> Any:
    """What ``fit`` works with, checked: it has ``build``, ``scheduled`` and ``learning_rate``.

    Raises:
        InputError: neither an ``Optimizer`` nor an optax transformation, or settings that make no
            sense.

    >>> as_optimizer(optax.sgd(0.1)).scheduled, as_optimizer(Optimizer()).learning_rate
    (False, 0.001)
    """
    if isinstance(given, Optimizer | _Given):
        given.check()
        return given
    if isinstance(given, optax.GradientTransformation):
        return _Given(given)
    named = f"the text {given!r}" if isinstance(given, str) else f"a {type(given).__name__}"
    raise InputError(
        f"An optimizer given as {named}",
        "an Optimizer of dcmu_jax.training.optimizers, or an optax transformation",
        "Give one, such as optax.adam(1e-3)",
    )


def check_state(state: Any, fresh: Any) -> None:
    """Raise unless an optimizer's state has the structure and shapes of a fresh one.

    Args:
        state: to go on from.
        fresh: arrays, or their shapes, as the optimizer starts from on these parameters.
    """
    found, wanted = (
        jax.tree.map(lambda leaf: (jnp.shape(leaf), jnp.result_type(leaf)), tree)
        for tree in (state, fresh)
    )
    if found != wanted:
        raise InputError(
            "An opt_state of another optimizer or of other parts",
            "the opt_state of an earlier call with the same optimizer and parts",
            "Leave opt_state out to start fresh",
        )

"""Optimizers: hashable settings that build an optax transformation, or one of the user's own."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable
from typing import Annotated, Any, Literal, NamedTuple, TypeAlias, get_args

import jax
import jax.numpy as jnp
import optax
import pydantic
from jaxtyping import Array

from dcmu_jax.errors import InputError, check_at_least, check_positive, kind_of, unknown_name
from dcmu_jax.extensions import said_of


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


_Name = Literal["adam", "adamw", "sgd", "sgd_l2"]
_Schedule = Literal["constant", "cosine", "step", "triangle"]

OfRate: TypeAlias = Callable[..., Any]
"""A function of a learning rate, or of a schedule of it, that returns an optax transformation."""


def _for_tyro(make: Callable[[Any], Any]) -> Any:
    """What tells tyro about a field, where it is installed: the command line alone needs it."""
    try:
        import tyro
    except ModuleNotFoundError:
        return None
    return make(tyro)


NameField: TypeAlias = Annotated[
    _Name | OfRate,
    pydantic.GetPydanticSchema(lambda _, handler: handler(_Name)),
    _for_tyro(
        lambda tyro: tyro.constructors.PrimitiveConstructorSpec(
            nargs=1,
            metavar=f"{{{','.join(get_args(_Name))}}}",
            instance_from_str=lambda given: given[0],
            is_instance=lambda value: isinstance(value, str),
            str_from_instance=lambda value: [value],
            choices=get_args(_Name),
        )
    ),
]
"""In Python either; files and the command line know the names alone."""


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
            parameters alike. The factor falls to 0 in a straight line.
        l1_until: the share of all steps after which the factor of l1 has fallen to 0; it stays
            there.
    """

    name: NameField = "adam"
    learning_rate: float = 1e-3
    schedule: _Schedule = "constant"
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
        if callable(self.name):
            _check_function(self.name, self.learning_rate)
        elif self.name not in get_args(_Name):
            raise unknown_name("optimizer", self.name, get_args(_Name))
        if self.schedule not in get_args(_Schedule):
            raise unknown_name("schedule", self.schedule, get_args(_Schedule))
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
        if callable(self.name):
            return self.name(rate)
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


OptimizerLike: TypeAlias = Optimizer | optax.GradientTransformation | OfRate
"""Wherever a function trains: an ``Optimizer``, any optax transformation, or a function of the
learning rate that returns one, such as ``optax.lion``: short for ``Optimizer(name=optax.lion)``,
which has schedule and l1 as by name; decay and momentum are for the function to set.

Programs are compiled for the object, so make it once, outside of loops.
"""

OptimizerField: TypeAlias = Annotated[
    OptimizerLike,
    pydantic.GetPydanticSchema(lambda _, handler: handler(Optimizer)),
    _for_tyro(lambda tyro: tyro.conf.arg(constructor=Optimizer)),
]
"""A field of settings: in Python any of them; files and the command line know an ``Optimizer`` by
name alone."""


def as_optimizer(given: Any) -> Any:
    """What ``fit`` works with, checked: it has ``build``, ``scheduled`` and ``learning_rate``.

    Raises:
        InputError: none of ``OptimizerLike``, settings that make no sense, or a transformation
            whose ``update`` needs more than gradients, state and parameters.

    >>> as_optimizer(optax.sgd(0.1)).scheduled, as_optimizer(optax.lion).learning_rate
    (False, 0.001)
    """
    if isinstance(given, optax.GradientTransformation):
        given = _Given(given)
    elif callable(given):
        given = Optimizer(name=given)
    if not isinstance(given, Optimizer | _Given):
        named = f"the text {given!r}" if isinstance(given, str) else kind_of(given)
        raise _no_optimizer(named)
    given.check()
    check_update(given, {"any": jax.ShapeDtypeStruct((2,), jnp.float32)}, stand_in=True)
    return given


def _no_optimizer(shown: str) -> InputError:
    return InputError(
        f"An optimizer given as {shown}",
        "an Optimizer of dcmu_jax.training.optimizers, an optax transformation, or a function of "
        "the learning rate that returns one",
        "Give one, such as optax.adam(1e-3) or optax.adam",
    )


def _check_function(make: OfRate, rate: float) -> None:
    """Raise unless a function of the learning rate returns an optax transformation."""
    shown = f"the function {getattr(make, '__name__', type(make).__name__)}"
    try:
        found = make(rate)
    except TypeError as error:
        raise _no_optimizer(f"{shown}, which takes no learning rate ({error})") from error
    if not isinstance(found, optax.GradientTransformation):
        raise _no_optimizer(f"{shown}, which returns {kind_of(found)}")


def check_update(optimizer: Any, params: Any, stand_in: bool = False) -> None:
    """Raise unless an optimizer's ``update`` serves these parameters.

    It needs gradients, state and parameters alone, and gives updates like the parameters and a
    state like the one before.

    Args:
        optimizer: of ``as_optimizer``.
        params: arrays or their shapes.
        stand_in: they are not those of the network, so that an error may come of that.
    """
    if isinstance(optimizer, _Given) or callable(optimizer.name):
        leaves, structure = jax.tree.flatten(params)
        _check_update(optimizer, structure, tuple((x.shape, x.dtype) for x in leaves), stand_in)


@functools.lru_cache(maxsize=64)
def _check_update(optimizer: Any, structure: Any, shapes: tuple, stand_in: bool) -> None:
    """``check_update``, once for each optimizer and shapes."""
    params = jax.tree.unflatten(structure, [jax.ShapeDtypeStruct(*shape) for shape in shapes])
    transform = optimizer.build(1)
    try:
        state = jax.eval_shape(transform.init, params)
        updates, after = jax.eval_shape(transform.update, params, state, params)
    except Exception as error:  # whatever a user's function may raise
        if stand_in and not _wants_more(error):
            return
        raise _no_update(error) from error
    if stand_in:
        return
    if not _is_like(after, state):
        raise InputError(
            "An optax transformation whose update returns another state than it was given "
            f"({_shown(after)} in place of {_shown(state)})",
            "a state of the same structure, shapes and types",
            "Return from update a state that is made like that of init",
        )
    try:
        moved = jax.eval_shape(optax.apply_updates, params, updates)
    except Exception:  # whatever cannot be added to the parameters
        moved = None
    if moved is None or not _is_like(moved, params):
        raise InputError(
            "An optax transformation whose update returns updates that cannot be added to the "
            f"parameters ({_shown(updates)} for {_shown(params)})",
            "an update of the same shape for each array of parameters",
            "Return from update (updates, state), updates being a tree like the gradients",
        )


def _wants_more(error: Exception) -> bool:
    return isinstance(error, TypeError) and "required keyword-only argument" in str(error)


def _no_update(error: Exception) -> InputError:
    """What is wrong with a transformation that failed."""
    if _wants_more(error):
        wanted = ", ".join(re.findall(r"'(\w+)'", str(error)))
        return InputError(
            f"An optax transformation whose update needs {wanted} besides",
            "one that needs gradients, state and parameters alone",
            "Give one such as optax.adam(1e-3); lbfgs and polyak_sgd are of the other kind",
        )
    return InputError(
        f"An optax transformation that fails ({said_of(error)})",
        "one whose init takes the parameters, and whose update takes gradients, state and "
        "parameters and returns (updates, state)",
        "Try its init and update on the params of the network's variables",
    )


def _is_like(found: Any, wanted: Any) -> bool:
    """Whether a step can go on from what it made: of weak types JAX takes the stronger."""
    if jax.tree.structure(found) != jax.tree.structure(wanted):
        return False
    pairs = zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True)
    return all(a.shape == b.shape and (b.weak_type or a.dtype == b.dtype) for a, b in pairs)


def _shown(tree: Any) -> str:
    """A tree of arrays for a message."""
    leaves = jax.tree.leaves(tree)
    return f"{jax.tree.map(lambda leaf: leaf.shape, tree)!r:.80}" if leaves else "nothing"


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

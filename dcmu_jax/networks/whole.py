"""A module that is not written in three parts: its parameters are assigned to parts by patterns.

``Whole`` is a module in three parts to the rest of the library. Its parts hold the parameters and
statistics that were assigned to them, and hand them on; the last one runs the user's module on all
of them. So a part is frozen as any other is: no gradient is computed by its parameters, its
BatchNorm stays on its statistics and its dropout off. But the parts cannot be run one by one, so
nothing below the lowest part that trains is cached (``runs_by_part``).
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Collection, Mapping
from typing import Any, Protocol, cast, runtime_checkable

import flax.linen as nn
import jax
from flax.traverse_util import flatten_dict, unflatten_dict

from dcmu_jax.errors import InputError, unknown_name
from dcmu_jax.networks.partition import PARTS, check_kind, mode_of
from dcmu_jax.networks.patterns import Patterns, labels_of

_COLLECTIONS = ("params", "batch_stats")


@runtime_checkable
class Inner(Protocol):
    """What ``Whole`` needs of the kind of module that a user brings; hashable."""

    @property
    def name(self) -> str:
        """Of the user's class."""
        ...

    def fresh(self, key: Any, x: Any) -> dict[str, Any]:
        """Parameters and statistics, newly initialised, as nested dictionaries of the user's."""
        ...

    def run(
        self, variables: Mapping[str, Any], x: Any, switch: Switch, dropout_key: Any
    ) -> tuple[Any, Any]:
        """Outputs, and the new statistics (``{}`` where nothing trains)."""
        ...

    def watched(self, variables: Mapping[str, Any], x: Any, note: Note) -> None:
        """Run in evaluation mode, ``note`` being told of every layer as it is called."""
        ...


Note = Callable[[str, Any, Any], None]
"""``note(path, input, output)`` of a layer."""


@dataclasses.dataclass(frozen=True)
class LinenInner:
    """A Linen module, in a box: Linen shall not take it for a layer of the one it is a field of."""

    module: nn.Module

    @property
    def name(self) -> str:
        """Of its class."""
        return type(self.module).__name__

    def fresh(self, key: Any, x: Any) -> dict[str, Any]:
        """See ``Inner``."""
        return dict(self.module.init(key, x, **cast(Any, mode_of(self.module, False))))

    def run(
        self, variables: Mapping[str, Any], x: Any, switch: Switch, dropout_key: Any
    ) -> tuple[Any, Any]:
        """See ``Inner``."""
        training = switch.mode
        rngs = {} if dropout_key is None else {"dropout": dropout_key}
        with nn.intercept_methods(functools.partial(_in_linen, switch)):
            found: Any = self.module.apply(
                variables,
                x,
                **cast(Any, mode_of(self.module, training)),
                rngs=rngs,
                mutable=["batch_stats"] if training else False,
            )
        if not training:
            return found, {}
        return found[0], found[1].get("batch_stats", {})

    def watched(self, variables: Mapping[str, Any], x: Any, note: Note) -> None:
        """See ``Inner``."""

        def watch(following: Any, args: Any, kwargs: Any, context: Any) -> Any:
            outputs = following(*args, **kwargs)
            if context.method_name == "__call__" and context.module.path and args:
                note("/".join(context.module.path), args[0], outputs)
            return outputs

        with nn.intercept_methods(watch):
            self.module.apply(variables, x, **cast(Any, mode_of(self.module, False)))


@dataclasses.dataclass(frozen=True)
class Switch:
    """Which layers are in training mode: those of parts that train.

    A layer without parameters (dropout) is of the part that the layers beside it are in, if they
    are in one; of several, it is on while one of them trains.

    Attributes:
        labels: path -> part.
        training: the parts that train.
        outer: what the module itself is told, by an argument of its ``__call__``; whether a part
            trains, unless said.
    """

    labels: dict[str, str]
    training: frozenset[str]
    outer: bool | None = None

    @property
    def mode(self) -> bool:
        """What the module itself is told."""
        return bool(self.training) if self.outer is None else self.outer

    def trains(self, path: tuple[str, ...]) -> bool:
        """Whether the layer at a path is in training mode."""
        if not self.training:
            return False
        for depth in range(len(path), -1, -1):
            prefix = "".join(f"{name}/" for name in path[:depth])
            owners = {part for name, part in self.labels.items() if name.startswith(prefix)}
            if owners:
                return bool(owners & self.training)
        return True


def _in_linen(switch: Switch, following: Any, args: Any, kwargs: Any, context: Any) -> Any:
    """Puts layers of frozen parts into evaluation mode, whatever the module around says."""
    module = context.module
    switched = context.method_name == "__call__" and isinstance(module, nn.BatchNorm | nn.Dropout)
    if not switched or switch.trains(module.path):
        return following(*args, **kwargs)
    flag = "use_running_average" if isinstance(module, nn.BatchNorm) else "deterministic"
    if len(args) > 1:
        return following(args[0], True, *args[2:], **kwargs)
    if getattr(module, flag) is not None:  # set as a field, where no argument may say it too
        object.__setattr__(module, flag, True)
        return following(*args, **{k: v for k, v in kwargs.items() if k != flag})
    return following(*args, **{**kwargs, flag: True})


@dataclasses.dataclass
class _Carry:
    """What one part hands to the next while the module is traced: no value of a program."""

    x: Any
    variables: dict[str, dict[str, Any]]
    holders: dict[str, Any]
    training: frozenset[str]


class _Held(nn.Module):
    """The parameters and statistics of one part, in the places that they have in the user's tree.

    Attributes:
        inner: holds the user's module.
        part: name of the part.
        labels: path -> part, of all parameters and statistics.
    """

    inner: Inner
    part: str
    labels: tuple[tuple[str, str], ...]

    @nn.compact
    def __call__(self, given: Any, train: bool = False) -> Any:
        carry = given if isinstance(given, _Carry) else _Carry(given, {}, {}, frozenset())
        fresh: dict[str, Any] = {}
        if self.is_initializing():
            made = self.inner.fresh(self.make_rng("params"), carry.x)
            fresh = {name: split(made.get(name, {}), self.labels) for name in _COLLECTIONS}
        own = fresh.get("params", {}).get(self.part) or self.variables.get("params", {})
        values: dict[str, Any] = {
            name: self.param(name, lambda _, name=name: own[name]) for name in own
        }
        stats = fresh.get("batch_stats", {}).get(self.part) or self.variables.get("batch_stats", {})
        holders = {
            name: self.variable("batch_stats", name, lambda name=name: stats[name])
            for name in stats
        }
        held = {name: variable.value for name, variable in holders.items()}
        carry = _Carry(
            carry.x,
            {**carry.variables, self.part: {"params": values, "batch_stats": held}},
            {**carry.holders, self.part: holders},
            carry.training | ({self.part} if train else frozenset()),
        )
        return self._run(carry) if self.part == PARTS[-1] else carry

    def _run(self, carry: _Carry) -> Any:
        """The user's module on what all parts hold; statistics of parts that train are kept."""
        variables = {
            kind: merged({part: held[kind] for part, held in carry.variables.items()})
            for kind in _COLLECTIONS
        }
        drops = bool(carry.training) and self.has_rng("dropout")
        key = self.make_rng("dropout") if drops else None
        switch = Switch(dict(self.labels), carry.training)
        outputs, stats = self.inner.run(variables, carry.x, switch, key)
        new = split(stats, self.labels)
        for part in carry.training:
            for name, value in new.get(part, {}).items():
                carry.holders[part][name].value = value
        return outputs


class Whole(nn.Module):
    """A user's module as one in three parts; make it by ``adopt``.

    Attributes:
        inner: holds the user's module, which takes images and gives logits.
        labels: path -> part, of all parameters and statistics.
        layer: whose output the features are, by its path (``Block_1/Conv_0``); where it is
            ``None``, the input of the first layer whose parameters are all in ``final``.
    """

    inner: Inner
    labels: tuple[tuple[str, str], ...]
    layer: str | None = None

    def setup(self):
        """The three parts."""
        self.beginning = _Held(self.inner, PARTS[0], self.labels)
        self.intermediate = _Held(self.inner, PARTS[1], self.labels)
        self.final = _Held(self.inner, PARTS[2], self.labels)

    def features(self, x: Any) -> Any:
        """What clusters are found in: the output of ``layer``, or the input of ``final``."""
        seen: list[Any] = []
        final = {name for name, part in self.labels if part == PARTS[-1]}

        def note(path: str, given: Any, outputs: Any) -> None:
            if path == self.layer:
                seen.append(outputs)
            below = [name for name, _ in self.labels if name.startswith(f"{path}/")]
            if self.layer is None and below and final.issuperset(below):
                seen.append(given)

        variables = {kind: merged(self.variables.get(kind, {})) for kind in _COLLECTIONS}
        self.inner.watched(variables, x, note)
        if not seen:
            known = sorted({name.rpartition("/")[0] for name, _ in self.labels} - {""})
            raise unknown_name("layer of the features", self.layer, known)
        return seen[0]


def unswitched(model: Whole, variables: Any, x: Any, key: Any) -> float:
    """How much layers that ``Switch`` does not reach change the outputs in training mode.

    Args:
        model: a user's module.
        variables: by part.
        x: images, as the network sees them.
        key: of dropout.

    Returns:
        Largest difference of an output between evaluation mode and training mode with every layer
        that can be switched in evaluation mode; 0 where all can.
    """
    given = {kind: merged(variables.get(kind, {})) for kind in _COLLECTIONS}
    labels = dict(model.labels)
    off, on = (
        jax.tree.leaves(model.inner.run(given, x, Switch(labels, frozenset(), outer), key)[0])[0]
        for outer in (False, True)
    )
    return float(abs(off - on).max())


def name_of(model: Any) -> str:
    """The name of a module's class, of one that is not written in parts the user's."""
    return model.inner.name if isinstance(model, Whole) else type(model).__name__


def runs_by_part(model: Any) -> bool:
    """Whether the parts of a module can be run one by one, and so be cached."""
    return not isinstance(model, Whole)


def split(
    tree: Mapping[str, Any], labels: Collection[tuple[str, str]]
) -> dict[str, dict[str, Any]]:
    """A user's tree by part: in each, what is assigned to it, in its place."""
    part_of = dict(labels)
    flat = flatten_dict(dict(tree), sep="/")
    return {
        part: unflatten_dict({k: v for k, v in flat.items() if part_of[k] == part}, sep="/")
        for part in PARTS
        if any(part_of[name] == part for name in flat)
    }


def merged(by_part: Mapping[str, Any]) -> dict[str, Any]:
    """The user's tree again."""
    flat: dict[str, Any] = {}
    for tree in by_part.values():
        flat |= flatten_dict(dict(tree), sep="/")
    return unflatten_dict(flat, sep="/")


def adopted(
    module: Any, variables: Any, parts: Patterns | Any, layer: str | None = None
) -> tuple[Whole, dict[str, Any]]:
    """A user's Linen module and variables as the library takes them.

    Args:
        module: any Linen module of images and logits.
        variables: as ``module.init`` gives them.
        parts: see ``patterns.labels_of``.
        layer: see ``Whole``.

    Raises:
        InputError: no Linen module; variables of other kinds than ``params`` and ``batch_stats``;
            see ``patterns.labels_of``.
    """
    check_kind(module)
    name = type(module).__name__
    if not isinstance(variables, Mapping) or "params" not in variables:
        raise InputError(
            f"Variables of {name} without 'params'",
            'what module.init gives: {"params": ..., "batch_stats": ...}',
            'Give {"params": variables} if they are the parameters',
        )
    others = sorted(set(variables) - set(_COLLECTIONS))
    if others:
        raise InputError(
            f"Variables of {name} of the kinds {', '.join(others)}",
            "params and batch_stats",
            "Leave them out, if the module runs without; other kinds cannot be kept",
        )
    return in_parts(LinenInner(module), variables, parts, layer)


def in_parts(
    inner: Inner, variables: Mapping[str, Any], parts: Patterns | Any, layer: str | None
) -> tuple[Whole, dict[str, Any]]:
    """A module in three parts, and its variables by part.

    Args:
        inner: the user's module.
        variables: ``params`` and ``batch_stats``, nested dictionaries of the user's.
        parts: see ``patterns.labels_of``.
        layer: see ``Whole``.
    """
    given = {kind: jax.tree.map(lambda x: x, dict(tree)) for kind, tree in variables.items()}
    paths = sorted({p for tree in given.values() for p in flatten_dict(tree, sep="/")})
    labels = tuple(sorted(labels_of(paths, parts, inner.name).items()))
    by_part = {kind: split(tree, labels) for kind, tree in given.items() if tree}
    return Whole(inner, labels, layer), by_part

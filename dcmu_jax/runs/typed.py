"""Settings checked by the types that their dataclasses are annotated with, before anything runs."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
import numbers
import os
import types
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import jax
import numpy as np
import optax

from dcmu_jax.errors import InputError, unknown_name

T = TypeVar("T")
_KINDS = {
    bool: "True or False",
    int: "a whole number",
    float: "a number",
    str: "a text",
    type(None): "None",
}
"""Type of a setting -> what a message calls it."""


def typed(settings: T, where: str = "") -> T:
    """Settings whose values are of the annotated types, those of NumPy as Python has them.

    A number is converted only where it stays what it is, so that settings which are written to
    JSON and read again are the same: an integer for a float, a list for a tuple.

    Args:
        settings: a dataclass; its fields may be dataclasses.
        where: its dotted name, with which the names of its fields begin.

    Raises:
        InputError: a value of another type; the message names the field.

    >>> import dataclasses
    >>> @dataclasses.dataclass(frozen=True)
    ... class Rate:
    ...     value: float = 0.1
    >>> typed(Rate(1)).value
    1.0
    >>> typed(Rate("yes"), "rate")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    dcmu_jax.errors.InputError: rate.value = 'yes'. Allowed: ...
    """
    changed = changed_fields(settings, where)
    return dataclasses.replace(cast(Any, settings), **changed) if changed else settings


def changed_fields(settings: Any, where: str = "", without: Collection[str] = ()) -> dict[str, Any]:
    """The fields, but those in ``without``, that ``typed`` would change, and to what."""
    hints = _hints(type(settings))
    values = {name: value for name, value in _fields(settings).items() if name not in without}
    found = {
        name: _as(hints[name], value, f"{where}.{name}".lstrip("."))
        for name, value in values.items()
    }
    return {name: value for name, value in found.items() if value is not values[name]}


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def _fields(settings: Any) -> dict[str, Any]:
    return {field.name: getattr(settings, field.name) for field in dataclasses.fields(settings)}


def _as(wanted: Any, value: Any, name: str) -> Any:
    """``value`` as the type ``wanted``; see ``typed``."""
    origin, inner = get_origin(wanted), get_args(wanted)
    if wanted is Any:
        return plain_json(value, name)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in inner:
            return None
        for kind in inner:
            with contextlib.suppress(InputError):
                return _as(kind, value, name)
        return _as(inner[0], value, name)  # which says what is wrong
    if origin is Literal:
        if isinstance(value, str) and value not in inner:
            raise unknown_name(name, value, inner)
        return value if isinstance(value, str) else refused(wanted, value, name)
    if origin is tuple:
        if isinstance(value, np.ndarray | jax.Array) and value.ndim == 1:
            value = value.tolist()
        if not isinstance(value, list | tuple):
            refused(wanted, value, name)
        found = [_as(inner[0], one, f"{name}.{at}") for at, one in enumerate(value)]
        same = isinstance(value, tuple) and all(a is b for a, b in zip(found, value, strict=True))
        return value if same else tuple(found)
    if origin is dict:
        if not isinstance(value, Mapping):
            refused(wanted, value, name)
        key, of = inner
        return {
            _as(key, k, f"a key of {name}"): _as(of, v, f"{name}.{k}") for k, v in value.items()
        }
    if dataclasses.is_dataclass(wanted):
        return (
            typed(value, name)
            if isinstance(value, cast(type, wanted))
            else refused(wanted, value, name)
        )
    return _scalar(wanted, value, name)


def _scalar(wanted: type, value: Any, name: str) -> Any:
    boolean = isinstance(value, bool | np.bool_)
    if wanted is bool and boolean:
        return bool(value)
    if wanted is int and isinstance(value, numbers.Integral) and not boolean:
        return int(value)
    if wanted is float and isinstance(value, numbers.Real) and not boolean:
        try:
            return value if type(value) is float else float(value)
        except OverflowError:
            return value  # which ``check_numbers`` refuses in its words
    if wanted is str and isinstance(value, str):
        return value if type(value) is str else str(value)
    return refused(wanted, value, name)


def plain_json(value: Any, name: str) -> Any:
    """``value`` as JSON has it: dataclasses and mappings as dictionaries, tuples as lists.

    Raises:
        InputError: what JSON cannot hold, such as an array or a function.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.generic):
        return plain_json(value.item(), name)
    if isinstance(value, list | tuple):
        return [plain_json(one, f"{name}.{at}") for at, one in enumerate(value)]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = _fields(value)
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: plain_json(inner, f"{name}.{key}") for key, inner in value.items()}
    raise InputError(
        f"{name} = {_shown(value)}",
        "what JSON can hold: numbers, texts, True, False, None, lists and dictionaries of these",
        f"Give {_list_of(value)}" if isinstance(value, np.ndarray) else "Give one of these",
    )


def _list_of(value: np.ndarray) -> str:
    return repr(value.tolist()) if value.size < 9 else "array.tolist()"


def _shown(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else f"{text[:60]}... ({type(value).__name__})"


def refused(wanted: Any, value: Any, name: str) -> Any:
    """Raise for ``value``, which is no ``wanted``."""
    raise InputError(f"{name} = {_shown(value)}", _called(wanted), _remedy(wanted, value, name))


def _called(wanted: Any) -> str:
    """What a message calls a type."""
    origin, inner = get_origin(wanted), get_args(wanted)
    if origin is Literal:
        return " or ".join(map(repr, inner))
    if origin is tuple:
        each = inner[0]
        return f"a tuple of {'names' if each is str else _called(each).split(' ', 1)[-1] + 's'}"
    if origin is dict:
        return "a dictionary"
    article = "an" if wanted.__name__[0] in "AEIOU" else "a"
    return _KINDS.get(wanted) or f"{article} {wanted.__name__}"


def _remedy(wanted: Any, value: Any, name: str) -> str:
    """What to give in place of ``value``, as it is typed."""
    with contextlib.suppress(TypeError, ValueError, OverflowError):
        if wanted is int and float(value) == int(float(value)) and not isinstance(value, bool):
            return f"Give {int(float(value))}"
        if wanted is float and isinstance(value, str):
            return f"Give {float(value)!r}"
    if wanted is bool and str(value).lower() in ("0", "1", "true", "false"):
        return f"Give {str(value).lower() in ('1', 'true')}"
    if wanted is str and isinstance(value, os.PathLike):
        return f"Give {os.fspath(value)!r}"
    unordered = isinstance(value, set | frozenset)
    if get_origin(wanted) is tuple and not (unordered or isinstance(value, str | Mapping | None)):
        given = tuple(value) if isinstance(value, Iterable) else (value,)
        with contextlib.suppress(InputError):
            if all(not isinstance(x, float) or math.isfinite(x) for x in _as(wanted, given, name)):
                return f"Give {given!r}"
    of_rate = callable(value) and "optimizer" in name
    if of_rate or isinstance(value, optax.GradientTransformation):
        return (
            "Give an Optimizer of dcmu_jax.training.optimizers, which config.json can hold; or "
            "train by dcmu.train, whose network Run.adopt takes, and unlearn by dcmu.unlearn"
        )
    if dataclasses.is_dataclass(wanted):
        return f"Give {_written(cast(type, wanted), value)}"
    return "Leave it out for its default" if value is None else f"Give {_called(wanted)} as {name}"


def _words(wanted: Any) -> tuple[str, ...]:
    """The texts that a type allows."""
    inner = get_args(wanted)
    return inner if get_origin(wanted) is Literal else sum(map(_words, inner), ())


def _written(wanted: type, value: Any) -> str:
    """How one writes a value of a dataclass, with what was meant by ``value`` where that shows."""
    fields = {field.name for field in dataclasses.fields(cast(Any, wanted))}
    given: dict[str, Any] = {}
    if isinstance(value, Mapping) and value and set(value) <= fields:
        given = dict(value)
    elif isinstance(value, str) and value in _words(_hints(wanted).get("name")):
        given = {"name": value}
    inside = ", ".join(f"{field}={inner!r}" for field, inner in given.items())
    short = f"{wanted.__name__}({inside})"
    return f"{short if len(short) < 200 else wanted.__name__ + '(...)'} of {wanted.__module__}"

"""Errors in one style: what was given, what is allowed, what to do."""

from __future__ import annotations

import dataclasses
import difflib
import math
import numbers
import operator
import re
from collections.abc import Iterable
from typing import Any

SEEDS = 2**63
"""Seeds are from 0 to one below this."""


class InputError(ValueError):
    """Bad input from outside: a file, a request, a name, a number.

    The command line turns it into exit status 2. Its message always has three parts.

    Args:
        given: what was given, with its value.
        allowed: what would have been accepted.
        remedy: what to do now.
    """

    def __init__(self, given: str, allowed: str, remedy: str):
        self.given, self.allowed, self.remedy = given, allowed, remedy
        super().__init__(f"{given}. Allowed: {allowed}. {remedy}")

    def __reduce__(self) -> Any:
        return type(self), (self.given, self.allowed, self.remedy)


def unknown_name(kind: str, name: Any, known: Iterable[str]) -> InputError:
    """An error for a name that is not known, with the nearest one that is.

    >>> print(unknown_name("model", "CNM", ["cnn", "mlp"]))
    Unknown model 'CNM'. Allowed: cnn, mlp. Did you mean 'cnn'?
    >>> unknown_name("model", "cnn,mlp", ["cnn", "mlp"]).remedy
    "Give them apart: ('cnn', 'mlp'), on the command line: cnn mlp"
    """
    known = sorted(known)
    lower = {one.lower(): one for one in known}
    text = str(name).strip().lower()
    near = difflib.get_close_matches(text, lower, n=1, cutoff=0.5)
    remedy = f"Choose one of the {len(known)} names"
    if near:
        remedy = f"Did you mean {lower[near[0]]!r}?"
    several = re.split(r"[\s,;+]+", text)
    if len(several) > 1 and set(several) <= set(lower):
        names = tuple(lower[one] for one in several)
        remedy = f"Give them apart: {names}, on the command line: {' '.join(names)}"
    return InputError(f"Unknown {kind} {name!r}", ", ".join(known), remedy)


def kind_of(value: Any) -> str:
    """The type of a value with its article, for a message.

    >>> kind_of(3), kind_of({}), kind_of(None), kind_of(int)
    ('an int', 'a dict', 'None', 'a class')
    """
    if value is None:
        return "None"
    name = "class" if isinstance(value, type) else type(value).__name__
    return f"{'an' if name[0] in 'aeiouAEIOU' or name == 'ndarray' else 'a'} {name}"


def counted(number: int, what: str) -> str:
    """A number of things, for a message.

    >>> counted(1, "image"), counted(2, "class"), counted(0, "sample")
    ('1 image', '2 classes', '0 samples')
    """
    plural = f"{what}es" if what.endswith(("s", "x", "ch")) else f"{what}s"
    return f"{number} {what if number == 1 else plural}"


def _is_number(value: Any) -> bool:
    """Whether a value is a finite number and, if an integer, fits 64 bits."""
    if isinstance(value, numbers.Integral):
        return -(2**63) <= int(value) < 2**64
    return isinstance(value, numbers.Real) and math.isfinite(value)


def _shown(value: Any) -> str:
    """A value for a message. Python refuses to write out a whole number of thousands of digits."""
    long = isinstance(value, numbers.Integral) and int(value).bit_length() > 512
    return f"a number of {int(value).bit_length()} bits" if long else repr(value)


def check_numbers(value: Any, name: str = "") -> None:
    """Raise unless every number in settings is finite, and every whole one fits 64 bits.

    Args:
        value: settings: dataclasses, dictionaries, lists and tuples of each other and of values.
        name: of the value, by which those within are named in turn; empty for the whole.

    >>> check_numbers({"data": {"mean": (0.5, float("nan"))}})  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    dcmu_jax.errors.InputError: data.mean = nan. Allowed: finite numbers... Set data.mean to one
    """
    if isinstance(value, list | tuple):
        for inner in value:
            check_numbers(inner, name)
        return
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        inside = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    else:
        inside = value if isinstance(value, dict) else {}
    for key, inner in inside.items():
        check_numbers(inner, f"{name}.{key}".lstrip("."))
    if isinstance(value, numbers.Real) and not _is_number(value):
        whole = isinstance(value, numbers.Integral)  # too long to be written out, perhaps
        shown = f"a number of {int(value).bit_length()} bits" if whole else repr(value)
        raise InputError(
            f"{name} = {shown}",
            "finite numbers, whole ones within 64 bits",
            f"Set {name} to one",
        )


def as_names(names: str | Iterable[str]) -> tuple[str, ...]:
    """A tuple of names; a single name may be given without one.

    Raises:
        InputError: anything that holds no names, or has no order: a set.

    >>> as_names("scrub"), as_names(["scrub", "saliency"])
    (('scrub',), ('scrub', 'saliency'))
    """
    if not isinstance(names, str | Iterable):
        raise InputError(f"Names given as {names!r}", "one name, or a tuple of them", "Give ()")
    if isinstance(names, set | frozenset):
        ordered = tuple(sorted(map(str, names)))
        raise InputError(
            "Names given as a set, which has no order",
            "a tuple, or one name",
            f"Give {ordered!r}, in the order that you mean",
        )
    return (names,) if isinstance(names, str) else tuple(names)


def check_fraction(name: str, value: float | int) -> None:
    """Raise unless ``value`` lies strictly between 0 and 1."""
    if not (_is_number(value) and 0 < value < 1):
        raise InputError(
            f"{name} = {_shown(value)}",
            "a number strictly between 0 and 1",
            f"Set {name} within (0, 1)",
        )


def check_percentage(name: str, value: float | int) -> None:
    """Raise unless ``value`` lies in 0..100."""
    if not (_is_number(value) and 0 <= value <= 100):
        raise InputError(
            f"{name} = {_shown(value)}", "a percentage, 0..100", f"Set {name} within 0..100"
        )


def check_at_least(name: str, value: float | int, least: float | int) -> None:
    """Raise unless ``value`` is finite and at least ``least``."""
    if not (_is_number(value) and value >= least):
        raise InputError(
            f"{name} = {_shown(value)}", f"{least} or more", f"Raise {name} to {least}"
        )


def check_seed(name: str, value: Any) -> int:
    """``value`` as a Python integer; raise unless it is a whole number from 0 to 2**63 - 1.

    >>> check_seed("seed", 3)
    3
    """
    try:
        seed = -1 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        seed = -1
    if not 0 <= seed < SEEDS:
        meant = 0 if isinstance(value, bool) else _whole(value)
        raise InputError(
            f"{name} = {_shown(value)}",
            "a whole number from 0 to 2**63 - 1",
            f"Set {name} to one of these, such as {meant if 0 <= meant < SEEDS else 0}",
        )
    return seed


def _whole(value: Any) -> int:
    """The whole number that a float or a text is; 0 for anything else."""
    try:
        number = float(value)
        return int(number) if number == int(number) else 0
    except (TypeError, ValueError, OverflowError):
        return 0


def check_positive(name: str, value: float | int) -> None:
    """Raise unless ``value`` is finite and above zero."""
    if not (_is_number(value) and value > 0):
        raise InputError(f"{name} = {_shown(value)}", "a number above 0", f"Set {name} above 0")

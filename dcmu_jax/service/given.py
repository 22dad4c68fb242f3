"""What is given to a workspace from Python: of the right kind, or refused before it is used."""

from __future__ import annotations

import numbers
import os
from pathlib import Path
from typing import Any

from dcmu_jax.attacks.audit import FEWEST_ORACLES
from dcmu_jax.errors import InputError

MOST_ORACLES = 10_000
"""A population is held in memory at once."""


def check_kind(name: str, value: Any, kind: type | tuple[type, ...], allowed: str) -> None:
    """Raise ``InputError`` unless ``value`` is of a kind.

    Args:
        name: of the argument.
        value: that was given.
        kind: as ``isinstance`` takes it.
        allowed: what may be given, in words.
    """
    if not isinstance(value, kind):
        raise InputError(f"{name} = {value!r}", allowed, f"Give {name} one of these")


def check_call(name: str, value: Any) -> None:
    """Raise ``InputError`` unless ``value`` can be called."""
    if not callable(value):
        raise InputError(f"{name} = {value!r}", "a function", f"Leave {name} out, or give print")


def folder_of(value: Any) -> Path:
    """The path of a workspace.

    Raises:
        InputError: it is no text and no path, or can be the name of nothing.
    """
    allowed, remedy = "a path as text, or a pathlib.Path", "Give the directory of the workspace"
    named = os.fspath(value) if isinstance(value, os.PathLike) else value
    if not isinstance(named, str) or "\0" in named:
        raise InputError(f"A workspace given as {value!r}", allowed, remedy)
    return Path(named)


def check_points(name: str, value: Any) -> None:
    """Raise ``InputError`` unless ``value`` is a number of points of accuracy."""
    number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not (number and 0 <= float(value) <= 100):
        raise InputError(
            f"{name} = {value!r}", "points of accuracy, 0 to 100", f"Set {name} to 5, say"
        )


def is_whole(value: Any) -> bool:
    """Whether a value is a whole number, of Python or NumPy, and no truth value."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def check_oracles(value: Any) -> None:
    """Raise ``InputError`` unless ``value`` is a number of oracles that an audit may have."""
    if not (is_whole(value) and FEWEST_ORACLES <= value <= MOST_ORACLES):
        raise InputError(
            f"An audit with {value!r} oracles",
            f"a whole number of them, from {FEWEST_ORACLES} to {MOST_ORACLES}",
            "Set oracles to 16, say",
        )

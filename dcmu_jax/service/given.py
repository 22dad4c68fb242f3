"""Checks of arguments given to a workspace from Python."""

from __future__ import annotations

import logging
import numbers
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dcmu_jax.audits.audit import FEWEST_ORACLES
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


def listener(notify: Any) -> Callable[..., None]:
    """``notify`` for use while a workspace is worked on: its own ``OSError`` is not the disk's.

    Raises:
        InputError: it cannot be called.
    """
    if not callable(notify):
        raise InputError(f"notify = {notify!r}", "a function", "Leave notify out, or give print")

    def tell(*said: Any) -> None:
        try:
            notify(*said)
        except OSError as error:
            logging.getLogger("dcmu_jax").warning("notify failed (%s) at: %s", error, said)

    return tell


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

"""The one style of error: what was given, what is allowed, what to do."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable
from typing import Any


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


def unknown_name(kind: str, name: str, known: Iterable[str]) -> InputError:
    """An error for a name that is not known, with the nearest one that is.

    >>> print(unknown_name("model", "cnm", ["cnn", "mlp"]))
    Unknown model 'cnm'. Allowed: cnn, mlp. Did you mean 'cnn'?
    """
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    remedy = f"Did you mean {near[0]!r}?" if near else f"Choose one of the {len(known)} names"
    return InputError(f"Unknown {kind} {name!r}", ", ".join(known), remedy)


def check_fraction(name: str, value: float | int) -> None:
    """Raise unless ``value`` lies strictly between 0 and 1."""
    if not (math.isfinite(value) and 0 < value < 1):
        raise InputError(
            f"{name} = {value!r}", "a number strictly between 0 and 1", f"Set {name} within (0, 1)"
        )


def check_at_least(name: str, value: float | int, least: float | int) -> None:
    """Raise unless ``value`` is finite and at least ``least``."""
    if not (math.isfinite(value) and value >= least):
        raise InputError(f"{name} = {value!r}", f"{least} or more", f"Raise {name} to {least}")


def check_positive(name: str, value: float | int) -> None:
    """Raise unless ``value`` is finite and above zero."""
    if not (math.isfinite(value) and value > 0):
        raise InputError(f"{name} = {value!r}", "a number above 0", f"Set {name} above 0")

"""Checks of numeric arrays: float64, of the given number of axes, and finite."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import jax
import numpy as np

from dcmu_jax.errors import InputError

Numbers: TypeAlias = np.ndarray | jax.Array | Sequence[Any]
"""Numbers of any integer, boolean or float type; ``as_numbers`` checks them."""


def as_numbers(
    name: str,
    given: Numbers,
    axes: str | None = None,
    *,
    infinite: bool = False,
    nan: bool = False,
    empty: bool = False,
    remedy: str = "Clip infinite numbers; a model that gives NaN has diverged",
) -> np.ndarray:
    """Numbers as a float64 array, in which no difference wraps as those of uint8 do.

    Args:
        name: what the numbers are, for the message.
        given: a NumPy or JAX array or a (nested) list.
        axes: names of the axes that it must have, between spaces; unless given, one or more.

    Other Args:
        infinite: whether infinities are allowed.
        nan: whether NaN is allowed, and infinities with it.
        empty: whether there may be no number at all.
        remedy: where a number is not allowed.

    Raises:
        InputError: no array of numbers, other axes, no number at all, or one that is not allowed.

    >>> as_numbers("scores", np.array([0, 1], np.uint8), "examples")
    array([0., 1.])
    """
    try:
        array = np.asarray(given)
        # An extension's floats, such as bfloat16, are of kind V.
        numeric = (
            array.dtype.kind in "biuf"
            or np.issubdtype(array.dtype, np.number)
            or (array.dtype.kind == "V" and array.dtype.names is None)
        )
        numbers = array.astype(np.float64) if numeric and array.dtype.kind != "c" else None
    except (ValueError, TypeError, OverflowError):
        numbers = None
    if numbers is None:
        raise InputError(
            f"{name} that are no array of numbers ({type(given).__name__})",
            "an array of real numbers",
            "Pass a NumPy array of them",
        )
    count = None if axes is None else len(axes.split())
    if numbers.ndim == 0 or (count is not None and numbers.ndim != count):
        wanted = "one axis or more" if axes is None else f"({', '.join(axes.split())})"
        raise InputError(f"{name} of shape {numbers.shape}", wanted, "Bring an array of these axes")
    allowed = "only finite numbers"
    bad = ~np.isfinite(numbers)
    if nan or infinite:
        allowed, bad = "none that is NaN", np.isnan(numbers) & (not nan)
    if bad.any() or not (numbers.size or empty):
        raise InputError(
            f"{name} of shape {numbers.shape}, {int(bad.sum())} of them "
            f"{'NaN' if infinite else 'not finite'}",
            allowed if empty else f"at least one, and {allowed}",
            remedy,
        )
    return numbers


def as_classes(
    name: str, given: Numbers, length: int | None = None, of: str = "examples"
) -> np.ndarray:
    """Classes as an array of integers, one of each of ``length`` samples; of any if not given.

    Raises:
        InputError: numbers that are not whole, or not as many.

    >>> as_classes("labels", [1, 0, 1], 3)
    array([1, 0, 1])
    """
    numbers = as_numbers(name, given, remedy="Bring the class of each")
    classes = np.asarray(given)
    length = numbers.size if length is None else length
    if numbers.shape != (length,) or classes.dtype.kind not in "iu":
        raise InputError(
            f"{name} of shape ({', '.join(map(str, numbers.shape))}) and dtype {classes.dtype} for "
            f"{length} {of}",
            "one integer of each",
            f"Take them from the same {of}, in their order",
        )
    return classes

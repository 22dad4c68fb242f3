"""Checks of masks, positions and ids.

One rule everywhere: a mask is boolean. Numbers 0 and 1 are refused, not guessed at: they may be
positions or ids, and ``~`` of the number 1 is -2.
"""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from typing import Any, TypeAlias

import jax
import numpy as np

from dcmu_jax.errors import InputError

Mask: TypeAlias = np.ndarray | jax.Array | Sequence[Any]
"""A boolean array, or a list of ``True`` and ``False``; ``as_mask`` checks it."""


Ids: TypeAlias = np.ndarray | jax.Array | Sequence[Any]
"""Integers that name samples, each once; ``as_ids`` checks them."""


def as_mask(
    name: str, given: Mask, shape: tuple[int, ...] | None = None, of: str = "samples"
) -> np.ndarray:
    """A mask as a boolean NumPy array of that shape.

    Args:
        name: what the mask is, for the message.
        given: a NumPy or JAX array or a (nested) list, of booleans only.
        shape: that it must have; any if not given.
        of: what it has an entry for, for the message.

    Raises:
        InputError: numbers or anything else that is not boolean, or another shape.

    >>> as_mask("forget mask", [True, False], (2,))
    array([ True, False])
    """
    mask = _array(name, given, "booleans")
    if mask.size and mask.dtype != np.bool_:
        raise InputError(
            f"{name} of dtype {mask.dtype}",
            "a boolean array, True or False in each place",
            "Pass np.asarray(mask).astype(bool) if it holds 0 and 1; make a mask of ids by "
            "np.isin(dataset.ids, ids)",
        )
    if shape is not None and mask.shape != tuple(shape):
        raise InputError(
            f"{name} of shape {mask.shape} for {of} of shape {tuple(shape)}",
            "a boolean array of the same shape",
            f"Build it over the same {of}, in their order",
        )
    return mask.astype(bool)


def as_positions(name: str, given: Mask | Ids, count: int) -> np.ndarray:
    """Positions as int64, each once and within ``0..count-1``; a boolean mask gives those it holds.

    Raises:
        InputError: a mask of another shape, numbers that are not whole, a position that is
            negative, out of range, or there twice.

    >>> as_positions("positions", [3, 0], 4)
    array([3, 0])
    """
    numbers = _array(name, given, "integers, or booleans for a mask")
    if numbers.dtype == np.bool_:
        return np.flatnonzero(as_mask(name, numbers, (count,)))
    check_no_mask(name, numbers, "positions, or a boolean mask", f"Pass {BOOLEAN}")
    numbers = _distinct(name, numbers)
    outside = numbers[(numbers < 0) | (numbers >= count)]
    if outside.size:
        raise InputError(
            f"{name} with {outside[0]}, of {count} samples",
            f"positions 0..{count - 1}" if count else "no positions: there are no samples",
            "Count positions from 0; for ids, take dataset.positions(ids)",
        )
    return numbers


def as_ids(name: str, given: Ids) -> np.ndarray:
    """Ids as int64, each once, of samples that are chosen by them.

    Raises:
        InputError: a mask or other numbers that are not whole, more than one dimension, or an
            id that is there twice.

    >>> as_ids("ids", [17, 3])
    array([17,  3])
    """
    ids = _array(name, given, "integers")
    if ids.dtype == np.bool_ and ids.size:
        raise InputError(
            f"{name} of dtype bool, a mask",
            "integers that name samples",
            "Pass dataset.ids[mask]",
        )
    check_no_mask(name, ids, "integers that name samples", f"Pass dataset.ids[{BOOLEAN}]")
    return _distinct(name, ids)


def check_names(name: str, given: Ids) -> None:
    """Raise unless ``given`` are the ids of a dataset: integers in one dimension, each once."""
    each = "Give each sample an id of its own, such as np.arange(len(images))"
    ids = _array(name, given, "integers")
    if ids.dtype == np.bool_ and ids.size:
        raise InputError(f"{name} of dtype bool", "integers, each once", each)
    _distinct(name, ids, each)


BOOLEAN = "np.asarray(mask).astype(bool)"
"""How one types the mask that was meant by numbers 0 and 1."""


def check_no_mask(name: str, given: np.ndarray, allowed: str, remedy: str) -> None:
    """Raise where what should name samples is a mask in numbers: three or more, each 0 or 1.

    Some of them are there twice, so that they name no samples; and made unique they would name
    two that nobody meant.

    Args:
        name: what they are, for the message.
        given: an array of any type.
        allowed: what is allowed, for the message.
        remedy: what to do, for the message.
    """
    if given.ndim != 1 or len(given) < 3 or given.dtype.kind not in "biufO":
        return
    if given.dtype.kind == "O":
        if not all(isinstance(x, numbers.Real | np.bool_) for x in given.tolist()):
            return
    if ((given == 0) | (given == 1)).all():
        raise InputError(
            f"{name} of nothing but 0 and 1 ({given.dtype}), as a mask has them",
            allowed,
            remedy,
        )


def shape_of(name: str, given: Any) -> tuple[int, ...]:
    """The shape of an array, or of a list that can be one; an array is not looked into.

    Raises:
        InputError: a ragged list.
    """
    return given.shape if hasattr(given, "shape") else _array(name, given, "numbers").shape


def _array(name: str, given: Any, kinds: str) -> np.ndarray:
    try:
        return np.asarray(given)
    except (ValueError, TypeError, OverflowError) as error:
        raise InputError(
            f"{name} that is no array ({error})", f"an array of {kinds}", "Give rows of one length"
        ) from error


def _distinct(
    name: str, numbers: np.ndarray, repeated: str = "Pass np.unique of them"
) -> np.ndarray:
    if numbers.ndim != 1 or (numbers.size and numbers.dtype.kind not in "iu"):
        raise InputError(
            f"{name} of dtype {numbers.dtype}, shape {numbers.shape}",
            "integers in one dimension",
            "Pass np.asarray(numbers, np.int64).reshape(-1) if they are whole numbers",
        )
    values, counts = np.unique(numbers, return_counts=True)
    if len(values) != len(numbers):
        shown = ", ".join(map(str, values[counts > 1][:5].tolist()))
        raise InputError(f"{name} with repeats: {shown}", "each once", repeated)
    if values.size and int(values[-1]) >= 2**63:
        raise InputError(f"{name} with {values[-1]}", "integers below 2**63", "Check the numbers")
    return numbers.astype(np.int64)

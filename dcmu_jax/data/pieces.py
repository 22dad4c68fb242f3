"""An array a piece at a time: what a calculation may hold of one that lies on disk."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

NUMBERS = 2**17
"""In a piece: little enough for the caches, and for temporary arrays of it in float64."""


def pieces(array: np.ndarray, numbers: int = NUMBERS) -> Iterator[slice]:
    """Slices of rows that follow one another and together are all rows of an array.

    Args:
        array: ``(N, ...)``; only its shape is looked at.
        numbers: elements in a piece, at most, but for pieces of one row.

    >>> [(rows.start, rows.stop) for rows in pieces(np.zeros((5, 4)), numbers=9)]
    [(0, 2), (2, 4), (4, 5)]
    """
    step = max(1, numbers // max(1, math.prod(array.shape[1:])))
    for low in range(0, len(array), step):
        yield slice(low, min(low + step, len(array)))

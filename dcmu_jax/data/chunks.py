"""Reading an array on disk in chunks, so that it never has to fit in memory."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

NUMBERS = 2**17
"""In a chunk: little enough for the caches, and for temporary arrays of it in float64."""


def chunks(array: np.ndarray, numbers: int = NUMBERS) -> Iterator[slice]:
    """Slices of rows that follow one another and together are all rows of an array.

    Args:
        array: ``(N, ...)``; only its shape is looked at.
        numbers: elements in a chunk, at most, but for chunks of one row.

    >>> [(rows.start, rows.stop) for rows in chunks(np.zeros((5, 4)), numbers=9)]
    [(0, 2), (2, 4), (4, 5)]
    """
    step = max(1, numbers // max(1, math.prod(array.shape[1:])))
    for low in range(0, len(array), step):
        yield slice(low, min(low + step, len(array)))

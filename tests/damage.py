"""Damage to files, drawn by a seed, for the tests of every reader; DCMU_FUZZ sets how much."""

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

from dcmu_jax.errors import InputError

COUNT = int(os.environ.get("DCMU_FUZZ", "60"))
"""Changed copies of each file that its reader is given."""


def damaged(data: bytes, seed: int = 0, count: int = COUNT) -> Iterator[bytes]:
    """``count`` changed copies of ``data``, most of them by one byte."""
    rng = random.Random(seed)
    for _ in range(count):
        at, copy = rng.randrange(len(data)), bytearray(data)
        match rng.choice(["byte"] * 6 + ["bit", "cut", "gone", "twice"]):
            case "byte":
                copy[at] = rng.randrange(256)
            case "bit":
                copy[at] ^= 1 << rng.randrange(8)
            case "cut":
                del copy[at:]
            case "gone":
                del copy[at : at + rng.randrange(1, 40)]
            case "twice":
                copy[at:at] = copy[at : at + rng.randrange(1, 40)]
        yield bytes(copy)


def refused_or_read(path: Path, read: Callable[[], object], seed: int = 0) -> int:
    """Damage a file again and again: ``read`` gives something or ``InputError``, nothing else.

    Returns:
        How often it was refused. The file is whole again afterwards.
    """
    whole, refused = path.read_bytes(), 0
    try:
        for copy in damaged(whole, seed):
            path.write_bytes(copy)
            try:
                read()
            except InputError:
                refused += 1
    finally:
        path.write_bytes(whole)
    return refused

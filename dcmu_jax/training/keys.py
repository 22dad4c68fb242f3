"""Random keys by name: one seed in, an independent key for every purpose."""

from __future__ import annotations

import zlib

import jax
import numpy as np
from jaxtyping import Array

from dcmu_jax.errors import check_seed
from dcmu_jax.prng import key_of


def named_key(seed: int, name: str) -> Array:
    """The typed key of ``name`` under ``seed``; the same on every machine and JAX version.

    >>> bool((named_key(0, "shuffle") == named_key(0, "shuffle")).all())
    True
    """
    seed = check_seed("seed", seed)
    return jax.random.fold_in(key_of(seed), zlib.crc32(name.encode()))


def named_seed(seed: int, name: str) -> int:
    """The like for libraries that take an integer, in [0, 2**31)."""
    return zlib.crc32(f"{check_seed('seed', seed)}/{name}".encode()) >> 1


def sklearn_state(seed: int) -> int | np.random.RandomState:
    """What scikit-learn takes for a seed: it refuses integers of more than 32 bits."""
    seed = check_seed("seed", seed)
    return seed if seed < 2**32 else np.random.RandomState(np.random.MT19937(seed))

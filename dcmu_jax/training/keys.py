"""Random keys by name: an independent key for every purpose, from one seed."""

from __future__ import annotations

import hashlib
import zlib

import jax
import numpy as np
from jaxtyping import Array

from dcmu_jax.errors import check_seed
from dcmu_jax.prng import Key, key_of, typed_key

_SHORT = 2**31
"""Seeds below it are hashed as they always were, to seeds below it."""


def named_key(seed: int, name: str) -> Array:
    """The typed key of ``name`` under ``seed``; the same on every machine and JAX version.

    >>> bool((named_key(0, "shuffle") == named_key(0, "shuffle")).all())
    True
    """
    return folded(key_of(check_seed("seed", seed)), name)


def folded(key: Key, name: str) -> Array:
    """The typed key of ``name`` under ``key``: ``named_key`` for who has a key and no seed."""
    return jax.random.fold_in(typed_key(key), zlib.crc32(name.encode()))


def named_seed(seed: int, name: str) -> int:
    """The like as an integer: of 31 bits for a seed below 2**31, of 63 for a larger one.

    A hash, so that other seeds and names give other ones but by chance: one in 2**31 of a pair of
    the former, one in 2**63 of the latter. No two seeds below 10**6 give the same by one name of
    at most 120 bytes, unless it has 52.

    >>> named_seed(0, "shuffle"), named_seed(2**31, "shuffle") > 2**31
    (595464516, True)
    """
    seed = check_seed("seed", seed)
    told = f"{seed}/{name}".encode()
    if seed < _SHORT:
        # What comes out goes in again with another name: were it hashed otherwise, the results of
        # small seeds would change.
        return zlib.crc32(told) >> 1
    # Not a CRC, which is linear: of long seeds some pairs would give the same by every name.
    return int.from_bytes(hashlib.sha256(told).digest()[:8], "big") >> 1


def sklearn_state(seed: int) -> int | np.random.RandomState:
    """What scikit-learn takes for a seed: it refuses integers of more than 32 bits."""
    seed = check_seed("seed", seed)
    return seed if seed < 2**32 else np.random.RandomState(np.random.MT19937(seed))

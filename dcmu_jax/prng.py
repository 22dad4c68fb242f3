"""The one generator of random numbers: keys from seeds, and keys that callers bring.

The implementation is named wherever a key is made, so that ``JAX_DEFAULT_PRNG_IMPL`` changes
nothing.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from jaxtyping import Array

from dcmu_jax.errors import InputError, check_seed

IMPLEMENTATION = "threefry2x32"
"""JAX's default; of the others not all give the same numbers on every device."""

Key = Array | np.ndarray
"""A typed key, or the two words of uint32 of a raw one."""

_WORD = 32


def key_of(seed: int) -> Array:
    """The typed key of a seed: each of 0..2**63 - 1 has another one.

    >>> bool((jax.random.key_data(key_of(5)) == np.array([0, 5])).all())
    True
    >>> bool((key_of(5) == key_of(2**32 + 5)).all())
    False

    Raises:
        InputError: any other seed.
    """
    seed = check_seed("seed", seed)
    low, high = np.uint32(seed % 2**_WORD), seed >> _WORD
    key = jax.random.key(low, impl=IMPLEMENTATION)
    # Seeds of one word give what they always gave.
    return jax.random.fold_in(key, np.uint32(high)) if high else key


def typed_key(key: Any, shape: tuple[int, ...] = ()) -> Array:
    """A caller's key as a typed one: typed already, or two words of uint32 as of ``PRNGKey``.

    Args:
        key: any of both.
        shape: of the keys; ``()`` for one.

    Raises:
        InputError: anything else, such as a seed.
    """
    dtype = getattr(key, "dtype", None)
    if dtype is not None and jax.dtypes.issubdtype(dtype, jax.dtypes.prng_key):
        if key.shape == shape:
            return key
    elif dtype == np.uint32 and key.shape == (*shape, 2):
        return jax.random.wrap_key_data(key, impl=IMPLEMENTATION)
    given = type(key).__name__ if dtype is None else f"array {dtype}{list(key.shape)}"
    raise InputError(
        f"The key {key!r}"
        if dtype is None
        else f"The {'keys' if shape else 'key'} given, an {given}",
        f"typed {'keys' if shape else 'key'} of shape {list(shape)}, or uint32 {[*shape, 2]}",
        "Make one with jax.random.key(seed)" + (", and split it" if shape else ""),
    )

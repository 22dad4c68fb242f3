"""The one generator of random numbers: keys from seeds, and keys that callers bring.

The implementation is named wherever a key is made, and its words are the seed's: neither
``JAX_DEFAULT_PRNG_IMPL`` nor ``JAX_RANDOM_SEED_OFFSET`` changes anything.
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
    """The typed key of a seed: its two words, so that each of 0..2**63 - 1 has another one.

    >>> bool((jax.random.key_data(key_of(5)) == np.array([0, 5])).all())
    True
    >>> bool((key_of(5) == key_of(2**32 + 5)).all())
    False

    Raises:
        InputError: any other seed.
    """
    high, low = divmod(check_seed("seed", seed), 2**_WORD)
    words: Any = np.array([high, low], np.uint32)  # its stub wants an array of JAX
    # JAX_RANDOM_SEED_OFFSET is added to what JAX makes a key of, not to a key's words.
    return jax.random.wrap_key_data(words, impl=IMPLEMENTATION)


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

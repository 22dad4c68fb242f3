"""Masks of parameters: where the scores of a whole network are largest."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int


@jax.jit
def largest(scores: Any, count: int | Int[Array, ""]) -> Any:
    """The ``count`` largest entries of all arrays together, as a tree of booleans.

    The threshold is found by bisection over the bits of a float32, exactly, in 31 sums over the
    scores: no sorting, no copy, and another ``count`` does not compile again.

    Args:
        scores: tree of arrays, 0 or more; an entry below 0 is never chosen.
        count: how many; equal scores at the threshold are taken in the order of the tree.
    """
    # Floats from 0 on are ordered as their bits are, read as integers.
    bits = [
        jnp.where(s < 0, -1, jax.lax.bitcast_convert_type(s.astype(jnp.float32), jnp.int32))
        for s in jax.tree.leaves(scores)
    ]

    def reach(threshold):
        return sum((b >= threshold).sum(dtype=jnp.int32) for b in bits)

    def refine(step, threshold):
        higher = threshold | (jnp.int32(1) << (30 - step))
        return jnp.where(reach(higher) >= count, higher, threshold)

    threshold = jax.lax.fori_loop(0, 31, refine, jnp.int32(0))
    room = count - reach(threshold + 1)
    chosen, taken = [], 0
    for b in bits:
        tie = b == threshold
        place = taken + jnp.cumsum(tie.reshape(-1), dtype=jnp.int32).reshape(b.shape)
        chosen.append((b > threshold) | (tie & (place <= room)))
        taken += tie.sum(dtype=jnp.int32)
    return jax.tree.unflatten(jax.tree.structure(scores), chosen)

"""Floating-point operations of a program, as the compiler counts them before optimising it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable
from typing import Any

import jax


def program_flops(function: Callable[..., Any], settings: Hashable, *args: Any) -> float | None:
    """Operations of ``function(settings, *args)``; ``None`` where the backend does not count.

    Nothing runs: the program is traced and lowered, once for each function, settings and shapes.

    Args:
        function: jittable in ``args``; a module-level function, since it is part of a cache key.
        settings: its first argument, static.
        *args: pytrees of arrays or of ``jax.ShapeDtypeStruct``.
    """
    leaves, structure = jax.tree.flatten(args)
    return _lowered(function, settings, tuple((a.shape, a.dtype) for a in leaves), structure)


@functools.lru_cache(maxsize=256)
def _lowered(function, settings, shapes: tuple, structure) -> float | None:
    args = jax.tree.unflatten(
        structure, [jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in shapes]
    )
    cost = jax.jit(function, static_argnums=0).lower(settings, *args).cost_analysis()
    return None if not cost or "flops" not in cost else float(cost["flops"])

"""Operations and bytes of a program, as the compiler counts them before optimising it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

import jax

from dcmu_jax.models.convolution import whole_batches


class ProgramCost(NamedTuple):
    """What a program costs, operation by operation; None for what is not counted.

    Attributes:
        flops: floating-point operations.
        bytes: that all operations read and write, each by itself.
    """

    flops: float | None
    bytes: float | None


def program_cost(function: Callable[..., Any], settings: Hashable, *args: Any) -> ProgramCost:
    """What ``function(settings, *args)`` costs; nothing where JAX has no CPU to count on.

    Nothing runs: the program is traced as for the device at hand, and lowered, once for each
    function, settings and shapes. It is lowered for the CPU, whichever the device: what is counted
    is the program before any compiler works on it, and the plugins of GPUs and TPUs do not count.
    The body of a loop counts once, but for the pieces of batches that convolutions go through.

    Args:
        function: jittable in ``args``; a module-level function, since it is part of a cache key.
        settings: its first argument, static.
        *args: pytrees of arrays or of ``jax.ShapeDtypeStruct``.
    """
    leaves, structure = jax.tree.flatten(args)
    return _lowered(function, settings, tuple((a.shape, a.dtype) for a in leaves), structure)


def program_flops(function: Callable[..., Any], settings: Hashable, *args: Any) -> float | None:
    """The operations of ``program_cost``."""
    return program_cost(function, settings, *args).flops


def compiler_cost(analysis: Any) -> ProgramCost:
    """Operations and bytes out of what a compiler says of a program.

    Args:
        analysis: of ``cost_analysis()``: None, a dict or a list of dicts, as JAX and its backends
            have it; 0 and -1 stand for what is not known.
    """
    if isinstance(analysis, list | tuple):
        analysis = analysis[0] if analysis else None
    said = ((analysis or {}).get(name) for name in ("flops", "bytes accessed"))
    return ProgramCost(*(float(v) if v is not None and v > 0 else None for v in said))


@functools.lru_cache(maxsize=256)
def _lowered(function, settings, shapes: tuple, structure) -> ProgramCost:
    args = jax.tree.unflatten(
        structure, [jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in shapes]
    )
    try:
        cpu = jax.local_devices(backend="cpu")[0]
    except RuntimeError:  # JAX_PLATFORMS leaves it out
        return ProgramCost(None, None)
    # The device is part of what a trace belongs to: none that has pieces of batches is taken.
    with jax.default_device(cpu), whole_batches():
        lowered = jax.jit(function, static_argnums=0).lower(settings, *args)
    return compiler_cost(lowered.cost_analysis())

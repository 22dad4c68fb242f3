"""Operations and bytes of programs, the same on every machine, and a tally of those that run."""

from __future__ import annotations

import contextlib
import contextvars
import functools
from collections.abc import Callable, Hashable, Iterator
from typing import Any, NamedTuple

import jax
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun, jaxprs_in_params

from dcmu_jax.networks.convolution import all_lax


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

    Nothing runs: the program is traced and lowered, once for each function, settings and shapes,
    for the CPU, whichever the device: what is counted is the program before any compiler works on
    it, and the plugins of GPUs and TPUs do not count. Convolutions count as ``lax`` has them,
    however the device at hand computes them, so that two machines say the same. The body of a
    ``scan`` counts as often as it runs. That of a loop whose end the data decide counts once:
    whoever knows how often it ran counts one turn and multiplies.

    Args:
        function: jittable in ``args``; a module-level function, since it is part of a cache key.
        settings: its first argument, static.
        *args: pytrees of arrays or of ``jax.ShapeDtypeStruct``.
    """
    leaves, structure = jax.tree.flatten(args)
    described = (jax.ShapeDtypeStruct(jax.numpy.shape(a), jax.numpy.result_type(a)) for a in leaves)
    return _lowered(function, settings, tuple((a.shape, a.dtype) for a in described), structure)


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
    # The device is part of what a trace belongs to: none that was made to run is taken.
    with jax.default_device(cpu), all_lax():
        return _with_repetitions(jax.jit(function, static_argnums=0).trace(settings, *args))


def _with_repetitions(traced: Any) -> ProgramCost:
    """The compiler's count, which has the body of a scan once, and the other times it runs."""
    whole = compiler_cost(traced.lower().cost_analysis())
    for body, times in _scans(traced.jaxpr):
        once = _with_repetitions(jax.jit(jaxpr_as_fun(body)).trace(*body.in_avals))
        whole = ProgramCost(
            *(
                total if more is None else (total or 0.0) + times * more
                for total, more in zip(whole, once, strict=True)
            )
        )
    return whole


def _scans(jaxpr: Any) -> Iterator[tuple[ClosedJaxpr, int]]:
    """Bodies of the scans of a program, and how often each runs beyond what is counted."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == "scan":
            body = equation.params["jaxpr"]
            closed = body if isinstance(body, ClosedJaxpr) else ClosedJaxpr(body, ())
            yield closed, equation.params["length"] - 1
        # In a scan, too: its first run has those within counted once.
        for inner in jaxprs_in_params(equation.params):
            yield from _scans(inner)


_Tally = list[float | None]
_open: contextvars.ContextVar[_Tally | None] = contextvars.ContextVar("tally", default=None)


@contextlib.contextmanager
def tally() -> Iterator[_Tally]:
    """A list of the operations of all that runs within, added by what runs it (``spend``).

    Training, passes through a network, importances and systems of equations add their own.
    Choosing and copying samples, and single operations on all parameters, are left out.

    What goes in batches counts as it is computed, the padding of the last batch included: training
    (also of parts on cached features), gradients, and each product of a system of equations. What
    counts by images, whatever batches they run in, and without padding: passes through a network
    (features for the cache, evaluations), importances (or by groups of them) and boundary
    shrinking. Looks at the work,
    such as at what a system is left with, are no part of it.
    """
    found: _Tally = []
    token = _open.set(found)
    try:
        yield found
    finally:
        _open.reset(token)


@contextlib.contextmanager
def off_the_tally() -> Iterator[None]:
    """What runs within is no part of any ``tally``: measurements of what is being made."""
    token = _open.set(None)
    try:
        yield
    finally:
        _open.reset(token)


def spend(flops: float | Callable[[], float | None] | None) -> None:
    """Add to the ``tally`` that is open, if one is; ``None`` where it could not be counted.

    Args:
        flops: how many, or a function that counts them, called where a ``tally`` is open.
    """
    found = _open.get()
    if found is not None:
        found.append(flops() if callable(flops) else flops)


def spend_on(function: Callable[..., Any], settings: Hashable, *args: Any, times: int = 1) -> None:
    """Add ``times`` ``program_flops(function, settings, *args)`` to the open ``tally``, if any."""
    if _open.get() is not None:
        once = program_flops(function, settings, *args)
        spend(None if once is None else times * once)


def total(found: _Tally) -> float | None:
    """The sum of a ``tally``; ``None`` where something in it could not be counted."""
    known = [flops for flops in found if flops is not None]
    return float(sum(known)) if len(known) == len(found) else None

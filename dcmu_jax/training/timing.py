"""The clock: seconds of work and seconds of compilation, kept apart."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

import jax.monitoring

# (start, end) of every span in which JAX traced, lowered or compiled, on time.monotonic.
_compiling: list[tuple[float, float]] = []


def _note_compilation(event: str, duration_secs: float, **_: str | int) -> None:
    if event.startswith("/jax/core/compile/"):
        now = time.monotonic()
        _compiling.append((now - duration_secs, now))


jax.monitoring.register_event_duration_secs_listener(_note_compilation)


def _compile_seconds(start: float, end: float) -> float:
    """Length of the union of the compilation spans within [start, end]; spans may nest."""
    total, reached = 0.0, start
    for low, high in sorted(span for span in _compiling if span[1] > start):
        low, high = max(low, reached), min(high, end)
        if high > low:
            total, reached = total + high - low, high
    return total


class Stopwatch:
    """Seconds of work and of compilation, summed over the spans it was running.

    Work is wall-clock time less what JAX spent tracing, lowering and compiling meanwhile. Whoever
    stops the watch must have waited for the device (``jax.block_until_ready``) or fetched results.

    >>> watch = Stopwatch()
    >>> with watch.running():
    ...     pass
    >>> watch.run_s >= 0 and watch.compile_s == 0
    True
    """

    def __init__(self) -> None:
        self.run_s = 0.0
        self.compile_s = 0.0
        self._started: float | None = None

    def elapsed(self) -> float:
        """Seconds of work so far, also while the watch is running."""
        if self._started is None:
            return self.run_s
        now = time.monotonic()
        return self.run_s + now - self._started - _compile_seconds(self._started, now)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Count the time of the ``with`` block."""
        start = self._started = time.monotonic()
        try:
            yield
        finally:
            end = time.monotonic()
            self._started = None
            compiling = _compile_seconds(start, end)
            self.compile_s += compiling
            self.run_s += end - start - compiling

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Leave the ``with`` block out of the count of an enclosing ``running`` block."""
        start = time.monotonic()
        try:
            yield
        finally:
            end = time.monotonic()
            compiling = _compile_seconds(start, end)
            self.compile_s -= compiling
            self.run_s -= end - start - compiling

"""The clock of the benchmarks: runs in turn, and one call as often as makes it measurable."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence

_MOST_CALLS = 10_000


def in_turn(
    runs: dict[str, Callable[[], object]], rounds: int
) -> dict[str, list[tuple[float, float]]]:
    """Wall and processor seconds of each run in every round, after one run that is not counted.

    Rounds are interleaved, so that other work on the machine meets all runs alike.

    Args:
        runs: by name; each waits for what it computes.
        rounds: timed runs of each.
    """
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for run in runs.values():
        run()
    for _ in range(rounds):
        for name, run in runs.items():
            wall, processor = time.perf_counter(), time.process_time()
            run()
            times[name].append((time.perf_counter() - wall, time.process_time() - processor))
    return times


def repeated(call: Callable[[], object], seconds: float) -> tuple[Callable[[], None], int]:
    """``call`` as often as lasts some ``seconds``, waited for at the end, and how often that is.

    Devices work while the next call is on its way to them, so that of many calls the way counts
    once. The first call, which compiles, is done here.
    """
    import jax  # not above: a benchmark may have to choose JAX's platform before JAX is imported

    jax.block_until_ready(call())
    started = time.perf_counter()
    jax.block_until_ready(call())
    once = time.perf_counter() - started
    times = min(max(1, math.ceil(seconds / max(once, 1e-9))), _MOST_CALLS)

    def run() -> None:
        result = None
        for _ in range(times):
            result = call()
        jax.block_until_ready(result)

    return run, times


def least_seconds(calls: dict[str, Callable[[], object]], seconds: float, rounds: int) -> dict:
    """Least seconds of one call of each, ``repeated`` in rounds ``in_turn``."""
    runs = {name: repeated(call, seconds) for name, call in calls.items()}
    found = in_turn({name: run for name, (run, _) in runs.items()}, rounds)
    return {name: min(wall for wall, _ in found[name]) / times for name, (_, times) in runs.items()}


def epoch_summary(seconds: Sequence[float]) -> dict:
    """Median and least of the seconds of epochs, beside all of them."""
    return {
        "median_s": statistics.median(seconds),
        "least_s": min(seconds),
        "epochs_s": list(seconds),
    }

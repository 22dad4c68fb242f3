"""The clock of the benchmarks: runs in turn, and one call as often as makes it measurable."""

from __future__ import annotations

import math
import resource
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

_MOST_CALLS = 10_000


def timed(run: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    """What ``run`` gives, and its seconds: on the wall, and of the processor over all threads."""
    wall, processor = time.perf_counter(), time.process_time()
    found = run()
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    return found, {"wall_s": wall, "cpu_s": processor}


def in_turn(
    runs: dict[str, Callable[[], object]], rounds: int, *, warm: bool = True
) -> dict[str, list[tuple[float, float]]]:
    """Wall and processor seconds of each run in every round.

    Rounds are interleaved, so that other work on the machine meets all runs alike.

    Args:
        runs: by name; each waits for what it computes.
        rounds: timed runs of each.
        warm: run each once before, which is not counted.
    """
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for run in runs.values() if warm else ():
        run()
    for _ in range(rounds):
        for name, run in runs.items():
            seconds = timed(run)[1]
            times[name].append((seconds["wall_s"], seconds["cpu_s"]))
    return times


def least(times: dict[str, list[tuple[float, float]]]) -> dict[str, dict[str, float]]:
    """The least wall and processor seconds of each run ``in_turn``."""
    kinds = "wall_s", "cpu_s"
    return {
        name: {kind: min(pair[i] for pair in pairs) for i, kind in enumerate(kinds)}
        for name, pairs in times.items()
    }


def peak_mib() -> float:
    """The most memory that this process had at any time."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


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
    found = least(in_turn({name: run for name, (run, _) in runs.items()}, rounds))
    return {name: found[name]["wall_s"] / times for name, (_, times) in runs.items()}


def epoch_summary(seconds: Sequence[float]) -> dict:
    """Median and least of the seconds of epochs, beside all of them."""
    return {
        "median_s": statistics.median(seconds),
        "least_s": min(seconds),
        "epochs_s": list(seconds),
    }

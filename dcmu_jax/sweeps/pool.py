"""Steps of a sweep in a pool of worker processes."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import multiprocessing
import multiprocessing.queues
import os
from collections.abc import Callable, Collection, Hashable, Sequence
from pathlib import Path
from typing import Any

from dcmu_jax.programs import keep_programs, make_room


@dataclasses.dataclass(frozen=True)
class Step:
    """What a worker takes at a time; its results are files.

    Attributes:
        name: one of its own.
        call: a function of a module.
        arguments: of it.
        after: names of the steps that must be done before.
        programs: alike for steps that compile the same programs.
    """

    name: Hashable
    call: Callable[..., Any]
    arguments: tuple = ()
    after: tuple[Hashable, ...] = ()
    programs: Hashable = None


def next_step(
    waiting: Sequence[Step], running: Collection[Step], done: Collection[Step]
) -> Step | None:
    """What a free worker should take; None if all that waits must go on waiting.

    The first that can begin, unless another worker is just compiling its programs: those a worker
    finds in the cache when it comes to them later, so it takes other work while there is any.
    """
    names = {step.name for step in done}
    ready = [step for step in waiting if names.issuperset(step.after)]
    compiled, compiling = ({step.programs for step in steps} for steps in (done, running))
    apart = [s for s in ready if s.programs in compiled or s.programs not in compiling]
    return next(iter(apart or ready), None)


def _shares(workers: int) -> list[set[int]]:
    """Cores for each worker; where that cannot be said or there are too few, empty sets."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    return [set(cores[i::workers]) if len(cores) >= workers else set() for i in range(workers)]


def _begin(cache: Path | None, shares: multiprocessing.queues.Queue) -> None:
    # Before JAX counts the cores: as many threads in all as there are cores, and none wanders.
    if cores := shares.get():
        os.sched_setaffinity(0, cores)
    keep_programs(cache)


def _taken(call: Callable[..., Any], arguments: tuple) -> None:
    call(*arguments)
    make_room()


def run_in_pool(steps: Sequence[Step], workers: int) -> None:
    """Take all steps; ``next_step`` says in which order.

    What a worker has compiled no other need compile, nor a later process; see ``keep_programs``.

    Args:
        steps: in the order in which they are taken where nothing speaks against it.
        workers: processes; each has its share of the cores, and all devices.

    Raises:
        Exception: of the first step that failed. Those that were running are waited for.
    """
    cache = keep_programs()  # where this process has been told, in whatever way
    waiting, done = list(steps), []
    running: dict[concurrent.futures.Future, Step] = {}
    # JAX's threads do not survive a fork.
    context = multiprocessing.get_context("spawn")
    shares = context.Queue()
    for share in _shares(workers):
        shares.put(share)
    with concurrent.futures.ProcessPoolExecutor(workers, context, _begin, (cache, shares)) as pool:
        while waiting or running:
            while len(running) < workers:
                step = next_step(waiting, list(running.values()), done)
                if step is None:
                    break
                waiting.remove(step)
                running[pool.submit(_taken, step.call, step.arguments)] = step
            if not running:
                raise ValueError(f"Steps that wait for none that is there: {waiting}")
            for future in concurrent.futures.wait(running, return_when="FIRST_COMPLETED").done:
                future.result()
                done.append(running.pop(future))

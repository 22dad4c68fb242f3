"""Steps of a sweep in a pool of worker processes."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import math
import multiprocessing
import multiprocessing.queues
import os
import subprocess
import time
from collections.abc import Callable, Collection, Hashable, Sequence
from pathlib import Path
from typing import Any

from dcmu_jax.programs import keep_programs, make_room
from dcmu_jax.sweeps.piece import NoTimeError


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


def gpus() -> list[str]:
    """The GPUs that workers share, as ``CUDA_VISIBLE_DEVICES`` names them; JAX is not started."""
    if os.environ.get("JAX_PLATFORMS", "").startswith("cpu"):
        return []
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return [name for name in chosen.split(",") if name not in ("", "-1")]
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True).stdout
    except OSError:  # there is no such program
        return []
    return [str(i) for i, _ in enumerate(x for x in listed.splitlines() if x.startswith("GPU "))]


def environments(workers: int, devices: Sequence[str]) -> list[dict[str, str]]:
    """What is set for each worker: its GPU, and its share of that one's memory.

    >>> environments(2, ["0", "1"])[1]
    {'CUDA_VISIBLE_DEVICES': '1', 'XLA_PYTHON_CLIENT_MEM_FRACTION': '0.90'}
    """
    if not devices:
        return [{}] * workers
    share = f"{0.9 / math.ceil(workers / len(devices)):.2f}"
    return [
        {
            "CUDA_VISIBLE_DEVICES": devices[i % len(devices)],
            "XLA_PYTHON_CLIENT_MEM_FRACTION": os.environ.get(
                "XLA_PYTHON_CLIENT_MEM_FRACTION", share
            ),
        }
        for i in range(workers)
    ]


def _begin(cache: Path | None, shares: multiprocessing.queues.Queue) -> None:
    cores, environment = shares.get()
    # Before JAX looks at devices and cores: as many threads as cores in all, and none wanders.
    os.environ.update(environment)
    if environment:
        print("worker:", *(f"{k}={v}" for k, v in environment.items()), flush=True)
    if cores:
        os.sched_setaffinity(0, cores)
    keep_programs(cache)


def _taken(call: Callable[..., Any], arguments: tuple) -> None:
    call(*arguments)
    make_room()


def run_in_pool(steps: Sequence[Step], workers: int, ends: float = math.inf) -> int:
    """Take all steps; ``next_step`` says in which order.

    What a worker has compiled no other need compile, nor a later process; see ``keep_programs``.

    Args:
        steps: in the order in which they are taken where nothing speaks against it.
        workers: processes; each has its share of the cores, and a GPU of its own where there are
            as many.
        ends: no step begins after it, in seconds of ``time.time``.

    Returns:
        How many steps are left: those that raised ``NoTimeError``, those that wait for one, and
        those that ``ends`` came before.

    Raises:
        Exception: of the first step that failed. Those that were running are waited for.
    """
    cache = keep_programs()  # where this process has been told, in whatever way
    waiting, done, cut = list(steps), [], 0
    running: dict[concurrent.futures.Future, Step] = {}
    # JAX's threads do not survive a fork.
    context = multiprocessing.get_context("spawn")
    shares = context.Queue()
    for share in zip(_shares(workers), environments(workers, gpus()), strict=True):
        shares.put(share)
    with concurrent.futures.ProcessPoolExecutor(workers, context, _begin, (cache, shares)) as pool:
        while waiting or running:
            while len(running) < workers and time.time() < ends:
                step = next_step(waiting, list(running.values()), done)
                if step is None:
                    break
                waiting.remove(step)
                running[pool.submit(_taken, step.call, step.arguments)] = step
            if not running:
                if not cut and time.time() < ends:
                    raise ValueError(f"Steps that wait for none that is there: {waiting}")
                break
            for future in concurrent.futures.wait(running, return_when="FIRST_COMPLETED").done:
                step = running.pop(future)
                try:
                    future.result()
                    done.append(step)
                except NoTimeError as error:
                    print(error, flush=True)
                    cut += 1
    return cut + len(waiting)

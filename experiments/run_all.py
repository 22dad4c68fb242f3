"""All cells of a table in one command, in pieces of minutes: one process a GPU, SLURM, or a plan.

Command:   python -m experiments.run_all --scale full --dataset npz:cifar10.npz npz:svhn.npz --plan
           python -m experiments.run_all --scale full --dataset ... --dtype bfloat16 --minutes 9
           python -m experiments.run_all --scale small --dataset ... --workers 2
           python -m experiments.run_all --scale full --dataset ... --slurm gpu --minutes 30
           python -m experiments.run_all --scale small --dataset ... --together 3
Data:      as for experiments.table1
Hardware:  any; on GPUs a worker for each. With --slurm the extra ``slurm`` (submitit)
Expected:  the files that experiments.table1 reads: run that afterwards, it measures nothing again

A group is a data set, network and seed, and groups share nothing. Workers take a group's offline
phases, then its requests. What is done is skipped, so the same command goes on where it was
stopped. With --minutes it ends by itself: no cell begins that is not expected to end in time, by
the plan and by how long those before took. The exit status is then 75 while cells are left. What
says most comes first: on a GPU the benchmarks of ``BENCHMARKS``, then the CNN, ResNet18 and the
others on the first data set and seed. Without --minutes the dearest networks come first, so that
no worker ends long after the others.

--plan counts operations by tracing, and prints the seconds of every group beside what it assumes:
the rates of --rates (a result of experiments.benchmarks.accelerator; those of a model of an H100
if not given), or --tflops and --compile-s. Nothing is run or compiled. On a CPU give --tflops.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import jax

from dcmu_jax.runs.options import Dtype
from dcmu_jax.sweeps import Group, Piece, Step, Sweep, run_in_pool
from dcmu_jax.sweeps.cells import train_originals_together
from dcmu_jax.sweeps.piece import NoTimeError
from dcmu_jax.sweeps.pool import gpus
from experiments import plan
from experiments.arguments import parse
from experiments.benchmarks import record
from experiments.benchmarks.command import ROOT
from experiments.table1 import SCALES, groups, sweep

TOOK = "took"
"""Folder of what steps took, see ``Piece``."""
LEFT = 75
"""Exit status while cells are left: try again."""
ORDER = ("cnn", "resnet18", "vgg16", "mlp")
"""Networks in the order of what their cells say."""
BENCHMARKS = {
    "accelerator": ("accelerator_*.json", "--minutes 5", 420.0),
    "distribution_matching": (
        "distribution_matching_4500_gpu.json",
        "--data {archive} --clusters-per-class 450 --rounds 1",
        300.0,
    ),
}
"""Run first on a GPU: module -> its result, its options, and the seconds it may take."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What is run.

    Attributes:
        dataset: as for `dcmu run`, one or several.
        scale: see experiments.table1.
        dtype: of the computation; parameters and statistics stay float32.
        methods: rows, instead of those of the scale.
        workers: processes of the worker pool on this machine.
        together: train the originals of all seeds of a network in one program, this many of them
            side by side, before their cells are measured; for small networks on a GPU.
        slurm: partition to submit one job for each group to, instead.
        minutes: how long the machine is held: no step begins that cannot end in it. Of a job of
            --slurm, 30 if not given.
        plan: print what it would cost, and run nothing.
        rates: result of experiments.benchmarks.accelerator on the device, for the plan.
        tflops: rate of every network instead, TFLOP/s,
        compile_s: and seconds that a training program then compiles.
        host_s: seconds that the host takes for every cell: loading, measuring, writing.
        out: where the cells lie.
    """

    dataset: tuple[str, ...]
    scale: Literal["trial", "small", "wide", "full"] = "small"
    dtype: Dtype = "float32"
    methods: tuple[str, ...] | None = None
    workers: int = 1
    together: int | None = None
    slurm: str | None = None
    minutes: float | None = None
    plan: bool = False
    rates: Path = record.RESULTS / "modelled_h100.json"
    tflops: float | None = None
    compile_s: float = 20.0
    host_s: float = 2.0
    out: Path = Path("runs/table1")


def ordered(chosen: Sequence[Group], minutes: float | None) -> list[Group]:
    """The groups as they are taken: the most telling first in pieces, else the dearest."""
    if minutes is None:
        return list(chosen[::-1])
    names = dict.fromkeys(group.dataset for group in chosen)
    return sorted(chosen, key=lambda g: (g.seed, [*names].index(g.dataset), ORDER.index(g.model)))


def run_benchmarks(options: Options, piece: Piece | None) -> int:
    """Those that have not run here, alone, where the table is full and there is a GPU.

    Returns:
        How many are left for another piece. One that fails or takes too long is not tried again.
    """
    archive = next((d[4:] for d in options.dataset if d.startswith("npz:")), None)
    if options.scale != "full" or archive is None or not gpus():
        return 0
    where, left = Path(archive).expanduser().resolve(), 0
    for name, (result, words, seconds) in BENCHMARKS.items():
        tried = options.out / TOOK / f"benchmark--{name}.json"
        if tried.exists() or any(record.RESULTS.glob(result)):
            continue
        command = [sys.executable, "-m", f"experiments.benchmarks.{name}"]
        command += words.format(archive=where).split()
        held = piece.step("benchmark", (name,)) if piece else contextlib.nullcontext()
        try:
            with held, contextlib.suppress(subprocess.TimeoutExpired):
                subprocess.run(command, cwd=ROOT, timeout=seconds)
        except NoTimeError as error:
            print(error, flush=True)
            left += 1
    return left


def piece_of(options: Options, planned: plan.Plan, table: Sweep, methods: Sequence[str]) -> Piece:
    """The minutes that begin now, and what each step is expected to take."""
    assert options.minutes is not None
    seconds = 60 * options.minutes
    # Workers that share a GPU take turns to train.
    turns = math.ceil(options.workers / max(len(gpus()), 1))
    steps = planned.steps(table, methods)
    expected = {step.words: step.seconds + (turns - 1) * step.train_s for step in steps}
    expected |= {(name,): most for name, (_, _, most) in BENCHMARKS.items()}
    return Piece(
        seconds=seconds,
        ends=time.time() + seconds,
        planned=expected,
        folder=options.out / TOOK,
    )


def submit(options: Options, table: Sweep) -> None:
    """One SLURM job for each group."""
    import submitit

    minutes = math.ceil(options.minutes or 30)
    executor = submitit.AutoExecutor(folder=options.out / "slurm")
    executor.update_parameters(slurm_partition=options.slurm, timeout_min=minutes, gpus_per_node=1)
    alone = [
        dataclasses.replace(table, cells=tuple(cell for cell in table.cells if cell[0] == group))
        for group in table.groups
    ]
    for job in executor.map_array(Sweep.run, alone, [1] * len(alone)):
        print("submitted", job.job_id)


def main() -> None:
    """Run, submit or plan."""
    options = parse(Options, __doc__)
    # This process counts and waits. A GPU that it took would be lost to the workers.
    jax.config.update("jax_platforms", "cpu")
    scale = SCALES[options.scale]
    methods = options.methods or scale.methods
    chosen = ordered(groups(scale, options.dataset, options.dtype), options.minutes)
    table = sweep(options.scale, chosen, methods, options.out)
    planned = plan.Plan(
        rates=plan.read_rates(options.rates),
        tflops=options.tflops,
        compile_s=options.compile_s,
        host_s=options.host_s,
    )
    if options.plan:
        plan.show(planned, table, methods, options.minutes or 9, options.workers)
        return
    if options.slurm:
        submit(options, table)
        return
    if options.together:
        together = (chosen, options.out, options.together)
        run_in_pool([Step("together", train_originals_together, together)], 1)
    if options.minutes is not None:
        piece = piece_of(options, planned, table, methods)
        table = dataclasses.replace(table, piece=piece)
    left = run_benchmarks(options, table.piece)
    left += table.run(options.workers)
    if left:
        print(f"{left} steps are left: the same command goes on with them", flush=True)
        sys.exit(LEFT)
    print("All is measured: experiments.table1 with the same options makes the table", flush=True)


if __name__ == "__main__":
    main()

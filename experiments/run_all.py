"""Every group of cells of a table in one command: beside each other, on SLURM, or as a plan.

Command:   python -m experiments.run_all --scale full --dataset npz:cifar10.npz npz:svhn.npz --plan
           python -m experiments.run_all --scale full --dataset ... --workers 2
           python -m experiments.run_all --scale full --dataset ... --slurm gpu --minutes 30
           python -m experiments.run_all --scale small --dataset ... --together 3
Data:      as for experiments.table1
Hardware:  any; on a GPU one worker for each device. With --slurm the extra ``slurm`` (submitit)
Expected:  the files that experiments.table1 reads: run that afterwards, it measures nothing again

A group is a data set, network and seed, and groups share nothing. Workers take a group's offline
phases, then its requests, one at a time. What is done is skipped, so a piece that ran out of time
is started again with the same command. --plan prints for each group the
floating-point operations of its retraining, counted by the compiler, those of all its methods by
their shares in the small table, and the minutes they take at --tflops; pieces of --minutes are
packed from them. Nothing is run.
"""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Literal

from dcmu_jax.data.sources import load
from dcmu_jax.runs.options import Dtype
from dcmu_jax.runs.stages import build_model
from dcmu_jax.sweeps import Group, means
from dcmu_jax.sweeps.cells import kind_of, train_originals_together
from dcmu_jax.training.classifier import fresh_classifier
from experiments.arguments import parse
from experiments.table1 import SCALES, groups, sweep
from experiments.writing import forward_flops, read_rows


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
        minutes: of a job, or of a piece of the plan.
        plan: print what it would cost, and run nothing.
        tflops: rate for the plan, as measured on the device at hand.
        out: where the cells lie.
    """

    dataset: tuple[str, ...]
    scale: Literal["small", "wide", "full"] = "small"
    dtype: Dtype = "float32"
    methods: tuple[str, ...] | None = None
    workers: int = 1
    together: int | None = None
    slurm: str | None = None
    minutes: int = 30
    plan: bool = False
    tflops: float = 20.0
    out: Path = Path("runs/table1")


def retraining_flops(group: Group) -> float:
    """Operations of retraining on nine tenths of the data: three times its forward passes."""
    splits, config = load(group.dataset), group.config()
    model = build_model(group.model, splits, config.network)
    size = config.training.batch_size
    steps = config.training.epochs * math.ceil(0.9 * len(splits.train) / size)
    return 3 * forward_flops(fresh_classifier(model, splits.train, seed=0), size) * steps


def method_shares() -> dict[str, dict[str, float]]:
    """Kind of request -> method -> operations over retraining's, from the small table."""
    words = ("dataset", "model", "request", "method", "settings")
    rows = [row | {"kind": kind_of(row["request"])} for row in read_rows("table1_small", words)]
    field = "flops_over_retraining"
    return {
        kind: {name: entry[field]["mean"] for name, entry in found.items() if field in entry}
        for kind, found in means(rows, ["kind", "method"], [field]).items()
    }


def print_plan(options: Options, chosen: list[Group], methods: tuple[str, ...]) -> None:
    """Operations and minutes of every group, and how they fit into pieces."""
    shares = method_shares()
    # The original, the rounds of the paper's offline phase over all of the data, and all methods.
    offline = 1 + (200 / 30 if "paper" in methods else 0)
    known = sum(shares.get(kind, {}).get(m, 1.0) for kind in ("random", "class") for m in methods)
    pieces: list[float] = []
    for group in chosen:
        retraining = retraining_flops(group)
        total = retraining * (offline / 0.9 + known)
        minutes = total / (options.tflops * 1e12) / 60
        fits = next((i for i, used in enumerate(pieces) if used + minutes <= options.minutes), None)
        if fits is None:
            pieces.append(0.0)
            fits = len(pieces) - 1
        pieces[fits] += minutes
        print(
            f"{group.name:34} retraining {retraining / 1e12:9.2f} TFLOP  "
            f"all methods {total / 1e12:10.1f} TFLOP  {minutes:7.1f} min  piece {fits + 1}"
        )
    longest = max(pieces)
    print(
        f"{len(pieces)} pieces, {sum(pieces):.0f} minutes at {options.tflops} TFLOP/s without "
        f"compilation and measurement; the longest piece has {longest:.0f} minutes"
        + ("" if longest <= options.minutes else ", and is finished by starting it again")
    )


def main() -> None:
    """Run, submit or plan."""
    options = parse(Options, __doc__)
    scale = SCALES[options.scale]
    chosen, methods = (
        groups(scale, options.dataset, options.dtype),
        options.methods or scale.methods,
    )
    if options.plan:
        print_plan(options, chosen, methods)
        return
    if options.together:
        train_originals_together(chosen, options.out, options.together)
    table = sweep(options.scale, chosen, methods, options.out)
    if options.slurm:
        import submitit

        executor = submitit.AutoExecutor(folder=options.out / "slurm")
        executor.update_parameters(
            slurm_partition=options.slurm, timeout_min=options.minutes, gpus_per_node=1
        )
        for job in executor.map_array(table.measure, chosen):
            print("submitted", job.job_id)
    elif options.workers == 1:
        for group in chosen:
            table.measure(group)
    else:
        table.run(options.workers)


if __name__ == "__main__":
    main()

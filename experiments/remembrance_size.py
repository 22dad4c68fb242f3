"""What the number of remembrance samples does to modular unlearning as published.

Command:   python -m experiments.remembrance_size --dataset npz:cifar10_small.npz
Data:      a subset of CIFAR-10, 500 training images per class
Hardware:  1 CPU core, 15 minutes
Expected:  the more, the nearer to retraining: gap 8.7, 7.3 and 6.5 at 1, 10 and 50 per class, three
           points of retain accuracy fewer (the authors' differ by less than two points)

The `paper` preset with other numbers of remembrance samples, random forgetting of 10 %. One offline
round instead of ten. All numbers of samples are evaluated on the same test images: those that
the largest leaves. Writes experiments/results/remembrance_size.{csv,json}.
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import tyro

from dcmu_jax.files import write_rows
from dcmu_jax.runs.presets import paper_preset
from experiments.benchmarks.record import RESULTS, write_result
from experiments.grid import Bench, Group, scored_cells
from experiments.tables import mean_and_interval, without_folders


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What is run.

    Attributes:
        dataset: as for `dcmu run`.
        model: as for `dcmu run`.
        per_class: numbers of remembrance samples per class.
        seeds: see ``Group``.
        out: where the cells lie.
    """

    dataset: str
    model: str = "mlp"
    per_class: tuple[int, ...] = (1, 10, 50)
    seeds: tuple[int, ...] = (1, 2, 3)
    out: Path = Path("runs/remembrance_size")


def main() -> None:
    """Measure what is missing, then write the table."""
    options = tyro.cli(Options, description=__doc__)
    rows = []
    preset = paper_preset(options.model)
    for seed in options.seeds:
        bench = Bench(Group(dataset=options.dataset, model=options.model, seed=seed), options.out)
        bench.leave_out(max(options.per_class))
        rows.append(bench.cell("random:0.1", "retrain"))
        for count in options.per_class:
            variant = dataclasses.replace(
                preset,
                remembrance=dataclasses.replace(preset.remembrance, per_class=count),
                offline=dataclasses.replace(preset.offline, rounds=1),
            )
            rows.append(bench.cell("random:0.1", f"{count} per class", options=variant))
    found = scored_cells(rows)
    write_rows(RESULTS / "remembrance_size.csv", found)
    fields = ("retain_accuracy", "forget_accuracy", "test_accuracy", "mia", "gap", "online_s")
    summary = {
        method: {
            field: mean_and_interval([r[field] for r in found if r["method"] == method])
            for field in fields
        }
        for method in dict.fromkeys(r["method"] for r in found)
    }
    command = (
        f"python -m experiments.remembrance_size {' '.join(map(without_folders, sys.argv[1:]))}"
    )
    write_result("remembrance_size", summary, command)


if __name__ == "__main__":
    main()

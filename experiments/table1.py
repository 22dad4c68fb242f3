"""Table I: every method on random and class forgetting, with scores, ranks and a Pareto plot.

Command:   python -m experiments.table1 --scale small --dataset npz:cifar10_small.npz
           python -m experiments.table1 --scale full --dataset npz:cifar10.npz npz:svhn.npz
Data:      `small`, `wide`: a subset of CIFAR-10, 500 training and 200 test images per class;
           `full`: CIFAR-10 and SVHN, also by name (cifar10, svhn) where they are prepared
Hardware:  `small`: 2 CPU cores, 34 minutes by two workers of experiments.run_all; `wide`, the CNN
           at its full width with the baselines that came nearest: 40; `full`: GPUs, see
           experiments.run_all --plan
Expected:  random: fine-tuning leaves the forget accuracy where it was, `recommended` brings it
           the retrained model's; class: `paper` keeps some of the class, `recommended` none

Every method has had three trials to find its settings, on another original network, another forget
set and another class (experiments.tuning); where that has not run, it has the published ones. Other
budgets are unequal: fisher_forgetting looks at 100 samples of the retain set, ntk_scrubbing and
influence at 500 samples by 300 iterations at most, and `recommended` had more trials. Each cell
lies in a file of its own under --out and is not measured again. Writes the figures, gap against
time of every method and ranks, and experiments/results/table1_SCALE.{csv,json}.
RBE is shown beside the gap, never alone: see dcmu_jax.metrics.rbe.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import sys
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
import tyro

from dcmu_jax.baselines.registry import METHODS
from dcmu_jax.files import write_rows
from dcmu_jax.metrics.ranks import rank_methods
from dcmu_jax.metrics.rbe import rbe
from dcmu_jax.runs.presets import PRESETS
from dcmu_jax.training.divergence import Diverged
from experiments.benchmarks.record import RESULTS, write_result
from experiments.grid import AGAIN, Bench, Group, Settings, kind_of, scored_cells
from experiments.table1_figures import draw
from experiments.tables import mean_and_interval, without_folders

ROWS = (
    "original",
    "retrain",
    AGAIN,
    *(name for name in METHODS if name not in ("retrain", "modular")),
    "paper",
    "condensed",
    "recommended",
)
"""Of the table, in its order."""

_NO_METHODS = ("original", "retrain", AGAIN)
"""Rows that are held beside the methods, not ranked among them."""

_AVERAGED = (
    "retain_accuracy",
    "forget_accuracy",
    "test_accuracy",
    "mia",
    "unlearning_metric",
    "gap",
    "tug_of_war",
    "nomus",
    "zrf",
    "zrf_authors",
    "reduction",
    "online_s",
    "offline_s",
    "time_over_retraining",
    "flops_over_retraining",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scale:
    """Which cells there are.

    Attributes:
        networks: names of the catalogue and their widths.
        requests: what to forget; ``class`` stands for the class that the paper forgets.
        seeds: see ``Group``; 1000 and above are for tuning.
        methods: rows that are measured unless others are asked for.
        tuning: the scale whose tuned settings are taken.
    """

    networks: tuple[tuple[str, float], ...]
    requests: tuple[str, ...] = ("random:0.1", "class")
    seeds: tuple[int, ...] = (1, 2, 3)
    methods: tuple[str, ...] = ROWS
    tuning: str = "small"


SCALES = {
    "small": Scale(networks=(("mlp", 1.0), ("cnn", 0.25))),
    "wide": Scale(
        networks=(("cnn", 1.0),),
        methods=("original", "retrain", AGAIN, "negative_gradient", "eu_k", "recommended"),
    ),
    "full": Scale(
        networks=(("mlp", 1.0), ("cnn", 1.0), ("resnet18", 1.0), ("vgg16", 1.0)), tuning="full"
    ),
}


def groups(scale: Scale, datasets: tuple[str, ...]) -> list[Group]:
    """All groups of a scale, the cheapest networks first."""
    return [
        Group(dataset=dataset, model=model, width=width, seed=seed)
        for (model, width), dataset, seed in itertools.product(
            scale.networks, datasets, scale.seeds
        )
    ]


def request_of(text: str, dataset: str) -> str:
    """The request itself: the paper forgets class 2 of CIFAR-10 and class 3 of SVHN."""
    return text if text != "class" else f"class:{3 if 'svhn' in dataset else 2}"


def tuned(scale: str, group: Group) -> Settings:
    """The settings that tuning found for networks of the kind, if it has run."""
    path = RESULTS / f"tuning_{SCALES[scale].tuning}.json"
    if not path.exists():
        return {}
    found = json.loads(path.read_text())["figures"]["networks"].get(group.model, {})
    return {
        kind: {method: entry["chosen"] for method, entry in methods.items()}
        for kind, methods in found.items()
    }


def prepare_group(group: Group, methods: tuple[str, ...], out: Path) -> None:
    """The original of a group and the offline phases of its presets, where they are not there."""
    run = Bench(group, out).run
    run.train()
    for name in methods:
        if name in PRESETS:
            run.prepare(name)


def measure_group(
    scale: str,
    group: Group,
    methods: tuple[str, ...],
    out: Path,
    requests: tuple[str, ...] | None = None,
) -> list[dict]:
    """The rows of a group, measured where they are not there yet; of some of its requests."""
    bench = Bench(group, out)
    settings = tuned(scale, group)
    rows = []
    for text in requests or SCALES[scale].requests:
        request = request_of(text, group.dataset)
        for name in methods:
            try:
                row = bench.cell(request, name, settings.get(kind_of(request), {}).get(name))
            except Diverged as error:  # it has no row, and so no place among the ranks
                print(f"{group.name} {request} {name}: {error.given}", flush=True)
                continue
            rows.append(row)
            print(
                f"{group.name} {request} {name}: RA {row['retain_accuracy']:.2f} "
                f"FA {row['forget_accuracy']:.2f} TeA {row['test_accuracy']:.2f} "
                f"MIA {row['mia']:.2f} UT {row['online_s'] or 0:.2f} s",
                flush=True,
            )
    # Linux allows a process 65,530 memory maps, and the programs of a group take up to 50,000.
    jax.clear_caches()
    return rows


def finished_rows(folder: Path) -> list[dict]:
    """The cells of a group that have been measured, of requests that have their reference."""
    rows = [json.loads(path.read_text()) for path in sorted((folder / "cells").glob("*.json"))]
    whole = {row["request"] for row in rows if row["method"] == "retrain"}
    order = {name: number for number, name in enumerate(ROWS)}
    rows = [row for row in rows if row["request"] in whole and row["method"] in order]
    return sorted(rows, key=lambda row: (row["request"], order[row["method"]]))


def _columns(rows: list[dict], methods: list[str]) -> list[np.ndarray] | None:
    """RA, FA, MIA and UT ``(networks, methods)``, means over seeds; None unless all are there."""
    networks = list(dict.fromkeys((r["model"], r["width"]) for r in rows))
    columns = []
    for name in ("retain_accuracy", "forget_accuracy", "mia", "online_s"):
        table = np.full((len(networks), len(methods)), np.nan)
        for (i, network), (j, method) in itertools.product(enumerate(networks), enumerate(methods)):
            values = [
                r[name] for r in rows if (r["model"], r["width"], r["method"]) == (*network, method)
            ]
            if values:
                table[i, j] = np.mean(values)
        columns.append(table)
    return columns if all(np.isfinite(c).all() for c in columns) else None


def summarise(rows: list[dict]) -> dict[str, Any]:
    """Means and intervals over seeds; RBE by data set and request; ranks over all cells."""
    summary: dict[str, Any] = {"networks": {}, "rbe": {}, "ranks": {}}
    for row in rows:
        network = f"{row['dataset']} {row['model']} {row['width']:g}"
        entry = summary["networks"].setdefault(network, {}).setdefault(row["request"], {})
        if row["method"] in entry:
            continue
        keys = ("dataset", "model", "width", "request", "method")
        alike = [r for r in rows if all(r[k] == row[k] for k in keys)]
        entry[row["method"]] = {"seeds": len(alike)}
        for name in _AVERAGED:
            values = [r[name] for r in alike if r.get(name) is not None]
            if values and all(map(math.isfinite, values)):
                entry[row["method"]][name] = mean_and_interval(values)
    methods = [m for m in dict.fromkeys(r["method"] for r in rows) if m not in ("original", AGAIN)]
    for dataset, request in dict.fromkeys((r["dataset"], r["request"]) for r in rows):
        chosen = [r for r in rows if (r["dataset"], r["request"]) == (dataset, request)]
        networks = {(r["model"], r["width"]) for r in chosen}
        everywhere = [
            m
            for m in methods
            if {(r["model"], r["width"]) for r in chosen if r["method"] == m} == networks
        ]
        columns = _columns(chosen, everywhere)
        if columns is not None:
            scores = {m: float(s) for m, s in zip(everywhere, rbe(*columns), strict=True)}
            order = sorted(scores, key=scores.__getitem__)
            summary["rbe"].setdefault(dataset, {})[request] = {
                "scores": scores,
                "rank_of_retraining": 1 + order.index("retrain"),
            }
    for kind in dict.fromkeys(kind_of(r["request"]) for r in rows):
        summary["ranks"][kind] = ranks_by_gap(rows, kind)
    return summary


def ranks_by_gap(rows: list[dict], kind: str) -> dict[str, Any] | None:
    """Mean ranks by gap over all cells of a kind of request, of the methods that are in each.

    Retraining is the reference, and the untouched original no method: neither has a rank.
    """
    cells: dict[tuple, dict[str, float]] = {}
    for r in rows:
        if kind_of(r["request"]) == kind and r["method"] not in _NO_METHODS:
            key = (r["dataset"], r["model"], r["width"], r["request"], r["seed"])
            cells.setdefault(key, {})[r["method"]] = r["gap"]
    methods = [m for m in next(iter(cells.values()), {}) if all(m in c for c in cells.values())]
    table = np.array([[cell.get(m, np.nan) for m in methods] for cell in cells.values()])
    if min(table.shape, default=0) < 2:
        return None
    table = np.where(np.isfinite(table), table, np.inf)  # a network that diverged is the last
    if np.isinf(table).any():
        table[np.isinf(table)] = np.finfo(np.float64).max
    ranking = rank_methods(table)
    return {
        "mean_ranks": dict(zip(methods, ranking.mean_ranks.tolist(), strict=True)),
        "critical_difference": ranking.critical_difference,
        "p_value": ranking.p_value,
        "cells": ranking.cells,
    }


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What is run.

    Attributes:
        dataset: as for `dcmu run`, one or several.
        scale: which cells; see ``SCALES``.
        networks: only these of them.
        methods: these rows instead of the scale's; retraining is always there.
        seeds: only these of them.
        collect: take what has been measured, and measure nothing.
        out: where the cells lie.
    """

    dataset: tuple[str, ...]
    scale: Literal["small", "wide", "full"] = "small"
    networks: tuple[str, ...] | None = None
    methods: tuple[str, ...] | None = None
    seeds: tuple[int, ...] | None = None
    collect: bool = False
    out: Path = Path("runs/table1")


def main() -> None:
    """Measure what is missing, then write table and figures; also after every group."""
    options = tyro.cli(Options, description=__doc__)
    scale = SCALES[options.scale]
    methods = tuple(dict.fromkeys(("retrain", *(options.methods or scale.methods))))
    rows: list[dict] = []
    for group in groups(scale, options.dataset):
        if options.networks and group.model not in options.networks:
            continue
        if options.seeds and group.seed not in options.seeds:
            continue
        if options.collect:
            rows += finished_rows(options.out / group.name)
            continue
        rows += measure_group(options.scale, group, methods, options.out)
        write(f"table1_{options.scale}", rows, sys.argv[1:])
    if options.collect:
        write(f"table1_{options.scale}", rows, sys.argv[1:])


def write(name: str, rows: list[dict], arguments: list[str]) -> None:
    """Table, summary and figures of ``rows``."""
    found = scored_cells(rows)
    write_rows(RESULTS / f"{name}.csv", found)
    summary = summarise(found)
    command = f"python -m experiments.table1 {' '.join(map(without_folders, arguments))}"
    write_result(name, summary, command.strip())
    draw(name, found, summary)


if __name__ == "__main__":
    main()

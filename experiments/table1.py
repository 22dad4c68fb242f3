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
import functools
import itertools
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from dcmu_jax.baselines.registry import METHODS
from dcmu_jax.metrics.ranks import rank_methods
from dcmu_jax.metrics.rbe import rbe
from dcmu_jax.runs.options import Dtype
from dcmu_jax.runs.presets import PRESETS
from dcmu_jax.sweeps import AGAIN, Bench, Group, Sweep, Variant, means, scored_cells
from dcmu_jax.sweeps.cells import Settings, kind_of
from dcmu_jax.sweeps.summaries import Row
from experiments.arguments import parse
from experiments.benchmarks import record
from experiments.writing import of_dtype, write

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
        epochs: of the originals and of retraining.
    """

    networks: tuple[tuple[str, float], ...]
    requests: tuple[str, ...] = ("random:0.1", "class")
    seeds: tuple[int, ...] = (1, 2, 3)
    methods: tuple[str, ...] = ROWS
    tuning: str = "small"
    epochs: int = 30


SCALES = {
    "trial": Scale(networks=(("mlp", 0.05),), seeds=(1,), epochs=1),
    "small": Scale(networks=(("mlp", 1.0), ("cnn", 0.25))),
    "wide": Scale(
        networks=(("cnn", 1.0),),
        methods=("original", "retrain", AGAIN, "negative_gradient", "eu_k", "recommended"),
    ),
    "full": Scale(
        networks=(("mlp", 1.0), ("cnn", 1.0), ("resnet18", 1.0), ("vgg16", 1.0)), tuning="full"
    ),
}


def groups(scale: Scale, datasets: tuple[str, ...], dtype: Dtype = "float32") -> list[Group]:
    """All groups of a scale, the cheapest networks first."""
    return [
        Group(
            dataset=dataset, model=model, width=width, seed=seed, dtype=dtype, epochs=scale.epochs
        )
        for (model, width), dataset, seed in itertools.product(
            scale.networks, datasets, scale.seeds
        )
    ]


def request_of(text: str, dataset: str) -> str:
    """The request itself: the paper forgets class 2 of CIFAR-10 and class 3 of SVHN."""
    return text if text != "class" else f"class:{3 if 'svhn' in dataset else 2}"


def tuned(scale: str, group: Group) -> Settings:
    """The settings that tuning found for networks of the kind, if it has run."""
    name = f"tuning_{SCALES[scale].tuning}"
    paths = [record.RESULTS / f"{n}.json" for n in (of_dtype(name, group.dtype), name)]
    path = next((each for each in paths if each.exists()), None)
    if path is None:
        return {}
    found = json.loads(path.read_text())["figures"]["networks"].get(group.model, {})
    return {
        kind: {method: entry["chosen"] for method, entry in methods.items()}
        for kind, methods in found.items()
    }


def _variants(scale: str, methods: tuple[str, ...], bench: Bench, request: str) -> list[Variant]:
    settings = tuned(scale, bench.group).get(kind_of(request), {})
    return [Variant(name=name, settings=settings.get(name)) for name in methods]


def sweep(
    scale: str, chosen: Sequence[Group], methods: tuple[str, ...], out: Path = Path("runs/table1")
) -> Sweep:
    """The table as a value: groups of a scale, its requests, and rows."""
    requests = SCALES[scale].requests
    return Sweep(
        cells=tuple((g, request_of(text, g.dataset)) for g in chosen for text in requests),
        variants=functools.partial(_variants, scale, methods),
        out=out,
        presets=tuple(name for name in methods if name in PRESETS),
    )


def finished_rows(folder: Path) -> list[Row]:
    """The cells of a group that have been measured, of requests that have their reference."""
    rows = [json.loads(path.read_text()) for path in sorted((folder / "cells").glob("*.json"))]
    whole = {row["request"] for row in rows if row["method"] == "retrain"}
    rows = [row for row in rows if row["request"] in whole and row["method"] in ROWS]
    return sorted(rows, key=lambda row: (row["request"], ROWS.index(row["method"])))


def _rbe(rows: list[Row]) -> dict[str, Any] | None:
    """RBE of the methods that every network has, of means over seeds; None if some diverged."""
    columns = ("retain_accuracy", "forget_accuracy", "mia", "online_s")
    found = [*means(rows, ("model", "width", "method"), columns).values()]
    cells = [by_method for by_width in found for by_method in by_width.values()]
    methods = [
        name
        for name in dict.fromkeys(row["method"] for row in rows)
        if name not in ("original", AGAIN) and all(name in cell for cell in cells)
    ]
    table = [
        np.array([[cell[m].get(c, {"mean": np.nan})["mean"] for m in methods] for cell in cells])
        for c in columns
    ]
    if not all(np.isfinite(column).all() for column in table):
        return None
    scores = dict(zip(methods, map(float, rbe(*table)), strict=True))
    order = sorted(scores, key=scores.__getitem__)
    return {"scores": scores, "rank_of_retraining": 1 + order.index("retrain")}


def summarise(rows: list[Row]) -> dict[str, Any]:
    """Means and intervals over seeds; RBE by data set and request; ranks over all cells."""
    named = [row | {"network": f"{row['dataset']} {row['model']} {row['width']:g}"} for row in rows]
    networks = means(named, ("network", "request", "method"), _AVERAGED, count="seeds")
    for entry in (e for r in networks.values() for m in r.values() for e in m.values()):
        for field in [f for f in entry if f != "seeds" and not math.isfinite(entry[f]["mean"])]:
            del entry[field]  # of a network that diverged
    scores: dict[str, dict] = {}
    for dataset, request in dict.fromkeys((r["dataset"], r["request"]) for r in rows):
        chosen = [r for r in rows if (r["dataset"], r["request"]) == (dataset, request)]
        if (found := _rbe(chosen)) is not None:
            scores.setdefault(dataset, {})[request] = found
    kinds = dict.fromkeys(kind_of(row["request"]) for row in rows)
    ranks = {kind: ranks_by_gap(rows, kind) for kind in kinds}
    return {"networks": networks, "rbe": scores, "ranks": ranks}


def ranks_by_gap(rows: list[Row], kind: str) -> dict[str, Any] | None:
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
    # A network that diverged is the last.
    table = np.where(np.isfinite(table), table, np.finfo(np.float64).max)
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
        dtype: of the computation; parameters and statistics stay float32.
        networks: only these of them.
        methods: these rows instead of the scale's; retraining is always there.
        seeds: only these of them.
        collect: take what has been measured, and measure nothing.
        out: where the cells lie.
    """

    dataset: tuple[str, ...]
    scale: Literal["trial", "small", "wide", "full"] = "small"
    dtype: Dtype = "float32"
    networks: tuple[str, ...] | None = None
    methods: tuple[str, ...] | None = None
    seeds: tuple[int, ...] | None = None
    collect: bool = False
    out: Path = Path("runs/table1")


def main() -> None:
    """Measure what is missing, then write table and figures; also after every group."""
    from dcmu_jax.reporting.pareto import pareto_figure, rank_figure

    options = parse(Options, __doc__)
    scale = SCALES[options.scale]
    methods = tuple(dict.fromkeys(("retrain", *(options.methods or scale.methods))))
    chosen = [
        group
        for group in groups(scale, options.dataset, options.dtype)
        if group.model in (options.networks or (group.model,))
        and group.seed in (options.seeds or (group.seed,))
    ]
    if options.collect:
        folders = [options.out / group.name for group in chosen]
        tables = [scored_cells(row for folder in folders for row in finished_rows(folder))]
    else:
        tables = sweep(options.scale, chosen, methods, options.out).so_far()
    name = of_dtype(f"table1_{options.scale}", options.dtype)
    for rows in tables:
        summary = summarise(rows)
        figures = {
            f"{name}_pareto": pareto_figure(rows),
            f"{name}_ranks": rank_figure(summary["ranks"]),
        }
        write(name, summary, rows, figures)


if __name__ == "__main__":
    main()

"""Figures 7 and 8: what the number of clusters does, by condenser, request and fraction forgotten.

Command:   python -m experiments.clusters_k --dataset npz:cifar10_small.npz
           python -m experiments.clusters_k --dataset npz:cifar10.npz --per-class 50 500 1000
Data:      a subset of CIFAR-10, 500 training images per class; or all of it
Hardware:  2 CPU cores, an hour, half of it one seed's inversions; at full size a GPU
Expected:  the reduced set is not smallest at the largest or smallest K but at that of the theory, a
           little above it as clusters are unequal; accuracy follows its size, so that the gap is
           least where nothing is saved; images by inversion lose more the more of them stand in

The `paper` preset with other numbers of clusters, for fast distribution matching and model
inversion, on a random share of 1, 10 and 50 % and on a class. The authors' figures have runs in
which the protocol found no forgotten sample, so that only condensed images were trained on; here
every reduction is that of the protocol, and stands beside the one that the theory expects. One
offline round instead of ten: it does not depend on K. Writes
experiments/results/clusters_k_DATASET.{csv,json,png}.
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import tyro
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, ScalarFormatter

from dcmu_jax.condensation.inversion import InversionConfig
from dcmu_jax.files import write_rows
from dcmu_jax.reporting import style
from dcmu_jax.runs.options import CondensationOptions, MethodOptions
from dcmu_jax.runs.presets import paper_preset
from dcmu_jax.theory.reduction import class_reduction, expected_reduction_equal
from experiments.benchmarks.record import RESULTS, write_result
from experiments.grid import Bench, Group, scored_cells
from experiments.tables import mean_and_interval, without_folders

Condenser = Literal["matching", "inversion"]
REQUESTS = ("random:0.01", "random:0.1", "random:0.5", "class:2")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What is run.

    Attributes:
        dataset: as for `dcmu run`.
        model: as for `dcmu run`; the paper's figures have the MLP.
        per_class: numbers of clusters per class.
        condensers: which.
        seeds: see ``Group``.
        inversion_seeds: those of them whose banks are made by inversion, too: minutes each.
        out: where the cells lie.
    """

    dataset: str
    model: str = "mlp"
    per_class: tuple[int, ...] = (5, 20, 50, 100, 200)
    condensers: tuple[Condenser, ...] = get_args(Condenser)
    seeds: tuple[int, ...] = (1, 2, 3)
    inversion_seeds: tuple[int, ...] = (1,)
    out: Path = Path("runs/clusters_k")


def variant(model: str, condenser: Condenser, per_class: int) -> MethodOptions:
    """The paper's preset with another bank."""
    options = paper_preset(model)
    return dataclasses.replace(
        options,
        condensation=CondensationOptions(
            clusters_per_class=per_class,
            condenser=condenser,
            inversion=InversionConfig(network="mlp", epochs=50),
        ),
        offline=dataclasses.replace(options.offline, rounds=1),
    )


def draw(name: str, rows: list[dict]) -> None:
    """Gap, forget accuracy and reduction over K, a column for each request."""
    shown = (
        ("gap", "gap (points)"),
        ("forget_accuracy", "forget accuracy (%)"),
        ("retain_accuracy", "retain accuracy (%)"),
        ("reduction", "reduction"),
    )
    requests = list(dict.fromkeys(r["request"] for r in rows))
    figure = Figure(figsize=(3.6 * len(requests), 2.6 * len(shown)), layout=style.layout())
    places = figure.subplots(len(shown), len(requests), squeeze=False, sharex=True)
    for column, request in enumerate(requests):
        for line, (field, label) in enumerate(shown):
            axes = places[line][column]
            style.plain(axes)
            axes.set_xscale("log")
            if not line:
                axes.set_title(request, color=style.INK)
            if not column:
                axes.set_ylabel(label)
            cell = [r for r in rows if r["request"] == request]
            for number, condenser in enumerate(dict.fromkeys(r["condenser"] for r in rows)):
                if condenser == "-":
                    continue
                points = []
                for k in sorted({r["per_class"] for r in cell if r["condenser"] == condenser}):
                    values = [
                        r[field] for r in cell if (r["condenser"], r["per_class"]) == (condenser, k)
                    ]
                    found = mean_and_interval(values)
                    points.append((k, found["mean"], found.get("ci95", 0.0)))
                x, y, half = zip(*points, strict=True)
                color = (style.TEST, style.FORGET)[(number + 1) % 2]
                marker = style.MARKERS[number]
                axes.errorbar(x, y, half, label=condenser, color=color, marker=marker, capsize=2)
            if field == "reduction":
                ks = sorted({r["per_class"] for r in cell if r["condenser"] != "-"})
                expected = [
                    next(r["expected_reduction"] for r in cell if r["per_class"] == k) for k in ks
                ]
                axes.plot(ks, expected, color=style.INK, linestyle=":", label="equal clusters")
                axes.set_xlabel("clusters per class")
                axes.set_ylim(0, 1.05)
            elif field != "gap":
                retrained = [r[field] for r in cell if r["method"] == "retrain"]
                axes.axhline(np.mean(retrained), color=style.INK, linewidth=1, label="retrained")
            axes.set_xticks(sorted({r["per_class"] for r in cell if r["condenser"] != "-"}))
            axes.xaxis.set_major_formatter(ScalarFormatter())
            axes.xaxis.set_minor_formatter(NullFormatter())
    handles: dict = {}
    for axes in places.flat:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    figure.legend(
        handles.values(), handles.keys(), loc="outside lower center", ncols=4, frameon=False
    )
    style.save_figure(figure, RESULTS / f"{name}.png")


def main() -> None:
    """Measure what is missing, then write table and figure."""
    options = tyro.cli(Options, description=__doc__)
    rows = []
    for seed in options.seeds:
        bench = Bench(Group(dataset=options.dataset, model=options.model, seed=seed), options.out)
        train = bench.run.splits.train
        for request in REQUESTS:
            forgotten = len(bench.run.request(request).ids)
            row = bench.cell(request, "retrain")
            rows.append(row | {"condenser": "-", "per_class": 0, "expected_reduction": None})
            for condenser in options.condensers:
                if condenser == "inversion" and seed not in options.inversion_seeds:
                    continue
                for k in options.per_class:
                    row = bench.cell(
                        request,
                        f"{condenser}-{k}",
                        options=variant(options.model, condenser, k),
                    )
                    expected = (
                        expected_reduction_equal(len(train), train.num_classes * k, forgotten)
                        if request.startswith("random")
                        else class_reduction(k, len(train) // train.num_classes)
                    )
                    rows.append(
                        row
                        | {"condenser": condenser, "per_class": k, "expected_reduction": expected}
                    )
                    print(
                        seed, request, condenser, k, f"RA {row['retain_accuracy']:.1f}", flush=True
                    )
    found = scored_cells(rows)
    name = f"clusters_k_{Path(options.dataset.split(':')[-1]).stem}"
    write_rows(RESULTS / f"{name}.csv", found)
    keys = ("request", "condenser", "per_class")
    summary = [
        dict(zip(keys, key, strict=True))
        | {
            field: mean_and_interval([r[field] for r in found if tuple(r[k] for k in keys) == key])
            for field in ("gap", "tug_of_war", "forget_accuracy", "retain_accuracy", "online_s")
        }
        for key in dict.fromkeys(tuple(r[k] for k in keys) for r in found)
    ]
    command = f"python -m experiments.clusters_k {' '.join(map(without_folders, sys.argv[1:]))}"
    write_result(name, {"cells": summary}, command)
    draw(name, found)


if __name__ == "__main__":
    main()

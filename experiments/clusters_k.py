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
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, get_args

from dcmu_jax.condensation.inversion import InversionConfig
from dcmu_jax.runs.options import CondensationOptions, Dtype, MethodOptions
from dcmu_jax.runs.presets import paper_preset
from dcmu_jax.sweeps import Bench, Group, Sweep, Variant, mean_and_interval
from dcmu_jax.sweeps.cells import stem_of
from dcmu_jax.theory.reduction import class_reduction, expected_reduction_equal
from experiments import plots
from experiments.arguments import parse
from experiments.writing import of_dtype, write

Condenser = Literal["matching", "inversion"]
REQUESTS = ("random:0.01", "random:0.1", "random:0.5", "class:2")
KEYS = ("request", "condenser", "per_class")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What is run.

    Attributes:
        dataset: as for `dcmu run`.
        model: as for `dcmu run`; the paper's figures have the MLP.
        dtype: of the computation; parameters and statistics stay float32.
        per_class: numbers of clusters per class.
        condensers: which.
        seeds: see ``Group``.
        inversion_seeds: those of them whose banks are made by inversion, too: minutes each.
        out: where the cells lie.
    """

    dataset: str
    model: str = "mlp"
    dtype: Dtype = "float32"
    per_class: tuple[int, ...] = (5, 20, 50, 100, 200)
    condensers: tuple[Condenser, ...] = get_args(Condenser)
    seeds: tuple[int, ...] = (1, 2, 3)
    inversion_seeds: tuple[int, ...] = (1,)
    out: Path = Path("runs/clusters_k")

    def variants(self, bench: Bench, request: str) -> Iterator[Variant]:
        """Retraining, then every number of clusters by each condenser."""
        train, forgotten = bench.run.splits.train, len(bench.run.request(request).ids)
        none = {"condenser": "-", "per_class": 0, "expected_reduction": None}
        yield Variant(name="retrain", columns=none)
        for condenser, k in itertools.product(self.condensers, self.per_class):
            if condenser == "inversion" and bench.group.seed not in self.inversion_seeds:
                continue
            expected = (
                expected_reduction_equal(len(train), train.num_classes * k, forgotten)
                if request.startswith("random")
                else class_reduction(k, len(train) // train.num_classes)
            )
            yield Variant(
                name=f"{condenser}-{k}",
                options=variant(self.model, condenser, k),
                columns={"condenser": condenser, "per_class": k, "expected_reduction": expected},
            )


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


def main() -> None:
    """Measure what is missing, then write table and figure."""
    options = parse(Options, __doc__)
    groups = [
        Group(dataset=options.dataset, model=options.model, seed=s, dtype=options.dtype)
        for s in options.seeds
    ]
    cells = tuple(itertools.product(groups, REQUESTS))
    rows = Sweep(cells=cells, variants=options.variants, out=options.out).rows()
    fields = ("gap", "tug_of_war", "forget_accuracy", "retain_accuracy", "online_s")
    summary = []
    for key in plots.distinct(rows, *KEYS):
        alike = [r for r in rows if tuple(r[k] for k in KEYS) == key]
        entry = {field: mean_and_interval([r[field] for r in alike]) for field in fields}
        summary.append(dict(zip(KEYS, key, strict=True)) | entry)
    name = of_dtype(f"clusters_k_{stem_of(options.dataset)}", options.dtype)
    write(name, {"cells": summary}, rows, {name: plots.clusters(rows)})


if __name__ == "__main__":
    main()

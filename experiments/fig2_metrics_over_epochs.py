"""Figure 2: unlearning metric, overfitting metric and membership attack over the first epochs.

Command:   python -m experiments.fig2_metrics_over_epochs --dataset npz:cifar10_small.npz
Data:      a subset of CIFAR-10, 500 training and 200 test images per class
Hardware:  2 CPU cores, some 5 minutes for each seed
Expected:  MIA follows the forget accuracy (r above .9 over all points) and OM, nearly the loss;
           UM says little of it, pooled or within a method

Of retraining, fine-tuning and modular unlearning the network is measured after each of its first
epochs: UM over retain and forget set, OM as the mean over the forget set, MIA, RA and FA. Pearson's
correlation of MIA with UM, OM and FA is given over all points of a seed, within each method (its
mean taken off), and for each method: means over seeds with 95 % intervals. What is measured of a
method is kept under --out and not measured again. Writes
experiments/results/fig2_metrics_over_epochs.{csv,json,png}.
"""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import numpy as np

from dcmu_jax.metrics.overfitting import overfitting_metric
from dcmu_jax.runs import stages
from dcmu_jax.runs.options import Dtype
from dcmu_jax.runs.presets import PRESETS
from dcmu_jax.runs.store import digest
from dcmu_jax.sweeps import Bench, Group, mean_and_interval
from dcmu_jax.unlearning.task import Hooks
from experiments import plots
from experiments.arguments import parse
from experiments.writing import of_dtype, write

METRICS = {
    "unlearning_metric": "UM",
    "overfitting_metric": "OM, mean over forgotten",
    "forget_accuracy": "FA (%)",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What is run.

    Attributes:
        dataset: as for `dcmu run`.
        model: as for `dcmu run`.
        width: of the network.
        dtype: of the computation; parameters and statistics stay float32.
        request: what to forget.
        methods: presets and registered methods.
        epochs: of each that are looked at.
        seeds: see ``sweeps.Group``.
        out: where networks are kept.
    """

    dataset: str
    model: str = "cnn"
    width: float = 0.25
    dtype: Dtype = "float32"
    request: str = "random:0.1"
    methods: tuple[str, ...] = ("retrain", "catastrophic_forgetting", "paper", "recommended")
    epochs: int = 5
    seeds: tuple[int, ...] = (1, 2, 3)
    out: Path = Path("runs/fig2")


class Looking:
    """Measures a network after each of its first epochs."""

    def __init__(self, bench: Bench, text: str, method: str, epochs: int):
        self.bench, self.method, self.epochs = bench, method, epochs
        self.request = bench.run.request(text)
        self.rows: list[dict] = []

    def __call__(self, seconds: float, network) -> None:
        """One row, unless there are enough."""
        if len(self.rows) >= self.epochs:
            return
        bench, splits = self.bench, self.bench.run.splits
        measured = stages.measure_network(
            self.method, bench.config, network, splits, self.request, bench.usable
        ).measurement
        forget = splits.train.take(splits.train.positions(self.request.ids))
        self.rows.append(
            {
                "seed": bench.group.seed,
                "method": self.method,
                "epoch": len(self.rows) + 1,
                "mia": measured.mia,
                "unlearning_metric": measured.unlearning_metric,
                "overfitting_metric": float(overfitting_metric(network, forget).values.mean()),
                "retain_accuracy": measured.retain_accuracy,
                "forget_accuracy": measured.forget_accuracy,
            }
        )
        print(self.rows[-1], flush=True)


def look(bench: Bench, text: str, method: str, epochs: int) -> list[dict]:
    """The rows of one method on one original, measured if they are not there yet."""
    run = bench.run
    request = run.request(text)

    def measure() -> list[dict]:
        looking = Looking(bench, text, method, epochs)
        stages.unlearn(
            method,
            bench.config,
            run.train(),
            run.splits,
            looking.request,
            prepared=run.prepare(method) if method in PRESETS else None,
            hooks=Hooks(observe=looking),
        )
        return looking.rows

    made_of = {"ids": digest(request.ids), "epochs": epochs, **bench.of_method(method, request)}
    name = f"{request.slug}--{method}--{epochs}"
    return bench.once("metrics_over_epochs", name, made_of, measure)


def over_seeds(rows: list[dict]) -> dict[str, dict[str, dict[str, float]]]:
    """Mean and 95 % interval over seeds of each correlation; no interval of one seed."""
    seeds = dict.fromkeys(row["seed"] for row in rows)
    found = [correlations([row for row in rows if row["seed"] == seed]) for seed in seeds]
    return {
        metric: {name: mean_and_interval([one[metric][name] for one in found]) for name in names}
        for metric, names in found[0].items()
    }


def correlations(rows: list[dict]) -> dict[str, dict[str, float]]:
    """Pearson's r of MIA with each metric, of one seed: pooled, within methods, of each method."""

    def r(chosen: list[np.ndarray]) -> float:
        x, y = np.concatenate(chosen, axis=1)
        spread = x.std() * y.std()
        return float(np.mean((x - x.mean()) * (y - y.mean())) / spread) if spread else 0.0

    found: dict[str, dict[str, float]] = {}
    methods = list(dict.fromkeys(row["method"] for row in rows))
    for metric in METRICS:
        pairs = {
            method: np.array([(q["mia"], q[metric]) for q in rows if q["method"] == method]).T
            for method in methods
        }
        centred = [pair - pair.mean(axis=1, keepdims=True) for pair in pairs.values()]
        found[metric] = {"pooled": r(list(pairs.values())), "within methods": r(centred)}
        found[metric] |= {method: r([pair]) for method, pair in pairs.items()}
    return found


def main() -> None:
    """Measure, correlate, draw."""
    options = parse(Options, __doc__)
    rows: list[dict] = []
    for seed, method in itertools.product(options.seeds, options.methods):
        group = Group(
            dataset=options.dataset,
            model=options.model,
            seed=seed,
            width=options.width,
            dtype=options.dtype,
        )
        rows += look(Bench(group, options.out), options.request, method, options.epochs)
    name = of_dtype("fig2_metrics_over_epochs", options.dtype)
    figures = {"seeds": len(options.seeds), "correlation_with_mia": over_seeds(rows)}
    write(name, figures, rows, {name: plots.metrics_over_epochs(rows, METRICS)})


if __name__ == "__main__":
    main()

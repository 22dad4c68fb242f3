"""How low fast distribution matching gets, and how soon: Adam as published against Gauss-Newton.

Command:   python -m experiments.matching_curve --dataset npz:cifar10_small.npz --model cnn
Data:      a subset of CIFAR-10, 500 training images per class
Hardware:  2 CPU cores; about 8 minutes, 2 of them training the network
Expected:  the paper's 100 steps leave about two thirds of the objective of the plain means;
           Gauss-Newton leaves less in less time, and convex weights lower it least

Trains the network, clusters its features, and condenses with each solver, stopping after growing
numbers of steps. Writes experiments/results/matching_curve.json and .png: the objective left, as a
share of what the plain means have, over seconds. A way that stops later runs the same steps again,
so that every point is a time of its own.
"""

from __future__ import annotations

import dataclasses
import time

import numpy as np

from dcmu_jax.condensation import (
    FeatureMap,
    MatchingConfig,
    cluster_classes,
    cluster_means,
    extract,
    match_clusters,
)
from dcmu_jax.data import load
from dcmu_jax.runs.config import RunConfig
from dcmu_jax.runs.options import Dtype, NetworkOptions
from dcmu_jax.runs.stages import build_model, train_original
from experiments import plots
from experiments.arguments import parse
from experiments.writing import of_dtype, write

WAYS = {
    "Adam, as published": MatchingConfig(),
    "Adam, scaled by size": MatchingConfig(learning_rate=3e-2, scale_by_size=True),
    "Gauss-Newton": MatchingConfig(solver="newton"),
    "Gauss-Newton, sum to one": MatchingConfig(solver="newton", weights="sum_to_one"),
    "Gauss-Newton, convex": MatchingConfig(solver="newton", weights="convex"),
}
STEPS = {"adam": (10, 30, 100), "newton": (1, 2, 4, 8, 16)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """What is run.

    Attributes:
        dataset: as for `dcmu run`.
        model: as for `dcmu run`.
        dtype: of the computation; parameters and statistics stay float32.
        clusters_per_class: K.
        seed: of the network and the clusters.
    """

    dataset: str
    model: str = "cnn"
    dtype: Dtype = "float32"
    clusters_per_class: int = 50
    seed: int = 0


def main() -> None:
    """Train, cluster, condense, draw."""
    settings = parse(Settings, __doc__)
    splits = load(settings.dataset)
    config = RunConfig(
        dataset=settings.dataset,
        model=settings.model,
        seed=settings.seed,
        network=NetworkOptions(dtype=settings.dtype),
    )
    model = build_model(settings.model, splits, config.network)
    network = train_original(config, model, splits).classifier
    train = splits.train
    features = np.asarray(extract(network, train.images), np.float32)
    clusters = cluster_classes(
        features, train.labels, settings.clusters_per_class, seed=settings.seed
    )
    targets = cluster_means(features, clusters.assignment)

    def condense(way: MatchingConfig):
        return match_clusters(
            FeatureMap(model), network.variables, train.images, targets, clusters.assignment,
            network.normalisation, way,
        )  # fmt: skip

    curves: dict[str, list[dict]] = {}
    for name, way in WAYS.items():
        for steps in STEPS[way.solver]:
            now = dataclasses.replace(way, steps=steps)
            condense(now)  # compiles
            wall, cpu = time.perf_counter(), time.process_time()
            matched = condense(now)
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            left = float(matched.final_loss.sum() / matched.initial_loss.sum())
            weights = np.abs(matched.weights)
            point = {"steps": steps, "wall_s": wall, "cpu_s": cpu}
            point |= {"left": left, "largest_weight": float(weights.max())}
            curves.setdefault(name, []).append(point)
            print(name, point, flush=True)
    figures = {"clusters": len(clusters.sizes), "curves": curves}
    name = of_dtype("matching_curve", settings.dtype)
    write(name, figures, pictures={name: plots.matching_curves(curves)})


if __name__ == "__main__":
    main()

"""Benchmark: forgetting a tenth of a condensed bank, against condensing what is left from scratch.

Command:  python -m experiments.benchmarks.deletion --data cifar10.npz --clusters-per-class 450
          (from the root of the repository)
Needs:    2 CPU cores, 6 GB, some 20 minutes (5,000 images, K = 45: 2); an archive of images in
          classes (x_train uint8, y_train)
Aim:      every touched cluster re-condensed in less than a tenth of the time that condensing from
          scratch takes, at the same objective to 1 %.

The CNN's features, trained for a few epochs so that there is something to match. From scratch means
features, clusters and matching of the survivors by the paper's 100 Adam steps; matching alone is
given apart, and by Gauss-Newton, too. Re-condensing passes the survivors of touched clusters
through the network and takes a few Gauss-Newton steps, from the weights there are or from even
ones (strict). Objectives are sums over the touched clusters, all of the same clusters and targets.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from dcmu_jax.condensation import (
    FeatureMap,
    MatchingConfig,
    build_bank,
    cluster_classes,
    cluster_means,
    extract,
    match_clusters,
    recondense,
)
from dcmu_jax.networks.catalogue import create
from dcmu_jax.training.classifier import fresh_classifier
from dcmu_jax.training.examples import Examples
from dcmu_jax.training.keys import named_key
from dcmu_jax.training.loop import fit
from dcmu_jax.training.optimizers import Optimizer
from experiments.benchmarks.clock import peak_mib, timed
from experiments.benchmarks.command import CommandLine
from experiments.benchmarks.images import NEEDED, archive_of

ADAM = MatchingConfig()
NEWTON = MatchingConfig(solver="newton", steps=10)


def main() -> None:
    """Measure and write experiments/results/deletion_N.json."""
    line = CommandLine(
        "deletion",
        __doc__,
        data=NEEDED,
        clusters_per_class=450,
        epochs=(3, "of training the network"),
        steps=[1, 2, 3],
    )
    args = line.parse()
    dataset = archive_of(args.data)
    images, labels = dataset.images, dataset.labels
    model = create("cnn", image_shape=images.shape[1:], num_classes=dataset.num_classes)
    network = fit(
        fresh_classifier(model, dataset, 0),
        Examples.of(images, labels),
        epochs=args.epochs,
        key=named_key(0, "training"),
        optimizer=Optimizer(learning_rate=1e-3),
    ).classifier
    k = args.clusters_per_class
    bank = build_bank(dataset, network, clusters_per_class=k, matching=NEWTON)
    forget = np.random.default_rng(0).permutation(len(labels))[: len(labels) // 10]
    left = dataset.without(forget)
    survivors = np.bincount(bank.cluster[left.ids], minlength=len(bank.sizes))
    kept = np.flatnonzero(survivors > 0)
    touched = (survivors < bank.sizes)[kept]
    cluster = np.searchsorted(kept, bank.cluster[left.ids])

    extract(network, left.images[:500])
    features, features_s = timed(lambda: extract(network, left.images))
    _, clusters_s = timed(lambda: cluster_classes(features, left.labels, k))
    targets = cluster_means(features, cluster)

    def match(config: MatchingConfig):
        return match_clusters(
            FeatureMap(model), network.variables, left.images, targets, cluster,
            network.normalisation, config,
        )  # fmt: skip

    scratch, objectives = {}, {}
    for name, config in (("adam", ADAM), ("newton", NEWTON)):
        match(dataclasses.replace(config, steps=config.steps if len(labels) < 10_000 else 1))
        matched, scratch[name] = timed(lambda config=config: match(config))
        objectives[name] = float(matched.final_loss[touched].sum())
    whole = {
        unit: features_s[unit] + clusters_s[unit] + scratch["adam"][unit]
        for unit in ("wall_s", "cpu_s")
    }
    rows = {}
    for warm in (True, False):
        for steps in args.steps:
            config = MatchingConfig(solver="newton", steps=steps)

            def again(config=config, warm=warm):
                return recondense(bank, dataset, network, forget, config, warm=warm)

            again()
            new, seconds = timed(again)
            objective = float(new.final_loss[touched].sum())
            rows[f"{'warm' if warm else 'strict'}, {steps} steps"] = seconds | {
                "share_of_scratch_wall": seconds["wall_s"] / whole["wall_s"],
                "share_of_scratch_cpu": seconds["cpu_s"] / whole["cpu_s"],
                "objective_over_adam": objective / objectives["adam"],
                "objective_over_newton": objective / objectives["newton"],
            }
    figures = {
        "samples": len(labels),
        "clusters": len(bank.sizes),
        "touched": int(touched.sum()),
        "reduction_after": len(kept) / len(left),
        "features": features_s,
        "clustering": clusters_s,
        "matching_from_scratch": scratch,
        "newton_objective_over_adam": objectives["newton"] / objectives["adam"],
        "recondensed": rows,
        "peak_memory_gib": peak_mib() / 2**10,
    }
    for name, row in rows.items():
        print(f"{name:20s} {row}")
    line.write(f"deletion_{len(labels)}", figures, args)


if __name__ == "__main__":
    main()

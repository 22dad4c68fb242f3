"""Figures 5 and 6: gradient norms by layer, and of the intermediate part over batches.

Command:   python -m experiments.fig5_fig6_gradient_norms --dataset npz:cifar10_small.npz
Data:      a subset of CIFAR-10, 500 training images per class
Hardware:  2 CPU cores, 5 minutes
Expected:  modular unlearning as published leaves gradients of `intermediate` that are larger than
           fine-tuning's: it has not trained that part to its end

Figure 5: the norm of the mean gradient over the retain set and over the forget set, by layer.
Figure 6: the distribution over batches of the norm of the intermediate part's gradient on the
retain set; every batch has a gradient of its own (the authors' notebook shows running sums).
Percentiles of all networks stand in the result. Writes fig5_layer_gradients.png,
fig6_intermediate_gradients.png and fig5_fig6_gradient_norms.json into experiments/results.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from dcmu_jax.metrics.gradient_norms import (
    batch_gradient_norms,
    layer_gradient_norms,
    norms_of_part,
)
from dcmu_jax.runs.options import Dtype
from dcmu_jax.sweeps import Bench, Group
from experiments import plots
from experiments.arguments import parse
from experiments.writing import of_dtype, write

PERCENTILES = (5, 50, 95)


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
        batch_size: of figure 6.
        seed: see ``sweeps.Group``.
        out: where networks are kept.
    """

    dataset: str
    model: str = "cnn"
    width: float = 0.25
    dtype: Dtype = "float32"
    request: str = "random:0.1"
    methods: tuple[str, ...] = ("retrain", "catastrophic_forgetting", "paper", "recommended")
    batch_size: int = 64
    seed: int = 1
    out: Path = Path("runs/fig2")


def main() -> None:
    """Measure and draw."""
    options = parse(Options, __doc__)
    group = Group(
        dataset=options.dataset,
        model=options.model,
        seed=options.seed,
        width=options.width,
        dtype=options.dtype,
    )
    run = Bench(group, options.out).run
    request = run.request(options.request)
    networks = {"original": run.train()} | {
        name: run.unlearn(request, name).unlearned.classifier for name in options.methods
    }
    train = run.splits.train
    sets = {
        "retain": train.without(request.ids),
        "forget": train.take(train.positions(request.ids)),
    }
    mixed = np.random.default_rng(0).permutation(len(sets["retain"]))
    layers, batches = {}, {}
    for name, network in networks.items():
        layers[name] = {
            which: layer_gradient_norms(network, samples) for which, samples in sets.items()
        }
        by_layer = batch_gradient_norms(network, sets["retain"].take(mixed), options.batch_size)
        batches[name] = np.asarray(norms_of_part(by_layer, "intermediate"))
    percentiles = {
        name: {f"percentile_{q}": float(np.percentile(values, q)) for q in PERCENTILES}
        for name, values in batches.items()
    }
    pictures = {
        of_dtype("fig5_layer_gradients", options.dtype): plots.gradients_of_layers(layers),
        of_dtype("fig6_intermediate_gradients", options.dtype): plots.gradients_of_batches(batches),
    }
    figures = {"by_layer": layers, "intermediate_by_batch": percentiles}
    write(of_dtype("fig5_fig6_gradient_norms", options.dtype), figures, pictures=pictures)


if __name__ == "__main__":
    main()

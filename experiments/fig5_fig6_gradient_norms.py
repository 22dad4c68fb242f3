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
import sys
from pathlib import Path

import numpy as np
import tyro
from matplotlib.figure import Figure

from dcmu_jax.metrics.gradient_norms import (
    batch_gradient_norms,
    layer_gradient_norms,
    norms_of_part,
)
from dcmu_jax.reporting import style
from dcmu_jax.reporting.pareto import title
from experiments.benchmarks.record import RESULTS, write_result
from experiments.grid import Bench, Group
from experiments.tables import without_folders


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What is run.

    Attributes:
        dataset: as for `dcmu run`.
        model: as for `dcmu run`.
        width: of the network.
        request: what to forget.
        methods: presets and registered methods.
        batch_size: of figure 6.
        seed: see ``experiments.grid.Group``.
        out: where networks are kept.
    """

    dataset: str
    model: str = "cnn"
    width: float = 0.25
    request: str = "random:0.1"
    methods: tuple[str, ...] = ("retrain", "catastrophic_forgetting", "paper", "recommended")
    batch_size: int = 64
    seed: int = 1
    out: Path = Path("runs/fig2")


def draw_layers(norms: dict[str, dict[str, dict[str, float]]]) -> Figure:
    """Norm by layer, a line for each network; retain set left, forget set right."""
    figure = Figure(figsize=(11, 4.6), layout=style.layout())
    colors = style.method_colors(norms)
    for axes, which in zip(figure.subplots(1, 2, sharey=True), ("retain", "forget"), strict=True):
        style.plain(axes)
        for number, (name, by_set) in enumerate(norms.items()):
            marker = style.MARKERS[number % len(style.MARKERS)]
            values = by_set[which]
            axes.plot(
                list(values),
                list(values.values()),
                color=colors[name],
                marker=marker,
                label=title(name),
            )
        axes.set(yscale="log", title=f"gradient of the loss on the {which} set")
        axes.tick_params("x", rotation=90)
    handles = axes.get_legend_handles_labels()
    figure.legend(*handles, loc="outside right upper", fontsize=style.TEXT_SIZE, frameon=False)
    return figure


def draw_batches(norms: dict[str, np.ndarray]) -> Figure:
    """Histograms on one logarithmic axis, a row for each network."""
    figure = Figure(figsize=(6.5, 1.5 * len(norms) + 0.8), layout=style.layout())
    colors = style.method_colors(norms)
    everything = np.concatenate(list(norms.values()))
    low, high = max(everything.min(), 1e-8), everything.max()
    bins = np.geomspace(low, high, 40)
    panels = figure.subplots(len(norms), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (name, values) in zip(panels, norms.items(), strict=True):
        style.plain(axes)
        axes.hist(values, bins=bins.tolist(), color=colors[name])
        axes.set(xscale="log", ylabel=title(name))
    panels[-1].set_xlabel("norm of the intermediate part's gradient, one value for each batch")
    return figure


def main() -> None:
    """Measure and draw."""
    options = tyro.cli(Options, description=__doc__)
    group = Group(
        dataset=options.dataset, model=options.model, seed=options.seed, width=options.width
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
    style.save_figure(draw_layers(layers), RESULTS / "fig5_layer_gradients.png")
    style.save_figure(draw_batches(batches), RESULTS / "fig6_intermediate_gradients.png")
    quantiles = (5, 50, 95)
    write_result(
        "fig5_fig6_gradient_norms",
        {
            "by_layer": layers,
            "intermediate_by_batch": {
                name: dict(
                    zip(
                        [f"percentile_{q}" for q in quantiles],
                        np.percentile(values, quantiles).tolist(),
                        strict=True,
                    )
                )
                for name, values in batches.items()
            },
        },
        "python -m experiments.fig5_fig6_gradient_norms "
        + " ".join(map(without_folders, sys.argv[1:])),
    )


if __name__ == "__main__":
    main()

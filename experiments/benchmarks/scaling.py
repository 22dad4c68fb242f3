"""Benchmark: how time and memory of a deletion grow with the training set, and what 1e8 would cost.

Command:  python -m experiments.benchmarks.scaling   (from the root of the repository)
          python -m experiments.benchmarks.scaling --samples 1000 10000 100000 1000000
Needs:    2 CPU cores, 4 GB, some 2 minutes up to 50,000; no data set. Up to a million: a GPU or
          patience, and 16 GB.
Aim:      no exponent of time or of memory above 1.05.

Made-up images (16x16x3, ten classes) and an MLP of quarter width, untrained, for neither changes
what is computed. Sizes are measured in processes of their own, so that the peak of memory is that
of one size alone. Compilation is not counted. Measured of each size:

- ``features``, ``clustering`` (balanced, clusters of 10) and ``condensation`` (Gauss-Newton, 3
  steps), the offline phase of `recommended`;
- ``protocol``: which samples and images a request for 1 % is served with, pixels collected;
- ``upkeep``: touched clusters condensed again;
- ``online``: one epoch over the whole retain set, with the forgotten samples in the loss;
- ``retraining``: one epoch over the whole retain set.

The exponent is the slope of log time over log n, its interval from the residuals. The simulation
goes on from the largest size to 1e8 samples, with the fitted exponent or 1 where that is less
(small sizes hold fixed costs): a request of one sample, of 0.1 % and of 1 %, by `recommended` (10
epochs over the whole retain set, for any request), by training on the reduced retain set alone (15
epochs, its size by the theory of the reduction for clusters of 10), and by retraining (30 epochs).
It assumes one device of the measured speed, images that can be read as fast as they are trained on,
and as many epochs at every size. Writes experiments/results/scaling.json and scaling.png.
"""

from __future__ import annotations

import argparse
import json
import math
import time

import numpy as np
from matplotlib.figure import Figure
from scipy.stats import t as student

from dcmu_jax.condensation.building import condense
from dcmu_jax.condensation.clustering import cluster_classes
from dcmu_jax.condensation.deletion import recondense
from dcmu_jax.condensation.features import extract
from dcmu_jax.data.sources import load
from dcmu_jax.fast.matching import MatchingConfig
from dcmu_jax.networks import create
from dcmu_jax.reporting import style
from dcmu_jax.theory import expected_reduction_equal
from dcmu_jax.training.classifier import fresh_classifier
from dcmu_jax.training.examples import Examples
from dcmu_jax.training.keys import named_key
from dcmu_jax.training.loop import fit
from dcmu_jax.training.optimizers import Optimizer
from dcmu_jax.training.timing import Stopwatch
from dcmu_jax.unlearning.protocol import collect
from experiments.benchmarks.clock import peak_mib
from experiments.benchmarks.command import CommandLine, in_a_process
from experiments.benchmarks.record import RESULTS

CLASSES, CLUSTER_SIZE, SHARE = 10, 10, 0.01
OFFLINE = ("features", "clustering", "condensation")
STAGES = (*OFFLINE, "protocol", "upkeep", "online", "retraining")
REQUESTS = {"one sample": 0.0, "0.1 %": 0.001, "1 %": 0.01}
EPOCHS = {"recommended": 10, "reduced retain set": 15, "retraining": 30}


def measure(samples: int) -> dict[str, float]:
    """Seconds of each stage, least of two runs, and the peak of memory (MiB)."""
    per_class = samples // CLASSES
    train = load(f"synthetic:classes={CLASSES},per_class={per_class},size=16,channels=3").train
    model = create("mlp", image_shape=train.images.shape[1:], num_classes=CLASSES, width=0.25)
    network = fresh_classifier(model, train, seed=0)
    gone = np.sort(
        np.random.default_rng(0).choice(train.ids, max(1, round(SHARE * samples)), replace=False)
    )
    matching = MatchingConfig(solver="newton", steps=3)
    held: dict = {}

    def features():
        held["features"] = np.asarray(extract(network, train.images, None), np.float32)

    def clustering():
        held["clusters"] = cluster_classes(
            held["features"], train.labels, per_class // CLUSTER_SIZE, method="balanced"
        )

    def condensation():
        held["bank"] = condense(
            train, network, held["clusters"], held["features"], matching=matching
        )

    def protocol():
        held["reduced"] = collect(held["bank"], train, gone, weigh_by_size=True)

    def upkeep():
        recondense(held["bank"], train, network, gone, matching)

    def trained(examples):
        fit(
            network,
            examples,
            epochs=1,
            key=named_key(0, "scaling"),
            optimizer=Optimizer(),
            batch_size=128,
        )

    retain = train.without(gone)
    stays = Examples.of(retain.images, retain.labels)
    everything = Examples.of(train.images, train.labels)
    stages = {
        "features": features,
        "clustering": clustering,
        "condensation": condensation,
        "protocol": protocol,
        "upkeep": upkeep,
        "online": lambda: trained(everything),
        "retraining": lambda: trained(stays),
    }
    seconds = {}
    for name, stage in stages.items():
        times = []
        for _ in range(2):
            watch = Stopwatch()
            with watch.running():
                stage()
            times.append(watch.run_s)
        seconds[name] = min(times)
    return {**seconds, "peak_mib": peak_mib(), "reduction": held["reduced"].reduction}


def exponent(sizes: list[int], values: list[float]) -> dict[str, float]:
    """Slope and intercept of log value over log size, and the 95 % interval of the slope."""
    x, y = np.log(sizes), np.log(values)
    slope, intercept = np.polyfit(x, y, 1)
    free = len(sizes) - 2
    found = {"exponent": float(slope), "intercept": float(intercept)}
    if free > 0:
        residuals = y - slope * x - intercept
        error = math.sqrt((residuals**2).sum() / free / ((x - x.mean()) ** 2).sum())
        found["ci95"] = float(student.ppf(0.975, free) * error)
    return found


def simulate(
    largest: int, measured: dict, fits: dict[str, dict[str, float]], sizes: np.ndarray
) -> dict[str, list[float]]:
    """Seconds of a request at each size, by each way, carried on from the largest measured size."""

    def seconds(stage: str) -> np.ndarray:
        return measured[stage] * (sizes / largest) ** max(1.0, fits[stage]["exponent"])

    ours = seconds("protocol") + EPOCHS["recommended"] * seconds("online")
    found = {
        "retraining": (EPOCHS["retraining"] * seconds("retraining")).tolist(),
        "recommended": ours.tolist(),
    }
    passes = EPOCHS["reduced retain set"] * seconds("retraining")
    for name, share in REQUESTS.items():
        forgotten = np.maximum(1, np.round(share * sizes))
        eta = np.array(
            [
                expected_reduction_equal(int(n), int(n) // CLUSTER_SIZE, int(f))
                for n, f in zip(sizes, forgotten, strict=True)
            ]
        )
        found[f"reduced retain set, {name}"] = (seconds("protocol") + eta * passes).tolist()
    return found


def draw(sizes: list[int], measured: list[dict], far: np.ndarray, costs: dict) -> None:
    """Measured times with their lines, memory, and the simulation."""
    figure = Figure(figsize=(15, 4.6), layout=style.layout())
    left, middle, right = figure.subplots(1, 3)
    for axes in (left, middle, right):
        style.plain(axes)
        axes.set(xscale="log", yscale="log", xlabel="training images")
    colors = style.method_colors((*STAGES, *EPOCHS))
    for name, marker in zip(STAGES, style.MARKERS, strict=True):
        values = [m[name] for m in measured]
        slope = exponent(sizes, values)["exponent"]
        left.plot(sizes, values, marker=marker, color=colors[name], label=f"{name}, {slope:.2f}")
    left.set_ylabel("seconds, one epoch where it trains")
    left.legend(title="stage, exponent", frameon=False, fontsize=8)
    middle.plot(sizes, [m["peak_mib"] for m in measured], marker="o", color=style.INK)
    middle.set_ylabel("peak memory of the process (MiB)")
    middle.set_ylim(bottom=100)
    lines = dict(zip(costs, ("-", "-", "-", "--", ":"), strict=True))
    shades = {"retraining": style.INK, "recommended": colors["recommended"]}
    for name, values in costs.items():
        shade = shades.get(name, colors["condensation"])
        right.plot(far, values, lines[name], color=shade, label=name)
    right.axvline(max(sizes), color=style.INK, linewidth=0.8)
    right.annotate(
        "measured up to here", (max(sizes), right.get_ylim()[0]), rotation=90, fontsize=7
    )
    right.set_ylabel("seconds of a request, simulated")
    right.legend(frameon=False, fontsize=8)
    style.save_figure(figure, RESULTS / "scaling.png")


def main() -> None:
    """Measure every size, fit, simulate, write."""
    line = CommandLine(
        "scaling",
        __doc__,
        samples=[1000, 2000, 5000, 10_000, 20_000, 50_000],
        one=(int, argparse.SUPPRESS),
    )
    arguments = line.parse()
    if arguments.one:
        print(json.dumps(measure(arguments.one)))
        return
    sizes, began = arguments.samples, time.monotonic()
    measured = []
    for samples in sizes:
        measured.append(in_a_process("scaling", "--one", samples))
        print(samples, {k: round(v, 3) for k, v in measured[-1].items()}, flush=True)
    fits = {name: exponent(sizes, [m[name] for m in measured]) for name in STAGES}
    offline = [sum(m[name] for name in OFFLINE) for m in measured]
    fits["offline"] = exponent(sizes, offline)
    # What the libraries take before any image is there grows with nothing.
    fits["memory"] = exponent(sizes, [m["peak_mib"] for m in measured])
    far = np.logspace(3, 8, 11)
    costs = simulate(sizes[-1], measured[-1], fits, far)
    draw(sizes, measured, far, costs)
    figures = {
        "samples": sizes,
        "measured": measured,
        "fits": fits,
        "simulated_at": far.tolist(),
        "simulated_seconds": costs,
        "minutes": (time.monotonic() - began) / 60,
    }
    line.write("scaling", figures, arguments)
    for name, fitted in fits.items():
        print(f"{name:14} exponent {fitted['exponent']:.3f} +- {fitted.get('ci95', 0):.3f}")


if __name__ == "__main__":
    main()

"""Benchmark: the overfitting metric of the CNN on 32x32x3 images, against one image at a time.

Command:  python -m experiments.benchmarks.overfitting_metric   (from the root of the repository)
Needs:    2 CPU cores, 2 GB, about a minute; no data set.
Aim:      at least 3 times as fast as a compiled loop over single images.

The loop's program forms the whole gradient of one image and takes the mean of its absolute values.
It is timed with either convolution, and the faster counts; its values are checked to be the same.
Runs are interleaved and the least time of each is kept, because other work on the machine can only
add; processor time (all threads together) suffers less from such work. Compilation is timed apart,
by the first run. Peak memory is that of the whole process after the metric and before the loop.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from dcmu_jax.data.dataset import Dataset
from dcmu_jax.metrics.overfitting import overfitting_metric
from dcmu_jax.networks import create
from dcmu_jax.training.batches import evaluation_logits
from dcmu_jax.training.classifier import Classifier, fresh_classifier
from dcmu_jax.training.examples import cross_entropy
from experiments.benchmarks.clock import in_turn, least, peak_mib, timed
from experiments.benchmarks.command import DRY, CommandLine
from experiments.benchmarks.images import dataset_of, random_images


def one_by_one(classifier: Classifier, dataset: Dataset) -> Callable[[], np.ndarray]:
    """The metric by a compiled program for one image, called for each."""
    variables, normalisation = classifier.variables, classifier.normalisation

    @jax.jit
    def single(variables, normalisation, pixels, label):
        def loss(params):
            logits = evaluation_logits(
                classifier.model, variables, normalisation, params, pixels[None]
            )
            return cross_entropy(logits, label[None])[0]

        value, gradient = jax.value_and_grad(loss)(variables["params"])
        leaves = jax.tree.leaves(gradient)
        total = sum(jnp.abs(leaf).sum() for leaf in leaves)
        return jnp.abs(value - total / sum(leaf.size for leaf in leaves))

    def run() -> np.ndarray:
        pairs = zip(dataset.images, dataset.labels, strict=True)
        values = [single(variables, normalisation, pixels, label) for pixels, label in pairs]
        return np.array(jax.block_until_ready(values))

    return run


def main() -> None:
    """Measure, print and write ``experiments/results/overfitting_metric.json``."""
    line = CommandLine(
        "overfitting_metric",
        __doc__,
        images=1024,
        rounds=(3, "timed runs of each"),
        chunk=(int, "images of a chunk; by default the metric's own"),
        workers=(int, "chunks at a time; by default the metric's own"),
        dry=DRY,
    )
    args = line.parse()
    count = args.images
    dataset = dataset_of(*random_images(count))
    networks = {
        conv: fresh_classifier(
            create("cnn", image_shape=(32, 32, 3), num_classes=10, conv=conv), dataset, 0
        )
        for conv in ("auto", "lax")
    }
    runs: dict[str, Callable[[], np.ndarray]] = {
        "metric": lambda: (
            overfitting_metric(
                networks["auto"], dataset, batch_size=args.chunk, workers=args.workers
            ).values
        ),
        "metric_one_worker": lambda: (
            overfitting_metric(networks["auto"], dataset, batch_size=args.chunk, workers=1).values
        ),
        "loop": one_by_one(networks["auto"], dataset),
        "loop_lax": one_by_one(networks["lax"], dataset),
    }
    parameters = sum(x.size for x in jax.tree.leaves(networks["auto"].variables["params"]))
    figures: dict = {
        "images": count,
        "rounds": args.rounds,
        "chunk": args.chunk,
        "workers": args.workers,
        "parameters": parameters,
        "load_average_before": os.getloadavg()[0],
    }
    expected = None
    for name, run in runs.items():
        values, seconds = timed(run)
        figures[f"{name}_first_s"] = seconds["wall_s"]
        if expected is None:
            expected = values
            figures["peak_mib_of_process"] = round(peak_mib())
        np.testing.assert_allclose(values, expected, rtol=1e-3)
    best = least(in_turn(runs, args.rounds, warm=False))
    for kind, unit in (("wall", "wall_s"), ("processor", "cpu_s")):
        seconds = {name: found[unit] for name, found in best.items()}
        for name, value in seconds.items():
            figures[f"{name}_{kind}_ms_per_image"] = 1000 * value / count
        loop = min(seconds["loop"], seconds["loop_lax"])
        figures[f"ratio_{kind}"] = loop / seconds["metric"]
        figures[f"ratio_{kind}_same_convolution"] = seconds["loop"] / seconds["metric"]
    print(figures)
    line.write("overfitting_metric", figures, args)


if __name__ == "__main__":
    main()

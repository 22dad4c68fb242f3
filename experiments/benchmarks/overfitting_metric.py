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

import argparse
import os
import resource
import time
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
from experiments.benchmarks.record import write_result


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


def timed(run: Callable[[], np.ndarray]) -> tuple[float, float, np.ndarray]:
    """Wall and processor seconds of a run, and what it gives."""
    wall, processor = time.perf_counter(), time.process_time()
    values = run()
    return time.perf_counter() - wall, time.process_time() - processor, values


def main() -> None:
    """Measure, print and write ``experiments/results/overfitting_metric.json``."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=3, help="timed runs of each")
    parser.add_argument("--chunk", type=int, help="images of a chunk; by default the metric's own")
    parser.add_argument("--workers", type=int, help="chunks at a time; by default the metric's own")
    parser.add_argument("--dry", action="store_true", help="print only, write no result")
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    count = args.images
    dataset = Dataset(
        rng.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8),
        rng.integers(0, 10, count).astype(np.int32),
        np.arange(count),
        10,
    )
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
        wall, _, values = timed(run)
        figures[f"{name}_first_s"] = wall
        if expected is None:
            expected = values
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
            figures["peak_mib_of_process"] = round(peak)
        np.testing.assert_allclose(values, expected, rtol=1e-3)
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for _ in range(args.rounds):
        for name, run in runs.items():
            times[name].append(timed(run)[:2])
    for i, kind in enumerate(("wall", "processor")):
        least = {name: min(pair[i] for pair in pairs) for name, pairs in times.items()}
        for name, seconds in least.items():
            figures[f"{name}_{kind}_ms_per_image"] = 1000 * seconds / count
        loop = min(least["loop"], least["loop_lax"])
        figures[f"ratio_{kind}"] = loop / least["metric"]
        figures[f"ratio_{kind}_same_convolution"] = least["loop"] / least["metric"]
    print(figures)
    if args.dry:
        return
    command = "python -m experiments.benchmarks.overfitting_metric"
    for name in ("images", "rounds", "chunk", "workers"):
        value = getattr(args, name)
        if value != parser.get_default(name):
            command += f" --{name} {value}"
    print(f"written: {write_result('overfitting_metric', figures, command).name}")


if __name__ == "__main__":
    main()

"""Benchmark: fast distribution matching of 500 clusters at once, against one after another.

Command:  python -m experiments.benchmarks.distribution_matching --data cifar10_small.npz
          (from the root of the repository)
Needs:    2 CPU cores, 3 GB, some 5 minutes; an archive of 5,000 images in 10 classes
          (x_train uint8, y_train); the extra ``bench`` for PyTorch, else that row is left out.
Aim:      all at once at least 3 times as fast as a compiled loop over clusters and at least
          10 times as fast as an eager PyTorch loop, on the same two cores.

The CNN's features (as initialised: the arithmetic does not depend on training), K = 50 per class,
100 Adam steps. The loops run on a sample of clusters of more than one image and are scaled to
their number; compilation is counted nowhere. Every way runs in turn, several times, and its
least time counts. ``cpu_s`` is processor time over all threads: on a machine busy with other
work it is the figure to trust. The compiled loop is measured as one would write it (Flax's own
convolution inside ``lax.scan``), stepped from Python, and with this library's convolution, which
is the best that one cluster at a time can do here.
"""

from __future__ import annotations

import argparse
import functools
import os
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax

from dcmu_jax.condensation import (
    FeatureMap,
    MatchingConfig,
    cluster_classes,
    match_clusters,
    match_one_cluster,
)
from dcmu_jax.data.dataset import Dataset
from dcmu_jax.models.catalogue import create
from dcmu_jax.training.classifier import Classifier, fresh_classifier
from dcmu_jax.training.minimise import descend
from experiments.benchmarks.record import write_result

K, STEPS, ROUNDS = 50, 100, 3
CONFIG = MatchingConfig(steps=STEPS)


def compiled_loop(classifier: Classifier, conv: str, inputs, features, longest: int) -> Callable:
    """One cluster after another, all steps of each in one compiled program, padded to a size."""
    feature_fn = FeatureMap(_with(classifier.model, conv))
    one = jax.jit(match_one_cluster, static_argnums=(0, 5))

    def run(groups):
        for at in groups:
            padded = np.resize(at, longest)
            mask = np.arange(longest) < len(at)
            args = inputs[padded], features[padded], mask
            jax.block_until_ready(one(feature_fn, classifier.variables, *args, CONFIG))

    return run


def stepped_loop(classifier: Classifier, conv: str, inputs, features, longest: int) -> Callable:
    """One cluster after another, every step a call of a compiled program."""
    feature_fn = FeatureMap(_with(classifier.model, conv))
    optimizer = optax.adam(CONFIG.learning_rate)

    def loss(weights, variables, x, target):
        image = jnp.einsum("m,mhwc->hwc", weights, x)
        return jnp.sum((feature_fn(variables, image[None])[0] - target) ** 2)

    @jax.jit
    def step(weights, state, variables, x, target):
        return descend(loss, weights, state, optimizer, variables, x, target)[:2]

    def run(groups):
        for at in groups:
            pad = longest - len(at)
            x = np.pad(inputs[at], ((0, pad), (0, 0), (0, 0), (0, 0)))
            weights = jnp.asarray(np.pad(np.full(len(at), 1 / len(at), np.float32), (0, pad)))
            state, target = optimizer.init(weights), features[at].mean(axis=0)
            for _ in range(STEPS):
                weights, state = step(weights, state, classifier.variables, x, target)
            jax.block_until_ready(weights)

    return run


def torch_loop(inputs, features, threads: int) -> Callable | None:
    """The same in eager PyTorch: one cluster after another, Adam on its weights."""
    try:
        import torch
    except ImportError:
        return None
    torch.set_num_threads(threads)
    layers, channels = [], (inputs.shape[-1], 32, 64, 128, 256)
    for i in range(4):
        layers += [
            torch.nn.Conv2d(channels[i], channels[i + 1], 3, padding=1),
            torch.nn.BatchNorm2d(channels[i + 1]),
            torch.nn.ReLU(),
            torch.nn.MaxPool2d(2),
        ]
    net = torch.nn.Sequential(*layers, torch.nn.Flatten()).eval().requires_grad_(False)

    def run(groups):
        for at in groups:
            x = torch.from_numpy(np.ascontiguousarray(inputs[at].transpose(0, 3, 1, 2)))
            target = torch.from_numpy(features[at].mean(axis=0))
            weights = torch.full((len(at), 1, 1, 1), 1 / len(at), requires_grad=True)
            optimizer = torch.optim.Adam([weights], lr=CONFIG.learning_rate)
            for _ in range(STEPS):
                optimizer.zero_grad()
                ((net((weights * x).sum(0, keepdim=True))[0] - target) ** 2).sum().backward()
                optimizer.step()

    return run


def _with(model, conv: str):
    return model.clone(conv=conv)


def timed(run: Callable[[], object]) -> tuple[float, float]:
    """Seconds on the wall and of the processor."""
    wall, processor = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - wall, time.process_time() - processor


def main() -> None:
    """Measure and write experiments/results/distribution_matching.json."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="npz archive with x_train and y_train")
    parser.add_argument("--sample", type=int, default=50, help="clusters the loops run on")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--dry", action="store_true", help="print only, write nothing")
    args = parser.parse_args()
    with np.load(args.data) as archive:
        images, labels = archive["x_train"], archive["y_train"].astype(np.int32)
    dataset = Dataset(images, labels, np.arange(len(labels)), int(labels.max()) + 1)
    model = create("cnn", image_shape=images.shape[1:], num_classes=dataset.num_classes)
    classifier = fresh_classifier(model, dataset, 0)
    features = np.asarray(classifier.features(images), np.float32)
    clusters = cluster_classes(features, labels, K, seed=0)
    inputs = np.asarray(classifier.normalisation.apply(images))

    several = np.flatnonzero(clusters.sizes > 1)
    sample = np.random.default_rng(0).choice(several, min(args.sample, len(several)), False)
    groups = [np.flatnonzero(clusters.assignment == j) for j in sample]
    longest = max(map(len, groups))
    at_once = functools.partial(
        match_clusters, FeatureMap(model), classifier.variables, images, features,
        clusters.assignment, classifier.normalisation, CONFIG,
    )  # fmt: skip
    case = classifier, "lax", inputs, features, longest
    best = classifier, "dot", inputs, features, longest
    loops = {
        "compiled loop, lax convolution in a scan": compiled_loop(*case),
        "compiled loop, lax convolution, stepped": stepped_loop(*case),
        "compiled loop, dot convolution in a scan": compiled_loop(*best),
        "eager PyTorch, as many threads as cores": torch_loop(inputs, features, 2),
        "eager PyTorch, one thread": torch_loop(inputs, features, 1),
    }
    ways = {"all at once": at_once}
    for name, loop in loops.items():
        if loop is not None:
            loop(groups[:1])  # compiles
            ways[name] = functools.partial(loop, groups)
    at_once()
    load = os.getloadavg()[0]  # ours alone makes about the number of cores
    least = {name: (np.inf, np.inf) for name in ways}
    for _ in range(args.rounds):
        for name, run in ways.items():
            if "threads" in name or "one thread" in name:
                _set_torch_threads(1 if "one thread" in name else 2)
            least[name] = tuple(np.minimum(least[name], timed(run)).tolist())
    rows = {}
    for name, (wall, processor) in least.items():
        scale = 1.0 if name == "all at once" else len(several) / len(groups)
        rows[name] = {"wall_s": round(wall * scale, 2), "cpu_s": round(processor * scale, 2)}
    ours = rows["all at once"]
    for row in rows.values():
        row["times_all_at_once_wall"] = round(row["wall_s"] / ours["wall_s"], 2)
        row["times_all_at_once_cpu"] = round(row["cpu_s"] / ours["cpu_s"], 2)
    figures = {
        "clusters": len(clusters.sizes),
        "clusters_of_several": len(several),
        "largest_cluster": int(clusters.sizes.max()),
        "loops_measured_on_clusters": len(groups),
        "loops_scaled_by": len(several) / len(groups),
        "steps": STEPS,
        "rounds": args.rounds,
        "load_average_before": round(load, 1),
        "least_of_rounds": rows,
    }
    for name, row in rows.items():
        print(f"{name:42s} {row}")
    if not args.dry:
        command = "python -m experiments.benchmarks.distribution_matching --data cifar10_small.npz"
        command += f" --sample {args.sample} --rounds {args.rounds}"
        print(write_result("distribution_matching", figures, command))


def _set_torch_threads(threads: int) -> None:
    import torch

    torch.set_num_threads(threads)


if __name__ == "__main__":
    main()

"""Benchmark: fast distribution matching of 500 clusters at once, against one after another.

Command:  python -m experiments.benchmarks.distribution_matching --data cifar10_small.npz
          (from the root of the repository); for 4,500 clusters of 50,000 images
          --data cifar10.npz --clusters-per-class 450 --rounds 1
Needs:    2 CPU cores, 3 GB, some 5 minutes (4,500 clusters: 20); an archive of images in classes
          (x_train uint8, y_train); the extra ``bench`` for PyTorch, else that row is left out.
Aim:      all at once at least 3 times as fast as a compiled loop over clusters and at least
          10 times as fast as an eager PyTorch loop, on the same two cores, by one thread or two,
          whichever is faster.

The CNN's features (as initialised: the arithmetic does not depend on training), 100 Adam steps.
The loops run on a sample of clusters of more than one image and are scaled to their number;
compilation is counted nowhere. Every way runs in turn, several times, and its least time counts.
``cpu_s`` is processor time over all threads: on a machine busy with other work it is the figure to
trust. The compiled loop is measured as one would write it (Flax's own convolution inside
``lax.scan``), stepped from Python, and with this library's convolution, which is the best that one
cluster at a time can do here. Beside the flat form that the library uses stand clusters padded to
one size under ``vmap`` (on the sample, too), the Gauss-Newton solver with the objective that it
reaches, and the time of the same passes at the rate of plain batched evaluation: a step is a pass
forwards and one backwards to the pixels, counted as two.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax

from dcmu_jax.condensation import (
    FeatureMap,
    MatchingConfig,
    cluster_classes,
    cluster_means,
    match_clusters,
)
from dcmu_jax.core.distribution_matching import match_one_cluster
from dcmu_jax.networks.catalogue import create
from dcmu_jax.platforms import on_cpu, platform
from dcmu_jax.training.classifier import Classifier, fresh_classifier
from dcmu_jax.training.minimise import descend
from experiments.benchmarks.clock import in_turn, least, peak_mib
from experiments.benchmarks.command import DRY, CommandLine
from experiments.benchmarks.images import NEEDED, archive_of

STEPS, ROUNDS, TOGETHER = 100, 3, 16
CONFIG = MatchingConfig(steps=STEPS)
PADDED = "all at once, padded under vmap"
EVALUATION = "the same passes in plain evaluation"
NEWTON = MatchingConfig(solver="newton", steps=5)


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


def torch_loop(model, inputs, features, threads: int) -> Callable | None:
    """The same in eager PyTorch: one cluster after another, Adam on its weights."""
    try:
        import torch
    except ImportError:
        return None
    from experiments.benchmarks.torch_twins import twin

    layers = twin(model, inputs.shape[1], inputs.shape[-1]).features
    net = torch.nn.Sequential(layers, torch.nn.Flatten()).eval().requires_grad_(False)

    def run(groups):
        torch.set_num_threads(threads)
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


def padded_form(classifier: Classifier, inputs, features) -> Callable:
    """Clusters of like size side by side under ``vmap``, padded to the largest of them."""
    feature_fn = FeatureMap(classifier.model)

    @jax.jit
    def together(variables, x, features, mask):
        def one(x, features, mask):
            return match_one_cluster(feature_fn, variables, x, features, mask, CONFIG)

        return jax.vmap(one)(x, features, mask)

    def run(groups):
        ordered = sorted(groups, key=len)
        for low in range(0, len(ordered), TOGETHER):
            members = ordered[low : low + TOGETHER]
            members += [members[-1]] * (TOGETHER - len(members))
            width = -(-len(members[-1]) // 4) * 4  # few shapes, few compilations
            padded = np.stack([np.resize(at, width) for at in members])
            mask = np.arange(width)[None] < np.array([[len(at)] for at in members])
            args = inputs[padded], features[padded], mask
            jax.block_until_ready(together(classifier.variables, *args))

    return run


def _with(model, conv: str):
    return model.clone(conv=conv)


def main() -> None:
    """Measure and write experiments/results/distribution_matching.json."""
    line = CommandLine(
        "distribution_matching",
        __doc__,
        data=NEEDED,
        clusters_per_class=50,
        sample=(50, "clusters the loops run on"),
        rounds=ROUNDS,
        dry=DRY,
    )
    args = line.parse()
    dataset = archive_of(args.data)
    images, labels = dataset.images, dataset.labels
    model = create("cnn", image_shape=images.shape[1:], num_classes=dataset.num_classes)
    classifier = fresh_classifier(model, dataset, 0)
    features = np.asarray(classifier.features(images), np.float32)
    clusters = cluster_classes(features, labels, args.clusters_per_class, seed=0)
    inputs = np.asarray(classifier.normalisation.apply(images))

    several = np.flatnonzero(clusters.sizes > 1)
    sample = np.random.default_rng(0).choice(several, min(args.sample, len(several)), False)
    groups = [np.flatnonzero(clusters.assignment == j) for j in sample]
    longest = max(map(len, groups))
    targets = cluster_means(features, clusters.assignment)
    at_once = functools.partial(
        match_clusters, FeatureMap(model), classifier.variables, images, targets,
        clusters.assignment, classifier.normalisation,
    )  # fmt: skip
    objectives = {}

    def condense(config: MatchingConfig) -> None:
        matched = at_once(config)
        left = float(matched.final_loss.sum() / matched.initial_loss.sum())
        objectives[config.solver] = left

    padded = padded_form(classifier, inputs, features)
    part = images[:4000]
    case = classifier, "lax", inputs, features, longest
    loops: dict[str, Callable | None] = {
        "compiled loop, lax convolution in a scan": compiled_loop(*case),
        "compiled loop, lax convolution, stepped": stepped_loop(*case),
        "eager PyTorch, as many threads as cores": torch_loop(model, inputs, features, 2),
        "eager PyTorch, one thread": torch_loop(model, inputs, features, 1),
    }
    if on_cpu():  # elsewhere this convolution is refused
        best = classifier, "dot", inputs, features, longest
        loops["compiled loop, dot convolution in a scan"] = compiled_loop(*best)
    ways = {
        "all at once": functools.partial(condense, CONFIG),
        "all at once, gauss-newton": functools.partial(condense, NEWTON),
        PADDED: functools.partial(padded, groups),
        EVALUATION: functools.partial(classifier.features, part),
    }
    for name, loop in loops.items():
        if loop is not None:
            loop(groups[:1])  # compiles
            ways[name] = functools.partial(loop, groups)
    for name in list(ways)[:4]:
        ways[name]()
    load = os.getloadavg()[0]  # ours alone makes about the number of cores
    seconds = least(in_turn(ways, args.rounds, warm=False))
    rows = {}
    for name, row in seconds.items():
        scale = len(several) / len(groups) if name in (*loops, PADDED) else 1.0
        if name == EVALUATION:
            scale = 2 * STEPS * len(several) / len(part)
        rows[name] = {kind: value * scale for kind, value in row.items()}
    ours = rows["all at once"]
    for row in rows.values():
        row["times_all_at_once_wall"] = row["wall_s"] / ours["wall_s"]
        row["times_all_at_once_cpu"] = row["cpu_s"] / ours["cpu_s"]
    figures = {
        "clusters": len(clusters.sizes),
        "clusters_of_several": len(several),
        "largest_cluster": int(clusters.sizes.max()),
        "loops_measured_on_clusters": len(groups),
        "loops_scaled_by": len(several) / len(groups),
        "steps": STEPS,
        "newton_steps": [NEWTON.steps, NEWTON.inner],
        "objective_left": objectives,
        "peak_memory_gib": peak_mib() / 2**10,
        "rounds": args.rounds,
        "load_average_before": load,
        "least_of_rounds": rows,
    }
    for name, row in rows.items():
        print(f"{name:42s} {row}")
    name = f"distribution_matching_{len(clusters.sizes)}"
    line.write(name if on_cpu() else f"{name}_{platform()}", figures, args)


if __name__ == "__main__":
    main()

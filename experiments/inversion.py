"""Condensation by model inversion (paper, Algorithm 3): do the images stand for their clusters?

Command:   python -m experiments.inversion --dataset npz:cifar10_small.npz --model cnn
Data:      a subset of CIFAR-10, 500 training images per class
Hardware:  2 CPU cores; about 10 minutes, 2 of them training the network
Expected:  both decoders give every cluster an image of its own that the network puts into its
           class (95 % and more); with lambda = 0, for the class alone, noise does too, and a
           network of another seed says so

Trains the network, clusters its features, and draws an image of every cluster with either decoder
and with or without the reconstruction term. Beside the share that the network itself recognises
stands that of a network of another seed, which an image made for the first one cannot deceive, and
of the mean images that inversion starts from. Writes experiments/results/inversion.json and .png.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from dcmu_jax.condensation import cluster_classes, cluster_means
from dcmu_jax.condensation.inversion import (
    InversionConfig,
    invert_clusters,
    mean_pairwise_distance,
)
from dcmu_jax.data import load
from dcmu_jax.runs.config import RunConfig
from dcmu_jax.runs.options import Dtype, NetworkOptions
from dcmu_jax.runs.stages import build_model, train_original
from dcmu_jax.training.timing import Stopwatch
from experiments import plots
from experiments.arguments import parse
from experiments.writing import of_dtype, write

WAYS = {
    "conv, lambda 1": InversionConfig(epochs=100),
    "mlp, lambda 1": InversionConfig(network="mlp", epochs=100),
    "conv, lambda 0": InversionConfig(epochs=30, reconstruction=0.0),
}
SHOWN = 4
"""Images of each class in the picture."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """What is run.

    Attributes:
        dataset: as for `dcmu run`.
        model: as for `dcmu run`.
        dtype: of the computation; parameters and statistics stay float32.
        clusters_per_class: K.
        seed: of the network, the clusters and the InverterNet.
    """

    dataset: str
    model: str = "cnn"
    dtype: Dtype = "float32"
    clusters_per_class: int = 50
    seed: int = 0


def main() -> None:
    """Train, cluster, invert, draw."""
    settings = parse(Settings, __doc__)
    splits = load(settings.dataset)
    config = RunConfig(
        dataset=settings.dataset,
        model=settings.model,
        seed=settings.seed,
        network=NetworkOptions(dtype=settings.dtype),
    )
    model = build_model(settings.model, splits, config.network)
    network, other = (
        train_original(dataclasses.replace(config, seed=seed), model, splits).classifier
        for seed in (settings.seed, settings.seed + 1)
    )
    train = splits.train
    clusters = cluster_classes(
        network.features(train.images),
        train.labels,
        settings.clusters_per_class,
        seed=settings.seed,
    )
    pixels = train.images.reshape(len(train), -1).astype(np.float32)
    means = cluster_means(pixels, clusters.assignment).reshape(-1, *splits.image_shape)
    means = np.asarray(means, np.float32)

    def figures(images: np.ndarray) -> dict:
        shares = {
            name: 100 * float(np.mean(net.logits(images).argmax(1) == clusters.labels))
            for name, net in (("in_class", network), ("in_class_by_another_seed", other))
        }
        return shares | {"mean_pairwise_distance": mean_pairwise_distance(images)}

    found = {"cluster means": figures(means)}
    pictures = {"cluster means": means}
    for name, way in WAYS.items():
        watch = Stopwatch()
        with watch.running():
            inverted = invert_clusters(
                network, means, clusters.labels, clusters.sizes, way, seed=settings.seed
            )
        found[name] = figures(inverted.images) | {
            "epochs": way.epochs,
            "first_loss": inverted.losses[0],
            "last_loss": inverted.losses[-1],
            "seconds": watch.run_s,
        }
        pictures[name] = inverted.images
        print(name, found[name], flush=True)
    results = {"clusters": len(clusters.sizes), "clusters_per_class": settings.clusters_per_class}
    figure = plots.inverted(pictures, settings.clusters_per_class, SHOWN)
    name = of_dtype("inversion", settings.dtype)
    write(name, results | {"images": found}, pictures={name: figure})


if __name__ == "__main__":
    main()

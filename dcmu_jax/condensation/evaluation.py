"""Evaluating condensed images: test accuracy of fresh networks trained on them."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

import flax.linen as nn
import numpy as np

from dcmu_jax.condensation.condenser import CondensedImages
from dcmu_jax.condensation.siamese import SiameseAugmentation, SiameseTraining
from dcmu_jax.data.dataset import Dataset, Normalisation
from dcmu_jax.errors import InputError, check_seed
from dcmu_jax.training.arguments import Objective
from dcmu_jax.training.classifier import fresh_classifier
from dcmu_jax.training.examples import Examples
from dcmu_jax.training.keys import named_key
from dcmu_jax.training.loop import fit
from dcmu_jax.training.optimizers import Optimizer
from dcmu_jax.training.timing import Stopwatch

PUBLISHED = Optimizer(
    name="sgd_l2", learning_rate=0.01, momentum=0.9, weight_decay=5e-4, schedule="step"
)
"""How the literature trains the networks that judge condensed images."""


@dataclasses.dataclass(frozen=True)
class CondensedScore:
    """The outcome of an evaluation.

    Attributes:
        accuracies: test accuracy (%) of the network of each seed.
        run_s: seconds of training and testing, compilation apart.
        compile_s: seconds of compilation.
    """

    accuracies: tuple[float, ...]
    run_s: float
    compile_s: float

    @property
    def mean(self) -> float:
        """Mean test accuracy (%)."""
        return float(np.mean(self.accuracies))


def evaluate_condensed(
    condensed: CondensedImages,
    test: Dataset,
    model: nn.Module,
    *,
    normalisation: Normalisation,
    seeds: Collection[int] = range(5),
    epochs: int = 300,
    batch_size: int = 256,
    optimizer: Optimizer = PUBLISHED,
    augmentation: SiameseAugmentation | None = None,
) -> CondensedScore:
    """Train a fresh network for every seed on condensed images alone, and test it.

    Every set of as many images costs the same: the same steps, whatever method made it. The
    literature trains for 300 epochs, or for 1000 with siamese augmentation.

    Args:
        condensed: the training set, in float32: neither clipped nor rounded.
        test: the test set; nothing is chosen by it.
        model: a Linen module in three parts.

    Other Args:
        normalisation: of the network's inputs; take that of the real training set.
        seeds: of the networks: initialisation, order of the images, augmentation.
        epochs: passes over the condensed images.
        batch_size: see ``fit``.
        optimizer: see ``Optimizer``.
        augmentation: of the condensed images, each by its own draw.

    Raises:
        InputError: no seeds; condensed images of another size than the test images.
    """
    if not seeds:
        raise InputError("No seeds to evaluate with", "at least one", "Name a seed")
    for seed in seeds:
        check_seed("seeds", seed)
    if condensed.images.shape[1:] != test.images.shape[1:]:
        raise InputError(
            f"Condensed images of shape {condensed.images.shape[1:]} and test images of "
            f"{test.images.shape[1:]}",
            "the same height, width and channels",
            "Pass the test set of the data that was condensed",
        )
    training = None
    if augmentation is not None:
        training = SiameseTraining.of(augmentation, normalisation)
    watch, accuracies = Stopwatch(), []
    with watch.running():
        for seed in seeds:
            fitted = fit(
                fresh_classifier(model, test, seed, normalisation),
                Examples.of(condensed.images, condensed.labels),
                epochs=epochs,
                key=named_key(seed, "evaluation of condensed images"),
                optimizer=optimizer,
                batch_size=batch_size,
                loss=Objective(augmentation=training),
            )
            correct = fitted.classifier.evaluate(test).correct
            accuracies.append(100 * float(np.mean(correct)))
    return CondensedScore(tuple(accuracies), watch.run_s, watch.compile_s)

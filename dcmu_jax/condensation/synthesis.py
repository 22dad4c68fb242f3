"""Shared by methods that optimise images: settings, batches per class, first and last images."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, Num

from dcmu_jax.condensation.condenser import (
    CondensedImages,
    Condenser,
    Given,
    network_or_convnet,
)
from dcmu_jax.condensation.coresets import RandomCoreset
from dcmu_jax.data.dataset import Dataset, Normalisation
from dcmu_jax.errors import check_at_least, check_seed, unknown_name
from dcmu_jax.training.classifier import Classifier
from dcmu_jax.training.keys import named_key

Start = Literal["real", "noise"]


class RealImages(NamedTuple):
    """A training set by class, to draw from inside a compiled step; a pytree.

    Attributes:
        pixels: ``(N, H, W, C)``, 0..255.
        rows: int32 ``(classes, longest)``, the samples of each class; shorter rows are padded.
        counts: int32 ``(classes,)``, how many of a row are real.
        normalisation: from pixels to network inputs.
    """

    pixels: Num[Array | np.ndarray, "samples height width channels"]
    rows: Int[Array | np.ndarray, "classes longest"]
    counts: Int[Array | np.ndarray, " classes"]
    normalisation: Normalisation

    @classmethod
    def of(cls, dataset: Dataset, classes: np.ndarray, normalisation: Normalisation) -> RealImages:
        """On the device, the classes in the order of ``classes``."""
        members = [np.flatnonzero(dataset.labels == c) for c in classes]
        counts = np.array([len(at) for at in members], np.int32)
        rows = np.stack([np.resize(at, counts.max()) for at in members]).astype(np.int32)
        return jax.device_put(cls(dataset.images, rows, counts, normalisation))

    def draw(
        self, key: Array, size: int
    ) -> tuple[Float[Array, "classes size height width channels"], Float[Array, "classes size"]]:
        """Network inputs of ``size`` samples of every class, drawn without replacement.

        A class of fewer samples gives them all, and its row is padded with weights 0; no row
        is longer than the largest class.

        Args:
            key: of the draw.
            size: static.

        Returns:
            The inputs, and weights that are 1 for what was drawn.
        """
        longest = self.rows.shape[1]
        size = min(size, longest)
        real = jnp.arange(longest)[None] < self.counts[:, None]
        # The largest of random numbers are a draw without replacement; padding comes last.
        numbers = jnp.where(real, jax.random.uniform(key, self.rows.shape), -1.0)
        at = jax.lax.top_k(numbers, size)[1]
        drawn = jnp.take_along_axis(jnp.asarray(self.rows), at, axis=1)
        weights = (jnp.arange(size)[None] < self.counts[:, None]).astype(jnp.float32)
        return self.normalisation.apply(jnp.asarray(self.pixels)[drawn]), weights


class Begun(NamedTuple):
    """What the first iteration starts with.

    Attributes:
        network: its architecture, normalisation and image shape count.
        carry: the images as network inputs, and the state of gradient descent on them.
        rates: learning rate and momentum, as arrays.
        reals: the training set.
    """

    network: Classifier
    carry: Any
    rates: tuple[Array, Array]
    reals: RealImages


class Synthesis(Condenser):
    """Images that move by gradient descent with momentum, against batches of real ones."""

    iterations: int
    momentum: float
    real_batch: int
    start: Start

    def __post_init__(self):
        check_at_least("iterations", self.iterations, 0)
        check_at_least("momentum", self.momentum, 0)
        check_at_least("real_batch", self.real_batch, 1)
        check_start(self.start)

    def _begin(self, given: Given, learning_rate: float) -> Begun:
        dataset, classes = given.dataset, given.classes
        network = network_or_convnet(dataset, given.classifier)
        inputs = starting_inputs(
            self.start, dataset, classes, given.images_per_class, network.normalisation, given.seed
        )
        rates = (jnp.float32(learning_rate), jnp.float32(self.momentum))
        reals = RealImages.of(dataset, classes, network.normalisation)
        return Begun(network, (inputs, optax.sgd(*rates).init(inputs)), rates, reals)


def check_start(start: str) -> None:
    """Raise ``InputError`` for an unknown start."""
    if start not in get_args(Start):
        raise unknown_name("start of condensed images", start, get_args(Start))


def starting_inputs(
    start: str,
    dataset: Dataset,
    classes: np.ndarray,
    images_per_class: int,
    normalisation: Normalisation,
    seed: int,
) -> Float[Array, "classes images height width channels"]:
    """Network inputs to start from: random samples of each class, or standard normal noise."""
    seed = check_seed("seed", seed)
    shape = (len(classes), images_per_class, *dataset.images.shape[1:])
    if start == "noise":
        return jax.random.normal(named_key(seed, "starting noise"), shape)
    drawn = RandomCoreset()(dataset, images_per_class, seed=seed)
    return normalisation.apply(drawn.images).reshape(shape)


def as_condensed(
    inputs: Float[Array, "classes images height width channels"],
    classes: np.ndarray,
    normalisation: Normalisation,
) -> CondensedImages:
    """Optimised network inputs as pixels, class after class."""
    images = np.asarray(normalisation.invert(inputs), np.float32)
    labels = np.repeat(classes, images.shape[1]).astype(np.int32)
    return CondensedImages(images.reshape(-1, *images.shape[2:]), labels)

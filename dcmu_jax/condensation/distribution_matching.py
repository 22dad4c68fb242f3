r"""Distribution matching: images whose mean features are those of their class, in any network.

Zhao & Bilen 2023. Every iteration draws a fresh random network with features :math:`g`, a batch
of real images :math:`X_c` of every class and one siamese augmentation :math:`A`, and takes a step
of gradient descent on :math:`\sum_c \| \overline{g(A(X_c))} - \overline{g(A(S_c))} \|_2^2` in the
synthetic images :math:`S_c`. No network is ever trained.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from dcmu_jax.condensation.condenser import CondensedImages, Given
from dcmu_jax.condensation.siamese import SiameseAugmentation
from dcmu_jax.condensation.synthesis import RealImages, Start, Synthesis, as_condensed
from dcmu_jax.errors import check_positive
from dcmu_jax.networks.partition import Variables, apply_features, initialise
from dcmu_jax.training.keys import named_key
from dcmu_jax.training.minimise import descend

BLOCK = 100
"""Iterations in one call of the compiled program."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class DistributionMatching(Synthesis):
    """Distribution matching (DM) with the published settings.

    Of ``classifier`` the architecture and the normalisation are used, not the weights; without
    one, the catalogue's ``convnet``. Networks are in evaluation mode: BatchNorm has the statistics
    it starts with. The published code draws an augmentation for every class, this one for every
    iteration.

    Attributes:
        iterations: steps, each with a fresh network.
        learning_rate: of gradient descent on network inputs. ``None``: as published, 1, and 10
            from 100 images per class on, where the gradient of a single image is small.
        momentum: of gradient descent.
        real_batch: real images of each class in a step.
        start: ``real``, from random samples, or ``noise``.
        augmentation: of real and synthetic images alike; ``None`` leaves it out.
    """

    iterations: int = 20_000
    learning_rate: float | None = None
    momentum: float = 0.5
    real_batch: int = 256
    start: Start = "real"
    augmentation: SiameseAugmentation | None = SiameseAugmentation()

    def __post_init__(self):
        super().__post_init__()
        if self.learning_rate is not None:
            check_positive("learning_rate", self.learning_rate)

    def _condense(self, given: Given) -> CondensedImages:
        rate = self.learning_rate or (1.0 if given.images_per_class < 100 else 10.0)
        network, carry, rates, reals = self._begin(given, rate)
        key = named_key(given.seed, "distribution matching")
        for first in range(0, self.iterations, BLOCK):
            carry = _advance(
                network.model,
                network.image_shape,
                self.augmentation,
                self.real_batch,
                min(BLOCK, self.iterations - first),
                carry,
                np.int32(first),
                rates,
                reals,
                key,
            )
        return as_condensed(carry[0], given.classes, network.normalisation)


def class_means(
    model: nn.Module,
    augmentation: SiameseAugmentation | None,
    variables: Variables,
    inputs: Float[Array, "classes images height width channels"],
    weights: Float[Array, "classes images"] | None,
    key: Array,
) -> Float[Array, "classes dim"]:
    """Mean features of the augmented images of every class, all classes in one pass.

    Args:
        model: gives the features, in evaluation mode.
        augmentation: with the draw of ``key``.
        variables: of the model.
        inputs: network inputs.
        weights: of the images in the mean of their class; 1 each where there are none.
        key: of the augmentation.
    """
    x = inputs.reshape(-1, *inputs.shape[2:])
    if augmentation is not None:
        x = augmentation(x, key)
    features = apply_features(model, variables, x).reshape(*inputs.shape[:2], -1)
    if weights is None:
        return features.mean(1)
    return jnp.sum(features * weights[:, :, None], 1) / jnp.sum(weights, 1)[:, None]


def mean_distance(
    inputs: Float[Array, "classes images height width channels"],
    targets: Float[Array, "classes dim"],
    variables: Variables,
    key: Array,
    *,
    model: nn.Module,
    augmentation: SiameseAugmentation | None,
) -> Float[Array, ""]:
    """Squared distance of mean features to ``targets``, summed over classes: the loss."""
    return jnp.sum((class_means(model, augmentation, variables, inputs, None, key) - targets) ** 2)


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3, 4), donate_argnames=("carry",))
def _advance(
    model: nn.Module,
    image_shape: tuple[int, int, int],
    augmentation: SiameseAugmentation | None,
    real_batch: int,
    length: int,
    carry: Any,
    first: Any,
    rates: Any,
    reals: RealImages,
    key: Array,
) -> Any:
    """``length`` iterations from number ``first`` on; ``carry``: inputs, optimizer state."""
    optimizer = optax.sgd(*rates)
    loss = functools.partial(mean_distance, model=model, augmentation=augmentation)

    def iteration(carry, number):
        keys = jax.random.split(jax.random.fold_in(key, number), 3)
        variables = initialise(model, keys[0], image_shape)
        x, weights = reals.draw(keys[1], real_batch)
        targets = class_means(model, augmentation, variables, x, weights, keys[2])
        inputs, state, _ = descend(loss, *carry, optimizer, targets, variables, keys[2])
        return (inputs, state), None

    return jax.lax.scan(iteration, carry, first + jnp.arange(length))[0]

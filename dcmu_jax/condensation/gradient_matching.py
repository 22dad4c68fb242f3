r"""Gradient matching: images whose loss has the gradient of the real images' loss.

Zhao, Mopuri & Bilen 2021. Networks :math:`\theta` from random starts are trained on the synthetic
images. On the way, at every outer step, gradient descent on the synthetic images :math:`S_c`
lowers :math:`\sum_c D(\nabla_\theta L(A(S_c)), \nabla_\theta L(A(X_c)))` for a batch of real images
:math:`X_c` of every class. :math:`D` sums one minus the cosine over the units of every layer;
:math:`A` is the identity (DC) or a siamese augmentation (DSA).
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
from jaxtyping import Array, Float, Int

from dcmu_jax.condensation.condenser import CondensedImages, Given
from dcmu_jax.condensation.siamese import SiameseAugmentation, SiameseTraining
from dcmu_jax.condensation.synthesis import RealImages, Start, Synthesis, as_condensed
from dcmu_jax.errors import check_at_least, check_positive
from dcmu_jax.networks.partition import Variables, apply_parts, initialise
from dcmu_jax.training.arguments import Objective, Trainable
from dcmu_jax.training.examples import Examples, cross_entropy
from dcmu_jax.training.keys import named_key
from dcmu_jax.training.loop import fit
from dcmu_jax.training.minimise import descend
from dcmu_jax.training.optimizers import Optimizer

LOOPS = {1: (1, 1), 10: (10, 50), 20: (20, 25), 30: (30, 20), 40: (40, 15), 50: (50, 10)}
"""Images per class -> outer steps and inner epochs, as published."""


def published_loops(images_per_class: int) -> tuple[int, int]:
    """Outer steps and inner epochs; between the published numbers, those of the next lower."""
    return LOOPS[max(count for count in LOOPS if count <= images_per_class)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class GradientMatching(Synthesis):
    """Gradient matching (DC; with an augmentation, DSA) with the published settings.

    Of ``classifier`` the architecture and the normalisation are used, not the weights; without
    one, the catalogue's ``convnet``. As published, images move by gradient descent with momentum
    0.5, while networks train by plain SGD: no momentum, no weight decay. Gradients are taken in
    evaluation mode: no dropout, BatchNorm by its running statistics, which the published code
    first takes from a batch of real images. It draws an augmentation for every class, this one for
    every step.

    Attributes:
        iterations: random networks, one after another.
        outer_steps: steps on the images for each network; ``None`` as published for the number
            of images per class.
        inner_epochs: epochs that the network trains between two of them; ``None`` likewise.
        learning_rate: of gradient descent on network inputs.
        momentum: of gradient descent.
        real_batch: real images of each class in a step.
        start: ``noise``, or ``real``, from random samples.
        augmentation: of real and synthetic images alike, and of those that networks train on.
        network_optimizer: trains the networks; plain SGD as published.
        network_batch: batch size when they train.
    """

    iterations: int = 1000
    outer_steps: int | None = None
    inner_epochs: int | None = None
    learning_rate: float = 0.1
    momentum: float = 0.5
    real_batch: int = 256
    start: Start = "noise"
    augmentation: SiameseAugmentation | None = None
    network_optimizer: Optimizer = Optimizer(name="sgd", learning_rate=0.01, momentum=0.0)
    network_batch: int = 256

    def __post_init__(self):
        super().__post_init__()
        if self.outer_steps is not None:
            check_at_least("outer_steps", self.outer_steps, 1)
        if self.inner_epochs is not None:
            check_at_least("inner_epochs", self.inner_epochs, 0)
        check_positive("learning_rate", self.learning_rate)
        check_at_least("network_batch", self.network_batch, 1)

    def _condense(self, given: Given) -> CondensedImages:
        network, carry, rates, reals = self._begin(given, self.learning_rate)
        outer, inner = published_loops(given.images_per_class)
        outer = outer if self.outer_steps is None else self.outer_steps
        inner = inner if self.inner_epochs is None else self.inner_epochs
        key, classes = named_key(given.seed, "gradient matching"), given.classes
        for number in range(self.iterations):
            start_key, key_of_step = jax.random.split(jax.random.fold_in(key, number))
            variables = initialise(network.model, start_key, network.image_shape)
            network = dataclasses.replace(network, variables=variables)
            opt_state = None
            for step in range(outer):
                match_key, train_key = jax.random.split(jax.random.fold_in(key_of_step, step))
                carry = _match(
                    network.model,
                    self.augmentation,
                    self.real_batch,
                    carry,
                    network.variables,
                    classes,
                    rates,
                    reals,
                    match_key,
                )
                if step + 1 < outer:
                    network, opt_state = self._train(
                        network, carry[0], classes, inner, train_key, opt_state
                    )
        return as_condensed(carry[0], classes, network.normalisation)

    def _train(self, network, inputs, classes, epochs, key, opt_state):
        """The network after some epochs on the synthetic images, and its optimizer's state."""
        pixels = network.normalisation.invert(inputs).reshape(-1, *inputs.shape[2:])
        augmentation = None
        if self.augmentation is not None:
            augmentation = SiameseTraining.of(self.augmentation, network.normalisation)
        fitted = fit(
            network,
            Examples.of(pixels, np.repeat(classes, inputs.shape[1])),
            epochs=epochs,
            key=key,
            optimizer=self.network_optimizer,
            batch_size=self.network_batch,
            parts=Trainable(opt_state=opt_state),
            loss=Objective(augmentation=augmentation),
        )
        return fitted.classifier, fitted.opt_state


def class_gradient(
    model: nn.Module,
    variables: Variables,
    inputs: Float[Array, "images height width channels"],
    label: Int[Array, ""],
    weights: Float[Array, " images"] | None = None,
) -> dict[str, Any]:
    """Gradient of the mean cross-entropy of images of one class, a tree like the parameters."""

    def loss(params, x, rest):
        logits, _ = apply_parts(model, {**rest, "params": params}, x)
        losses = cross_entropy(logits, jnp.broadcast_to(label, logits.shape[:1]))
        return losses.mean() if weights is None else jnp.vdot(weights, losses) / weights.sum()

    rest = {name: tree for name, tree in variables.items() if name != "params"}
    return jax.grad(loss)(variables["params"], inputs, rest)


def gradient_distance(ours: Any, theirs: Any) -> Float[Array, ""]:
    """One minus the cosine, for every unit of every layer, summed.

    A unit is what makes one output of a dense or convolutional kernel (its last axis). Biases and
    the parameters of normalisation count nothing, as published. A unit without gradient on either
    side counts 1.
    """

    def layer(a, b):
        if a.ndim < 2:
            return 0.0
        a, b = (g.reshape(-1, g.shape[-1]) for g in (a, b))
        return jnp.sum(1 - jnp.sum(a * b, 0) / (_norms(a) * _norms(b) + 1e-6))

    return sum(jax.tree.leaves(jax.tree.map(layer, ours, theirs)), jnp.zeros(()))


def _norms(columns: Float[Array, "inputs units"]) -> Float[Array, " units"]:
    """Length of every column; with gradient 0, not NaN, where it is 0."""
    squares = jnp.sum(columns**2, 0)
    some = squares > 0
    return jnp.where(some, jnp.sqrt(jnp.where(some, squares, 1.0)), 0.0)


@functools.partial(jax.jit, static_argnums=(0, 1, 2), donate_argnames=("carry",))
def _match(
    model: nn.Module,
    augmentation: SiameseAugmentation | None,
    real_batch: int,
    carry: Any,
    variables: Any,
    classes: Any,
    rates: Any,
    reals: RealImages,
    key: Array,
) -> Any:
    """One outer step on the images of all classes; ``carry``: inputs, optimizer state."""
    draw_key, augment_key = jax.random.split(key)

    def gradient(variables, x, label, weights=None):
        if augmentation is not None:
            x = augmentation(x, augment_key)
        return class_gradient(model, variables, x, label, weights)

    # One class after another, for a vmap over gradients of weights makes grouped convolutions.
    x, weights = reals.draw(draw_key, real_batch)
    targets = jax.lax.map(lambda xs: gradient(variables, *xs), (x, classes, weights))

    def loss(inputs, targets, variables, classes):
        def one(xs):
            x, label, target = xs
            return gradient_distance(gradient(variables, x, label), target)

        return jnp.sum(jax.lax.map(one, (inputs, classes, targets)))

    optimizer = optax.sgd(*rates)
    inputs, state, _ = descend(loss, *carry, optimizer, targets, variables, classes)
    return inputs, state

r"""Condensation by model inversion (paper, Algorithm 3): an InverterNet draws each image.

The InverterNet :math:`\Lambda` gets the number of a cluster and minimises, over all samples ``x``
of the cluster and their class ``y``,

.. math:: \mathrm{CE}(g(\Lambda(j)), y) + \lambda\,\overline{(\Lambda(j) - x)^2}

for a trained network ``g`` that stays as it is. Only the mean of the cluster's samples matters:
:math:`\mathrm{E}\,(\Lambda - x)^2 = (\Lambda - \bar x)^2 + \mathrm{Var}\,x`, and the last term is a
constant. So what is trained on is one example per cluster, its mean, weighted by its size, which is
the same objective for a tenth of the passes.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from dcmu_jax.errors import check_at_least, check_positive, check_seed, unknown_name
from dcmu_jax.networks.inverters import INVERTERS
from dcmu_jax.networks.partition import PARTS, run_parts
from dcmu_jax.threads import one_thread
from dcmu_jax.training.arguments import Trainable
from dcmu_jax.training.classifier import Classifier, in_batches
from dcmu_jax.training.divergence import during
from dcmu_jax.training.examples import Examples, Loss, cross_entropy
from dcmu_jax.training.keys import named_key
from dcmu_jax.training.loop import fit
from dcmu_jax.training.optimizers import Optimizer


@dataclasses.dataclass(frozen=True)
class InversionConfig:
    """How images are inverted. The defaults are the paper's, but for the decoder.

    Attributes:
        network: ``conv`` or ``mlp`` (the paper's); see ``dcmu_jax.networks.inverters``.
        hidden: its width.
        reconstruction: lambda, the weight of the mean squared error beside the cross-entropy; 0
            leaves the class alone.
        epochs: passes over the clusters.
        warm_start: passes before them that learn the reconstruction alone (none where lambda is 0).
            A network that normalises every image judges a faint one like a strong one, with a
            gradient that grows without bound as it fades: from the nearly grey images that an
            InverterNet starts with, the cross-entropy then never lets it learn anything else.
        batch_size: clusters in a step.
        learning_rate: of Adam.
    """

    network: Literal["conv", "mlp"] = "conv"
    hidden: int = 128
    reconstruction: float = 1.0
    epochs: int = 200
    warm_start: int = 50
    batch_size: int = 128
    learning_rate: float = 1e-3

    def __post_init__(self):
        if self.network not in INVERTERS:
            raise unknown_name("inverter", self.network, INVERTERS)
        for name in ("hidden", "epochs", "batch_size"):
            check_at_least(name, getattr(self, name), 1)
        check_at_least("reconstruction", self.reconstruction, 0)
        check_at_least("warm_start", self.warm_start, 0)
        check_positive("learning_rate", self.learning_rate)


@dataclasses.dataclass(frozen=True, eq=False)
class Inverted:
    """The outcome of inversion.

    Attributes:
        images: float32 ``(B, H, W, C)``, pixels on the scale 0..255, not clipped.
        losses: mean training loss of each epoch after the warm start.
        accuracy: images (%) that the trained network puts into their class.
        mean_distance: Euclidean distance of two images (pixels in [0, 1]), mean over pairs: an
            InverterNet that takes no notice of its input draws the same image throughout.
    """

    images: np.ndarray
    losses: tuple[float, ...]
    accuracy: float
    mean_distance: float


class _Nothing(nn.Module):
    """The part below the InverterNet."""

    def __call__(self, x: Array) -> Array:
        return x


class _Judge(nn.Module):
    """The trained network: the logits of the images, and the images themselves."""

    network: nn.Module

    def __call__(self, images: Array) -> tuple[Array, Array]:
        return run_parts(self.network, images), images


class _Inversion(nn.Module):
    """InverterNet and trained network in three parts, so that only the former trains."""

    beginning: nn.Module
    intermediate: nn.Module
    final: nn.Module


@dataclasses.dataclass(frozen=True)
class _InversionLoss:
    """Cross-entropy and ``reconstruction`` times the mean squared error; equal for equal weight."""

    reconstruction: float

    def __call__(
        self,
        outputs: tuple[Float[Array, "batch classes"], Float[Array, "batch height width channels"]],
        labels: Int[Array, " batch"],
        means: Float[Array, "batch height width channels"],
    ) -> Float[Array, " batch"]:
        logits, _ = outputs
        errors = reconstruction_error(outputs, labels, means)
        return cross_entropy(logits, labels) + self.reconstruction * errors


def reconstruction_error(
    outputs: tuple[Float[Array, "batch classes"], Float[Array, "batch height width channels"]],
    labels: Int[Array, " batch"],
    means: Float[Array, "batch height width channels"],
) -> Float[Array, " batch"]:
    """Mean squared error of each image, the second output; as a loss of the warm start."""
    del labels
    return jnp.mean((outputs[1] - means) ** 2, axis=(1, 2, 3))


def invert_clusters(
    classifier: Classifier,
    means: Float[np.ndarray, "clusters height width channels"],
    labels: Int[np.ndarray, " clusters"],
    sizes: Int[np.ndarray, " clusters"],
    config: InversionConfig,
    *,
    seed: int = 0,
) -> Inverted:
    """Draw an image of every cluster; see the module docstring.

    Args:
        classifier: the trained network, frozen and in evaluation mode.
        means: mean image of each cluster, pixels 0..255.
        labels: class of each cluster.
        sizes: samples in each cluster.
        config: the settings.
        seed: of the InverterNet and its training.
    """
    seed = check_seed("seed", seed)
    count = len(means)
    inverter = INVERTERS[config.network](count, classifier.image_shape, config.hidden)
    ids = np.arange(count, dtype=np.int32)
    variables = _initialise(inverter, named_key(seed, "inverter"))
    model = _Inversion(_Nothing(), inverter, _Judge(classifier.model))
    stats = classifier.variables.get("batch_stats", {})
    params = {PARTS[0]: {}, PARTS[1]: variables["params"]}
    params[PARTS[2]] = {"network": classifier.variables["params"]}
    whole = Classifier(
        model,
        {"params": params, "batch_stats": {PARTS[2]: {"network": stats}} if stats else {}},
        classifier.normalisation,
        classifier.image_shape,
    )
    targets = np.asarray(classifier.normalisation.apply(means), np.float32)
    phases: list[tuple[str, int, Loss]] = [
        ("inversion", config.epochs, _InversionLoss(config.reconstruction))
    ]
    if config.reconstruction:
        phases.insert(0, ("reconstruction", config.warm_start, reconstruction_error))
    opt_state, losses = None, ()
    for name, epochs, loss in phases:
        with during(name, option="inversion.learning_rate"):
            fitted = fit(
                whole,
                Examples.of(ids, labels, sizes, targets),
                epochs=epochs,
                key=named_key(seed, name),
                optimizer=Optimizer(learning_rate=config.learning_rate),
                batch_size=config.batch_size,
                parts=Trainable(("intermediate",), "intermediate", opt_state=opt_state),
                loss=loss,
            )
        whole, opt_state, losses = fitted.classifier, fitted.opt_state, fitted.losses
    trained = {"params": whole.variables["params"]["intermediate"]}
    inputs = in_batches(lambda ids: _draw(inverter, trained, ids), ids)
    images = np.asarray(classifier.normalisation.invert(jnp.asarray(inputs)), np.float32)
    hits = classifier.logits(images).argmax(axis=1) == labels
    return Inverted(images, losses, 100 * float(np.mean(hits)), mean_pairwise_distance(images))


@functools.partial(jax.jit, static_argnames="inverter")
def _initialise(inverter, key):
    return inverter.init(key, jnp.zeros(1, jnp.int32))


@functools.partial(jax.jit, static_argnames="inverter")
def _draw(inverter, variables, ids):
    return inverter.apply(variables, ids)


@one_thread()
def mean_pairwise_distance(images: Float[np.ndarray, "images height width channels"]) -> float:
    """Euclidean distance of two different images, pixels in [0, 1], mean over all pairs."""
    x = images.reshape(len(images), -1).astype(np.float64) / 255
    if len(x) < 2:
        return 0.0
    x = x - x.mean(axis=0)[None]
    norms = np.sum(x**2, axis=1)
    total = 0.0
    for low in range(0, len(x), 512):
        rows = slice(low, low + 512)
        squared = norms[rows, None] + norms[None] - 2 * x[rows] @ x.T
        total += np.sqrt(np.maximum(squared, 0)).sum()
    return float(total / (len(x) * (len(x) - 1)))

"""The condensed model: an autoencoder that unlearns, and through which a target network trains.

Paper sections IV-E.2 and V-E, figures 4 and 11. An encoder is ``beginning``, a decoder
``intermediate``, a small classifier ``final``; the three pass through the offline and the online
phase like any network. Then ``final`` is replaced by a target network, which is trained on the
remembrance samples as the unlearned encoder and decoder show them.
"""

from __future__ import annotations

import dataclasses
import functools
import math

import flax.linen as nn
import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int

from dcmu_jax.applications.condensed_model_settings import Attaching, Construction
from dcmu_jax.baselines.losses import Distillation
from dcmu_jax.condensation.building import build_bank
from dcmu_jax.data.dataset import Dataset
from dcmu_jax.errors import InputError, check_seed, kind_of
from dcmu_jax.networks.autoencoder import (
    CondensedNetwork,
    condensed_network,
    pretraining_network,
)
from dcmu_jax.networks.partition import initialise
from dcmu_jax.theory import best_clusters_per_class
from dcmu_jax.training.arguments import Objective, Placement, Trainable
from dcmu_jax.training.callbacks import reporting
from dcmu_jax.training.classifier import Classifier, fresh_classifier
from dcmu_jax.training.examples import Examples, cross_entropy
from dcmu_jax.training.keys import named_key, named_seed
from dcmu_jax.training.loop import Fitted, fit
from dcmu_jax.training.timing import Stopwatch
from dcmu_jax.unlearning.modular import train_offline
from dcmu_jax.unlearning.task import Hooks, Prepared


@dataclasses.dataclass(frozen=True)
class AutoencoderLoss:
    """Cross-entropy of the code's head and squared error of the decoded image, both at once.

    The image that should be decoded is the network's input: normalised, and augmented where
    asked. The decoder's last layer is linear, so that its range holds every such image.

    Attributes:
        reconstruction: factor of the mean squared error.
    """

    reconstruction: float = 0.5

    def __call__(
        self, outputs: tuple[Array, Array, Array], labels: Int[Array, " batch"]
    ) -> Float[Array, " batch"]:
        """The loss of each example, from what the network of pretraining gives."""
        logits, decoded, image = outputs
        error = ((decoded - image) ** 2).mean((1, 2, 3))
        return cross_entropy(logits, labels) + self.reconstruction * error


def pretrain(
    settings: Construction,
    train: Dataset,
    *,
    seed: int,
    mesh: Mesh | None = None,
    hooks: Hooks | None = None,
) -> Fitted:
    """Train the autoencoder with a classifier of codes; what is kept has a fresh small ``final``.

    The loss is cross-entropy of the head on the code plus ``reconstruction`` times the squared
    error of the decoded image.

    Args:
        settings: see ``Construction``.
        train: all of the training set.

    Other Args:
        seed: of the initialisation, the order and the augmentation.
        mesh: devices to shard batches over.
        hooks: see ``Hooks``.
    """
    seed = check_seed("seed", seed)
    hooks = hooks or Hooks()
    training = settings.pretraining
    height, width, channels = train.images.shape[1:]
    given = settings.architecture, (height, width, channels), train.num_classes
    with hooks.progress("pretraining the autoencoder", training.epochs) as progress:
        fitted = fit(
            fresh_classifier(pretraining_network(*given), train, seed),
            Examples.of(train.images, train.labels),
            epochs=training.epochs,
            key=named_key(seed, "pretraining"),
            optimizer=training.optimizer,
            batch_size=training.batch_size,
            loss=Objective(AutoencoderLoss(settings.reconstruction), training.augmentation()),
            placement=Placement(mesh),
            callbacks=reporting(progress),
        )
    kept = with_final(fitted.classifier, condensed_network(*given), seed)
    return dataclasses.replace(fitted, classifier=kept)


@functools.partial(jax.jit, static_argnames=("model", "image_shape"))
def _fresh_final(model, key, image_shape):
    """The variables of a fresh ``final``; the compiler leaves out those of the other parts."""
    fresh = initialise(model, key, image_shape)
    return {name: trees["final"] for name, trees in fresh.items() if "final" in trees}


def with_final(classifier: Classifier, model: CondensedNetwork, seed: int) -> Classifier:
    """``classifier`` with encoder and decoder as they are, and the fresh ``final`` of ``model``.

    Nothing of the old ``final`` is kept: neither its parameters nor its statistics.

    Args:
        classifier: any network whose first two parts have the parameters of ``model``'s.
        model: the new network.
        seed: of the initialisation.
    """
    seed = check_seed("seed", seed)
    fresh = _fresh_final(model, named_key(seed, "final"), classifier.image_shape)
    variables = {
        collection: {part: tree for part, tree in trees.items() if part != "final"}
        for collection, trees in classifier.variables.items()
    }
    for collection, tree in fresh.items():
        variables.setdefault(collection, {})["final"] = tree
    return dataclasses.replace(classifier, model=model, variables=variables)


def attach(classifier: Classifier, target: nn.Module, seed: int) -> Classifier:
    """The condensed model with ``final`` replaced by a fresh ``target``.

    Args:
        classifier: a condensed model.
        target: a network of images, called ``target(x, train)``, such as those of the catalogue;
            it sees what the decoder gives, with its extra channels.
        seed: of the target's initialisation.

    Raises:
        InputError: a classifier that is no condensed model.
    """
    seed = check_seed("seed", seed)
    model = classifier.model
    if not isinstance(model, CondensedNetwork):
        raise InputError(
            f"A target attached to {kind_of(model)}",
            "a condensed model, whose parts are an encoder, a decoder and a classifier of images",
            "Build one with prepare",
        )
    # Rebuilt from its parts' settings: modules that belong to a network cannot join another.
    joined = CondensedNetwork(
        model.beginning.clone(parent=None), model.intermediate.clone(parent=None), target
    )
    return with_final(classifier, joined, seed)


def prepare(
    settings: Construction,
    train: Dataset,
    remembrance: Dataset,
    *,
    seed: int,
    mesh: Mesh | None = None,
    hooks: Hooks | None = None,
) -> Prepared:
    """Make a condensed model: pretraining, the bank, the offline phase. No request is known yet.

    Args:
        settings: see ``Construction``.
        train: all of the training set.
        remembrance: samples that are not in it.

    Other Args:
        seed: of all of it.
        mesh: devices to shard batches over.
        hooks: see ``Hooks``.
    """
    seed = check_seed("seed", seed)
    settings.check()
    watch = Stopwatch()
    with watch.running():
        start = pretrain(settings, train, seed=seed, mesh=mesh, hooks=hooks).classifier
        bank = build_bank(
            train,
            start,
            clusters_per_class=settings.clusters_per_class
            or best_clusters_per_class(math.floor(train.samples_per_class), 0.1),
            method=settings.clustering,
            matching=settings.matching,
            seed=named_seed(seed, "clusters"),
        )
        network = train_offline(
            start, train, remembrance, settings.offline, seed=seed, mesh=mesh, hooks=hooks
        )
    return Prepared(bank, network, remembrance, watch.run_s, watch.compile_s)


def train_few(
    classifier: Classifier,
    examples: Examples,
    settings: Attaching,
    *,
    parts: tuple[str, ...],
    seed: int,
    teacher: Classifier | None = None,
    mesh: Mesh | None = None,
    hooks: Hooks | None = None,
) -> Fitted:
    """Train ``parts`` of a network on a few images, as remembrance and condensed ones alike are.

    Without augmentation, what lies below the parts that train runs once, forward.

    Args:
        classifier: where training starts.
        examples: pixels and labels.
        settings: see ``Attaching``.

    Other Args:
        parts: ``("final",)`` of a condensed model, all of a network by itself.
        seed: of the order and the augmentation.
        teacher: whose judgement of the images is learnt too, where ``settings.distil`` is above
            0; none, no distillation.
        mesh: devices to shard batches over.
        hooks: see ``Hooks``.
    """
    seed = check_seed("seed", seed)
    settings.check()
    hooks = hooks or Hooks()
    loss, pixels = cross_entropy, np.asarray(examples.inputs)
    if settings.distil and teacher is not None:
        loss = Distillation(divergence=settings.distil, temperature=settings.temperature)
        loss.check()
        examples = examples._replace(targets=teacher.logits(pixels))
    start = "beginning"
    if settings.augmentation() is None and "beginning" not in parts:
        start = "intermediate" if "intermediate" in parts else "final"
        examples = examples._replace(inputs=classifier.inputs_of(start, pixels))
    epochs = settings.epochs(len(pixels))
    with hooks.progress("training the target", epochs) as progress:
        return fit(
            classifier,
            examples,
            epochs=epochs,
            key=named_key(seed, "few"),
            optimizer=settings.optimizer,
            batch_size=min(settings.batch_size, len(pixels)),
            parts=Trainable(parts, start),
            loss=Objective(loss, settings.augmentation()),
            placement=Placement(mesh),
            callbacks=reporting(progress),
        )

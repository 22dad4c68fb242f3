"""Settings of the condensed model: how it is made, unlearned and attached; two sets of them."""

from __future__ import annotations

import dataclasses
import math

from dcmu_jax.condensation.clustering import ClusterMethod
from dcmu_jax.data.augmentation import Augmentation
from dcmu_jax.errors import check_at_least, unknown_name
from dcmu_jax.fast.matching import MatchingConfig
from dcmu_jax.networks.autoencoder import Architecture
from dcmu_jax.training.optimizers import Optimizer, OptimizerField, as_optimizer
from dcmu_jax.unlearning.modular import Collecting, ModularUnlearning, Offline
from dcmu_jax.unlearning.schedule import Reset, Step
from dcmu_jax.unlearning.task import Training


@dataclasses.dataclass(frozen=True, kw_only=True)
class Attaching:
    """How a network is trained on a few images: remembrance samples or condensed ones.

    Attributes:
        steps: of the optimizer, whatever the number of images.
        batch_size: images per step, at most.
        optimizer: Adam, falling to 0.
        flip: flip each image horizontally with probability one half.
        crop: pixels by which an image is shifted at random, at most; 0 for none.
        distil: how much the softened judgement of the small ``final`` counts beside the labels
            (``Distillation``); 0 for labels alone. The teacher is the model that the target is
            attached to: after a request the unlearned one, which is all that is left by then.
        temperature: of the softening.
    """

    steps: int = 300
    batch_size: int = 50
    optimizer: OptimizerField = Optimizer(schedule="cosine")
    flip: bool = False
    crop: int = 0
    distil: float = 0.0
    temperature: float = 2.0

    def check(self) -> None:
        """Raise ``InputError`` where a number makes no sense."""
        check_at_least("steps", self.steps, 1)
        check_at_least("batch_size", self.batch_size, 1)
        check_at_least("distil", self.distil, 0)
        as_optimizer(self.optimizer).check()

    def epochs(self, images: int) -> int:
        """Passes over so many images that make ``steps`` steps, one at least."""
        return max(1, round(self.steps / math.ceil(images / min(images, self.batch_size))))

    def augmentation(self) -> Augmentation | None:
        """The augmentation asked for, if any."""
        return Augmentation(self.flip, self.crop) if self.flip or self.crop else None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Construction:
    """How a condensed model is made, unlearned, and attached to a target.

    Attributes:
        architecture: of the autoencoder and the small classifier.
        pretraining: of the autoencoder on the whole training set.
        reconstruction: see ``AutoencoderLoss``.
        per_class: remembrance samples of each class, drawn by seed from the test split.
        offline: rounds of ``final`` on remembrance samples and ``intermediate`` on all data.
        clusters_per_class: K; if not given, the one that makes the reduced retain set smallest
            when a tenth is forgotten.
        clustering: see ``cluster_classes``.
        matching: of condensing the clusters, in the features of the code.
        online: what serves a request.
        online_classes: instead, where only whole classes are forgotten.
        attaching: how the target is trained in the end.
    """

    architecture: Architecture = Architecture()
    pretraining: Training = Training(epochs=10)
    reconstruction: float = 0.5
    per_class: int = 10
    offline: Offline = Offline(rounds=1)
    clusters_per_class: int | None = None
    clustering: ClusterMethod = "kmeans"
    matching: MatchingConfig = MatchingConfig()
    online: ModularUnlearning = ModularUnlearning()
    online_classes: ModularUnlearning = ModularUnlearning()
    attaching: Attaching = Attaching()

    def check(self) -> None:
        """Raise ``InputError`` for what is wrong whatever the data is."""
        check_at_least("per_class", self.per_class, 1)
        check_at_least("pretraining.epochs", self.pretraining.epochs, 1)
        check_at_least("pretraining.batch_size", self.pretraining.batch_size, 1)
        check_at_least("reconstruction", self.reconstruction, 0)
        check_at_least("offline.rounds", self.offline.rounds, 0)
        if self.clusters_per_class is not None:
            check_at_least("clusters_per_class", self.clusters_per_class, 1)
        as_optimizer(self.pretraining.optimizer).check()
        self.pretraining.augmentation()  # checks itself
        self.online.check()
        self.online_classes.check()
        self.attaching.check()
        self.attaching.augmentation()


def paper_construction() -> Construction:
    """As published, with the settings of the authors' code where the paper has none.

    The architecture, ten epochs of pretraining, ten offline rounds of 20 + 20 epochs at 1e-3, ten
    online rounds (two epochs of ``beginning``, 50 steps of ``final`` in all but the last two), then
    five epochs of ``intermediate``; the target trains on 10 samples per class, unaugmented.
    """
    constant = Optimizer(learning_rate=1e-3)
    online = ModularUnlearning(
        rounds=10,
        tail=2,
        round_steps=(
            Step(parts=("beginning",), epochs=2, optimizer=constant),
            Step(parts=("final",), on="remembrance", epochs=50, batch_size=0, optimizer=constant),
        ),
        closing_steps=(Step(parts=("intermediate",), epochs=5, optimizer=constant),),
    )
    return Construction(
        pretraining=Training(epochs=10, optimizer=constant),
        offline=Offline(rounds=10, final_optimizer=constant, intermediate_optimizer=constant),
        online=online,
        online_classes=online,
        attaching=Attaching(steps=120, batch_size=32, optimizer=constant),
    )


def recommended_construction() -> Construction:
    """The same construction, meant to carry more over to the target in less time.

    What follows are reasons, not measurements: no comparison with the published one is on record
    yet. BatchNorm, further convolutions and augmentation, because a decoded image holds no more
    than the code; extra channels beside the image, which no reconstruction binds; more remembrance
    samples. One offline round instead of ten, for its time. Online, a fresh decoder and small
    classifier learn the reduced retain set from codes that are computed once.
    """
    cosine = Optimizer(schedule="cosine")
    online = ModularUnlearning(
        collecting=Collecting(weigh_by_size=True),
        resets=(Reset(part="intermediate"), Reset(part="final")),
        closing_steps=(
            Step(parts=("intermediate", "final"), epochs=10, batch_size=128, optimizer=cosine),
        ),
    )
    return Construction(
        architecture=Architecture(convolutions=1, batch_norm=True, extra_channels=5),
        pretraining=Training(epochs=30, batch_size=128, flip=True, crop=4),
        per_class=20,
        offline=Offline(
            rounds=1,
            final_optimizer=Optimizer(learning_rate=1e-3),
            intermediate_epochs=10,
            intermediate_optimizer=cosine,
        ),
        clustering="balanced",
        matching=MatchingConfig(solver="newton", steps=3),
        online=online,
        online_classes=online,
        attaching=Attaching(flip=True, crop=4, distil=1.0),
    )


CONSTRUCTIONS = {"recommended": recommended_construction, "paper": paper_construction}
"""Name -> the construction of that name."""


def construction(name: str) -> Construction:
    """The construction ``name``; raises ``InputError`` for an unknown one."""
    if name not in CONSTRUCTIONS:
        raise unknown_name("construction", name, CONSTRUCTIONS)
    return CONSTRUCTIONS[name]()

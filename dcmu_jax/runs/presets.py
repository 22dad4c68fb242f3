"""The presets: the method as published, at its best, and on condensed images alone."""

from __future__ import annotations

import dataclasses
from typing import Any

from dcmu_jax.errors import unknown_name
from dcmu_jax.fast.matching import MatchingConfig
from dcmu_jax.networks.partition import PARTS
from dcmu_jax.runs.options import CondensationOptions, MethodOptions, RemembranceOptions
from dcmu_jax.training.optimizers import Optimizer
from dcmu_jax.unlearning.modular import Collecting, ModularUnlearning, Offline
from dcmu_jax.unlearning.schedule import Reset, Step


def paper_preset(model: str) -> MethodOptions:
    """The method as published (paper section IV and appendix; online settings of Table II).

    Where a whole class is forgotten, the settings are those of the published figures: they break
    the paper's own 0 < tau < S, which leaves out every step on the remembrance samples.

    Where it departs from the authors' code:

    - Parts that do not train are in evaluation mode. Their whole network stays in training mode
      online: dropout in ``final`` is active while other parts train, and BatchNorm of frozen parts
      works on batch statistics and moves its running ones.
    - Clusters are condensed with the features of the original. Theirs are those of the network
      that offline training left, as it changes the network in place before condensation.
    - Offline, ``final`` goes back to the original in every round, as the paper says. Theirs of the
      MLP and the CNN does not, as both names hold the same parameters.
    - A step on the remembrance samples averages over them all. Theirs averages the means of
      batches of 32, of which the last has what is left and counts as much.
    - The CNN's ``intermediate`` has the paper's rate of 3e-4 where single samples go; their code
      has 3e-3.
    - Where a class is forgotten, each network has clusters and images of its own. Theirs of the MLP
      serve the CNN, ResNet and VGG too.
    - Remembrance samples are left out of every evaluation, and the online time includes the
      collection. Theirs are in, and out.
    """
    schedules = {  # S1, tau, alpha, alpha3
        "mlp": (15, 15, 1e-3, 1e-4),
        "cnn": (10, 25, 3e-3, 3e-4),
        "resnet18": (15, 15, 1e-3, 1e-4),
        "vgg16": (10, 15, 1e-3, 1e-4),
        "vgg16_bn": (10, 15, 1e-3, 1e-4),  # not in the paper: that of vgg16
    }
    steps, tail, alpha, alpha3 = schedules.get(model, schedules["mlp"])
    rate = Optimizer(learning_rate=alpha)
    online = ModularUnlearning(
        collecting=Collecting(drop_forgotten_classes=False),
        rounds=30,
        tail=tail,
        round_steps=(
            Step(parts=("beginning",), optimizer=rate),
            Step(parts=("final",), on="remembrance", epochs=steps, batch_size=0, optimizer=rate),
        ),
        closing_steps=(Step(parts=("intermediate",), optimizer=Optimizer(learning_rate=alpha3)),),
    )
    return MethodOptions(
        remembrance=RemembranceOptions(per_class=10, choice="first"),
        # K = 450 at 5,000 samples per class, and in proportion on smaller sets.
        condensation=CondensationOptions(cluster_size=5000 / 450),
        offline=Offline(rounds=10),
        online=online,
        # As recorded: ten rounds for a class, and tau >= S, so that `final` never trains.
        online_classes=dataclasses.replace(
            online,
            rounds=10,
            tail=0,
            round_steps=(Step(parts=("beginning",), optimizer=Optimizer(learning_rate=1e-3)),),
            closing_steps=(
                Step(
                    parts=("intermediate",),
                    optimizer=Optimizer(learning_rate=1e-3 if model == "cnn" else 1e-4),
                ),
            ),
        ),
        control="all",
    )


CONVOLUTIONAL = ("cnn", "convnet", "vgg16", "vgg16_bn", "resnet18")
"""Networks of the catalogue whose ``beginning`` is convolutions, which memorise little."""


CLASS_STEPS = 500
"""Fewest steps for a new ``final``: with fewer, the classes that stay may lose accuracy.

Where fewer than 530 samples stay they are fewer, as no batch gets smaller than 16 (``Step``).
"""


def _new_final(**step: Any) -> ModularUnlearning:
    """A class is served by `final` alone: a new one that never meets it."""
    cosine = Optimizer(schedule="cosine")
    learned = Step(parts=("final",), min_steps=CLASS_STEPS, optimizer=cosine, **step)
    return ModularUnlearning(
        collecting=Collecting(weigh_by_size=True),
        resets=(Reset(part="final"),),
        closing_steps=(learned,),
    )


def recommended_preset(model: str) -> MethodOptions:
    """The method in the form that comes nearest to retraining for its time.

    Found by trials on networks that no table reports, for a class on the class that the tables
    forget; on another class it was held against its parts (``experiments/ablation``).
    Convolutional networks keep ``beginning`` and never see the forget set again. In any other,
    where single samples are forgotten, all parts have to change, and the forget set is looked at
    once more, under wrong labels (``forget_weight``).
    """
    cosine = Optimizer(schedule="cosine")
    if model in CONVOLUTIONAL:
        # What was memorised sits above `beginning`: fresh parts learn the whole retain set, whose
        # features are computed once. An average of images would teach less than each of them.
        online = ModularUnlearning(
            collecting=Collecting(weigh_by_size=True),
            resets=(Reset(part="intermediate"), Reset(part="final")),
            closing_steps=(
                Step(parts=("intermediate", "final"), on="retain", epochs=30, optimizer=cosine),
            ),
        )
    else:
        # Shrink every part towards a fresh one and learn the retain set again; what the parts still
        # remember of the rest is driven out by wrong labels that count a third.
        online = ModularUnlearning(
            collecting=Collecting(weigh_by_size=True),
            resets=tuple(Reset(part=part, keep=0.6) for part in PARTS),
            closing_steps=(
                Step(
                    parts=PARTS,
                    on="retain",
                    epochs=10,
                    batch_size=128,
                    min_steps=200,
                    optimizer=cosine,
                ),
            ),
            forget_weight=0.35,
        )
    return MethodOptions(
        condensation=CondensationOptions(
            clustering="balanced", matching=MatchingConfig(solver="newton", steps=3)
        ),
        online=online,
        online_classes=_new_final(on="retain", epochs=15, batch_size=128),
    )


def condensed_preset(model: str) -> MethodOptions:
    """Condensation alone: trains on the reduced retain set and never looks at the forget set.

    For users who cannot keep the whole retain set, or cannot afford to train on it.
    """
    cosine = Optimizer(schedule="cosine")
    return dataclasses.replace(
        recommended_preset(model),
        # Some real images of every cluster besides its average, which is no memorised sample.
        online=ModularUnlearning(
            collecting=Collecting(weigh_by_size=True, real_per_cluster=2),
            resets=tuple(Reset(part=part, keep=0.3) for part in PARTS),
            closing_steps=(Step(parts=PARTS, epochs=15, batch_size=128, optimizer=cosine),),
        ),
        online_classes=_new_final(epochs=150, batch_size=64),
    )


PRESETS = {
    "recommended": recommended_preset,
    "condensed": condensed_preset,
    "paper": paper_preset,
}


def preset(name: str, model: str) -> MethodOptions:
    """The preset ``name`` for a model of the catalogue (or any other name).

    >>> preset("paper", "mlp").offline.rounds, preset("recommended", "mlp").offline.rounds
    (10, 0)
    >>> preset("recommended", "mlp").online.forget_weight
    0.35
    >>> preset("recommended", "cnn").online.forget_weight
    0.0
    """
    if name not in PRESETS:
        raise unknown_name("preset", name, PRESETS)
    return PRESETS[name](model)

"""One small unlearning problem, and every method with settings that fit it."""

import dataclasses

import numpy as np
from toys import Plain, toy_splits

from dcmu_jax.condensation.building import build_bank
from dcmu_jax.condensation.matching import MatchingConfig
from dcmu_jax.data.remembrance import remembrance_samples
from dcmu_jax.data.requests import parse_request
from dcmu_jax.pipeline.config import preset
from dcmu_jax.training.optimizers import Optimizer
from dcmu_jax.unlearning.catastrophic_forgetting import CatastrophicForgetting
from dcmu_jax.unlearning.modular import ModularUnlearning
from dcmu_jax.unlearning.retraining import Retraining
from dcmu_jax.unlearning.task import Prepared, Training, UnlearningTask, train_from_scratch

SPLITS = toy_splits(classes=3, per_class=24)
FAST = Optimizer(learning_rate=1e-2)
TRAINING = Training(epochs=12, batch_size=24, optimizer=FAST)


def _quick(step, epochs):
    return dataclasses.replace(step, epochs=epochs, batch_size=16, optimizer=FAST)


def scaled(name: str, *, classes: bool = False) -> ModularUnlearning:
    """The online schedule of a preset in few steps, at a rate that does something in them."""
    options = preset(name, "cnn")
    online = options.online_classes if classes else options.online
    return dataclasses.replace(
        online,
        rounds=min(online.rounds, 4),
        tail=min(online.tail, 2),
        round_steps=tuple(_quick(step, 1) for step in online.round_steps),
        closing_steps=tuple(_quick(step, min(step.epochs, 10)) for step in online.closing_steps),
    )


def _again(method: ModularUnlearning) -> ModularUnlearning:
    options = dataclasses.replace(
        method.collecting, touched="recondense", matching=MatchingConfig(steps=5)
    )
    return dataclasses.replace(method, collecting=options)


METHODS = {
    "retrain": Retraining(),
    "catastrophic_forgetting": CatastrophicForgetting(epochs=12, batch_size=24, optimizer=FAST),
    "modular, recommended": scaled("recommended"),
    "modular, recommended, re-condensed": _again(scaled("recommended")),
    "modular, recommended for classes": scaled("recommended", classes=True),
    "modular, paper": scaled("paper"),
}
"""Name -> a method; more than one line may be of the same class."""

STAY_NEAR = {"modular, paper", "catastrophic_forgetting"}
"""Known not to lower the accuracy on a class by much: ``final`` never trains against it in the
published schedule, and fine-tuning has little reason to. They raise the loss on it, no more."""


def make_task(seed: int = 1, request: str = "class:2", model=None) -> UnlearningTask:
    """A task with everything prepared; the original does not depend on ``seed`` or ``request``."""
    train = SPLITS.train
    original = train_from_scratch(model or Plain(), train, TRAINING, 0).classifier
    bank = build_bank(
        train, original, clusters_per_class=6, matching=MatchingConfig(steps=5), seed=0
    )
    remembrance = remembrance_samples(SPLITS.test, 2, method="random", seed=0)
    return UnlearningTask(
        original=original,
        train=train,
        forget_ids=parse_request(request, train, 0).ids,
        seed=seed,
        training=TRAINING,
        prepared=Prepared(bank, original, remembrance, 0.0, 0.0),
    )


def with_other_forgotten_pixels(task: UnlearningTask) -> UnlearningTask:
    """The same task, but the images that must go are noise."""
    images = task.train.images.copy()
    at = task.train.positions(task.forget_ids)
    noise = np.random.default_rng(9).integers(0, 256, images[at].shape, np.uint8)
    images[at] = noise
    return dataclasses.replace(task, train=dataclasses.replace(task.train, images=images))


def accuracy(classifier, dataset) -> float:
    """Accuracy in percent."""
    return 100 * float(classifier.evaluate(dataset).correct.mean())

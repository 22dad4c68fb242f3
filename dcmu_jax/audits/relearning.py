"""Relearning time: how many epochs on forgotten samples bring the old accuracy on them back.

What is still in the weights comes back sooner than what is learnt for the first time (Golatkar et
al. 2020, "Eternal sunshine of the spotless net", readout functions). One network alone says little:
on samples of one class any network soon answers with that class. Compare the unlearned network with
one retrained without the samples, by the same samples, order and seed.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from dcmu_jax.data.dataset import Dataset
from dcmu_jax.errors import InputError, check_at_least, check_seed
from dcmu_jax.training.arguments import Trainable
from dcmu_jax.training.classifier import Classifier
from dcmu_jax.training.examples import Examples
from dcmu_jax.training.keys import named_key, named_seed
from dcmu_jax.training.loop import fit
from dcmu_jax.training.optimizers import Optimizer


@dataclasses.dataclass(frozen=True, kw_only=True)
class RelearningConfig:
    """How forgotten samples are learnt again.

    Attributes:
        samples: forgotten samples that are trained on, all of them if there are not more. The same
            ones for every network.
        max_epochs: passes over them, at most.
        batch_size: samples in a step.
        optimizer: at a constant rate, small enough to tell networks apart.
        margin: percentage points below the original's accuracy that count as reaching it.
        seed: of the choice and order of samples.
    """

    samples: int = 100
    max_epochs: int = 20
    batch_size: int = 32
    optimizer: Optimizer = Optimizer(learning_rate=1e-4)
    margin: float | int = 5.0
    seed: int = 0

    def __post_init__(self):
        for name in ("samples", "max_epochs", "batch_size"):
            check_at_least(name, getattr(self, name), 1)
        check_at_least("margin", self.margin, 0)
        check_seed("seed", self.seed)
        self.optimizer.check()
        if self.optimizer.scheduled:
            raise InputError(
                f"Relearning by the schedule {self.optimizer.schedule!r}"
                + (" and l1" if self.optimizer.l1 else ""),
                "the schedule 'constant' and no l1: it ends when the target is reached",
                "Leave the schedule and l1 out",
            )


@dataclasses.dataclass(frozen=True)
class Relearned:
    """How a network came to know the samples again.

    Attributes:
        accuracies: on all forgotten samples (%), before training and after each epoch, up to the
            first that reaches the target.
        target: the accuracy (%) to reach.
        epochs: epochs it took, 0 if it was there from the start; None if ``max_epochs`` were not
            enough.
    """

    accuracies: tuple[float, ...]
    target: float | int
    epochs: int | None


def relearn(
    classifier: Classifier,
    forgotten: Dataset,
    *,
    target: float | int,
    config: RelearningConfig | None = None,
) -> Relearned:
    """Fine-tune on some of the forgotten samples until the accuracy on all of them is back.

    Every part of the network trains, an epoch at a time, and the optimizer's state goes on.

    Args:
        classifier: the network; it is not changed.
        forgotten: the forgotten samples.

    Other Args:
        target: accuracy (%) on them at which to stop.
        config: see ``RelearningConfig``.

    Raises:
        InputError: no samples, or a target outside 0..100.
    """
    config = config or RelearningConfig()
    if not len(forgotten) or not 0 <= target <= 100:
        raise InputError(
            f"Relearning {len(forgotten)} samples to {target!r} %",
            "one sample or more, and an accuracy in 0..100",
            "Bring the forgotten samples and a percentage",
        )
    rng = np.random.default_rng(named_seed(config.seed, "relearning"))
    chosen = np.sort(rng.permutation(len(forgotten))[: config.samples])
    examples = Examples.of(forgotten.images[chosen], forgotten.labels[chosen])
    accuracies, opt_state = [_accuracy(classifier, forgotten)], None
    while accuracies[-1] < target and len(accuracies) <= config.max_epochs:
        fitted = fit(
            classifier,
            examples,
            epochs=1,
            key=named_key(config.seed, f"relearning {len(accuracies)}"),
            optimizer=config.optimizer,
            batch_size=config.batch_size,
            parts=Trainable(opt_state=opt_state),
        )
        classifier, opt_state = fitted.classifier, fitted.opt_state
        accuracies.append(_accuracy(classifier, forgotten))
    reached = accuracies[-1] >= target
    return Relearned(tuple(accuracies), target, len(accuracies) - 1 if reached else None)


def _accuracy(classifier: Classifier, dataset: Dataset) -> float:
    return 100 * float(np.mean(classifier.evaluate(dataset).correct))

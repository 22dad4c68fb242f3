"""All that a table says of one network after a request, and the per-sample results behind it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from dcmu_jax.data.dataset import Splits
from dcmu_jax.data.selections import Mask, as_mask
from dcmu_jax.metrics.accuracy import measure
from dcmu_jax.metrics.gradients import unlearning_metric
from dcmu_jax.metrics.measurement import Measurement
from dcmu_jax.metrics.membership import Control
from dcmu_jax.metrics.own import measured_by
from dcmu_jax.training.classifier import Classifier, Evaluation
from dcmu_jax.training.divergence import Diverged


@dataclasses.dataclass(frozen=True)
class Measured:
    """A row of the table with the per-sample results it came from."""

    measurement: Measurement
    train: Evaluation
    test: Evaluation


def measure_classifier(
    name: str,
    classifier: Classifier,
    splits: Splits,
    forget: Mask,
    usable: Mask,
    *,
    control: Control = "all",
    metrics: Mapping[str, Any] | None = None,
    **costs: Any,
) -> Measured:
    """Accuracies, membership inference and UM of one network; scores come later.

    Args:
        name: of the method that made it.
        classifier: the network.
        splits: the data.
        forget: which training samples are forgotten.
        usable: which test samples may be used.

    Other Args:
        control: of the membership attack, see ``control_losses_for``.
        metrics: of the user's own, as ``own_metrics`` gives them.
        **costs: fields of ``Measurement`` that were measured elsewhere.

    Raises:
        Diverged: a loss that is not finite.
        InputError: see ``measure`` and ``measured_by``.
    """
    train, test = splits.train, splits.test
    forget = as_mask("forget mask", forget, (len(train),), "training samples")
    on_train, on_test = classifier.evaluate(train), classifier.evaluate(test)
    if not all(np.isfinite(found.losses).all() for found in (on_train, on_test)):
        raise Diverged("losses of single samples are not finite", stage=f"The network of {name}")
    measurement = measure(
        name,
        train=on_train,
        test=on_test,
        train_labels=train.labels,
        test_labels=test.labels,
        forget=forget,
        usable=usable,
        unlearning_metric=unlearning_metric(
            classifier.model,
            classifier.variables,
            classifier.normalisation,
            train.images[~forget],
            train.labels[~forget],
            train.images[forget],
            train.labels[forget],
        ),
        control=control,
        seed=0,
        **costs,
    )
    if metrics:
        sets = {"retain": train.take(~forget), "forget": train.take(forget)}
        own = measured_by(metrics, classifier, **sets, test=test.take(usable))
        measurement = dataclasses.replace(measurement, own=own)
    return Measured(measurement, on_train, on_test)

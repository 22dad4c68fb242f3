"""Scores over a table: how far each method is from the retrained model."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import scipy.special
from jaxtyping import Float

from dcmu_jax.data.numbers import as_numbers
from dcmu_jax.errors import InputError, check_percentage, unknown_name
from dcmu_jax.metrics.measurement import Measurement

ZRF_UNITS = ("bits", "nats", "authors")
"""What the divergence in ZRF is measured in; see ``zero_retrain_forgetting``."""


def gap(measurement: Measurement, retrained: Measurement) -> float:
    """Mean absolute difference to the retrained model over RA, FA, TeA and MIA, in points.

    The "average gap" of the sparse-unlearning literature (Jia et al. 2023), with forget accuracy
    where that has its complement. 0 at best.

    >>> retrained = Measurement(
    ...     method="retrain",
    ...     retain_accuracy=100.0,
    ...     forget_accuracy=60.0,
    ...     train_accuracy=96.0,
    ...     test_accuracy=65.0,
    ...     mia=50.0,
    ...     unlearning_metric=100.0,
    ... )
    >>> original = dataclasses.replace(retrained, forget_accuracy=100.0, mia=70.0)
    >>> gap(original, retrained), tug_of_war(original, retrained)
    (15.0, 0.6)
    """
    names = ("retain_accuracy", "forget_accuracy", "test_accuracy", "mia")
    return sum(abs(getattr(measurement, n) - getattr(retrained, n)) for n in names) / len(names)


def tug_of_war(measurement: Measurement, retrained: Measurement) -> float:
    """Product over forget, retain and test of (1 - |accuracy difference| / 100), 0..1.

    Tug of war (ToW) of Zhao et al. (2024). 1 at best; one bad accuracy spoils it.
    """
    names = ("forget_accuracy", "retain_accuracy", "test_accuracy")
    return math.prod(1 - abs(getattr(measurement, n) - getattr(retrained, n)) / 100 for n in names)


def nomus(test_accuracy: float, mia: float) -> float:
    """Normalised unlearning score, 0..1, 1 at best (Choi & Na 2023).

    Half the test accuracy and half of 1 - 2 |MIA - 1/2|. It asks for an attack at chance even
    where a retrained model's is not, as when a class is forgotten: read it beside the gap.

    Args:
        test_accuracy: %.
        mia: accuracy of the loss attack, %.

    Raises:
        InputError: a number outside 0..100.

    >>> nomus(100.0, 50.0), nomus(60.0, 75.0)
    (1.0, 0.55)
    """
    check_percentage("test_accuracy", test_accuracy)
    check_percentage("mia", mia)
    return 0.5 * test_accuracy / 100 + 0.5 * (1 - 2 * abs(mia / 100 - 0.5))


def zero_retrain_forgetting(
    unlearned_logits: Float[np.ndarray, "forget classes"],
    random_logits: Float[np.ndarray, "forget classes"],
    *,
    unit: str = "bits",
) -> float:
    r"""ZRF of Chundawat et al. (2023), 1 at most: how like an untrained network on the forget set.

    One minus the mean Jensen-Shannon divergence between the two networks' predictions p, q of
    every forgotten sample. 1 says that the network guesses there as an untrained one does, which
    is no goal of its own: a retrained model does not, unless a whole class is forgotten.

    The paper's formula names no base of the logarithm; in bits the score spans 0..1, in nats
    :math:`1 - \ln 2`..1. The authors' code computes something else: with m = (p + q) / 2, the
    mean of KL(m || p) and KL(m || q) in nats, averaged over samples *and classes*. Among ten
    classes its scores therefore lie nearer to 1, and a network that is sure of itself can bring it
    below 0. Compare with published figures by ``authors`` alone.

    Args:
        unlearned_logits: of the network after unlearning.
        random_logits: of a network that was never trained.
        unit: ``bits``; ``nats``; or ``authors``, the published code's (but from logarithms of
            float64, where theirs is infinite once a probability is 0 in float32).

    Raises:
        InputError: an unknown unit; logits that are not finite, none, or of different shapes.

    >>> unsure, sure = np.zeros((2, 10)), 100 * np.eye(10)[:2]
    >>> zero_retrain_forgetting(unsure, unsure)
    1.0
    >>> zero_retrain_forgetting(sure, unsure) < 0.5
    True
    """
    if unit not in ZRF_UNITS:
        raise unknown_name("unit of ZRF", unit, ZRF_UNITS)
    pair = [
        as_numbers(f"Logits of the {name} network", logits, "forget classes")
        for name, logits in (("unlearned", unlearned_logits), ("random", random_logits))
    ]
    if pair[0].shape != pair[1].shape:
        raise InputError(
            f"Logits of shape {pair[0].shape} of the unlearned network and {pair[1].shape} of the "
            "random one",
            "the same shape, forgotten samples by classes",
            "Take both of the same samples",
        )
    logs = [scipy.special.log_softmax(logits, axis=1) for logits in pair]
    p, q = map(np.exp, logs)
    middle = (p + q) / 2
    if unit == "authors":
        divergence = -scipy.special.entr(middle) - middle * (logs[0] + logs[1]) / 2
        return float(1 - divergence.mean())
    divergence = scipy.special.rel_entr(p, middle) + scipy.special.rel_entr(q, middle)
    return float(1 - divergence.sum(axis=1).mean() / (2 * (np.log(2) if unit == "bits" else 1)))


def with_scores(
    measurements: Sequence[Measurement], reference: str = "retrain"
) -> list[Measurement]:
    """The measurements with ``gap`` and ``tug_of_war`` filled in, in the same order.

    Args:
        measurements: of one request and one seed.
        reference: method name of the retrained model among them; it gets 0 and 1.

    Raises:
        InputError: the reference is missing, or there is more than one.
    """
    found = [m for m in measurements if m.method == reference]
    if not found:
        raise unknown_name("reference method", reference, {m.method for m in measurements})
    if len(found) > 1:
        raise InputError(
            f"{len(found)} measurements of the reference {reference!r}",
            "one",
            "Score one seed at a time and average the scores",
        )
    return [
        dataclasses.replace(m, gap=gap(m, found[0]), tug_of_war=tug_of_war(m, found[0]))
        for m in measurements
    ]

"""Whether accuracy gives the forget set away: forgotten samples beside test samples, no retraining.

A network that never saw the forgotten samples classifies them about as well as test samples of
their classes, unless they are unlike the test samples. One that is far worse or far better on them
tells whoever holds it which samples were forgotten, or that it was trained on them.
"""

from __future__ import annotations

import math
import warnings
from typing import NamedTuple

import numpy as np

from dcmu_jax.data.dataset import Dataset, Splits
from dcmu_jax.data.requests import ForgetRequest
from dcmu_jax.training.classifier import Classifier
from dcmu_jax.training.devices import is_writer

TOLERANCE = 5.0
"""Points of accuracy within which a network counts as being where it should be."""
CHANCE = 3.0
"""Standard deviations beyond which chance does not explain a difference."""


class TelltaleWarning(UserWarning):
    """A network that unlearning has given shows which samples were forgotten."""


class Beside(NamedTuple):
    """Accuracy on forgotten samples beside that on test samples of their classes.

    Attributes:
        forgotten: in percent, of the forgotten samples whose class has test samples.
        test: in percent; each class weighs as much as it has forgotten samples.
        tells: whether they are more than ``TOLERANCE`` points apart, and more than chance explains.
    """

    forgotten: float
    test: float
    tells: bool

    def sentence(self) -> str:
        """What follows, in words; empty where the two are near each other."""
        if not self.tells:
            return ""
        shows = (
            "which samples were forgotten"
            if self.forgotten < self.test
            else "that it was trained on them"
        )
        return (
            f"Of the forgotten samples {self.forgotten:.1f} % are classified correctly, of test "
            f"images of their classes {self.test:.1f} %: unless they are unlike the test images, "
            f"the network shows {shows}."
        )


def beside(
    forgotten: np.ndarray, forgotten_labels: np.ndarray, test: np.ndarray, test_labels: np.ndarray
) -> Beside | None:
    """Compare what is classified correctly of the forgotten and of the test samples.

    Chance is judged by the test of Cochran, Mantel and Haenszel over the classes, with its
    correction for continuity: one misclassified sample is not enough, two of two may be.

    Args:
        forgotten: which of the forgotten samples are classified correctly.
        forgotten_labels: their classes.
        test: which of the test samples that no method trains on.
        test_labels: their classes.

    Returns:
        None where no forgotten sample has a test sample of its class.

    >>> right, wrong, labels = np.ones(40, bool), np.zeros(40, bool), np.zeros(40, int)
    >>> beside(wrong, labels, right, labels)
    Beside(forgotten=0.0, test=100.0, tells=True)
    """
    count = number = expected = variance = weighted = 0.0
    for label in np.intersect1d(forgotten_labels, test_labels):
        ours, others = forgotten[forgotten_labels == label], test[test_labels == label]
        n, m = len(ours), len(others)
        share = (int(ours.sum()) + int(others.sum())) / (n + m)
        number += n
        count += int(ours.sum())
        weighted += n * float(others.mean())
        expected += n * share
        variance += n * m * share * (1 - share) / (n + m - 1)
    if not number:
        return None
    found, there = 100 * count / number, 100 * weighted / number
    beyond = max(0.0, abs(count - expected) - 0.5) > CHANCE * math.sqrt(variance)
    return Beside(found, there, abs(found - there) > TOLERANCE and beyond)


def forgotten_beside_test(network: Classifier, forgotten: Dataset, test: Dataset) -> Beside | None:
    """``beside`` for a network; None also where there is nothing to compare.

    Args:
        network: that has forgotten.
        forgotten: the forgotten samples.
        test: test samples that no method trains on.
    """
    test = test.take(np.isin(test.labels, forgotten.labels))
    if not (len(forgotten) and len(test)):
        return None
    ours, others = network.evaluate(forgotten), network.evaluate(test)
    return beside(ours.correct, forgotten.labels, others.correct, test.labels)


def telltale(
    network: Classifier, splits: Splits, request: ForgetRequest, usable: np.ndarray
) -> str:
    """The sentence on a network that has served ``request``; empty where there is none to say.

    Args:
        network: that has forgotten.
        splits: the data.
        request: what it has forgotten.
        usable: which test samples no method trains on.
    """
    found = forgotten_beside_test(network, splits.train.only(request), splits.test.take(usable))
    return found.sentence() if found else ""


def warn_of_telltale(
    network: Classifier, splits: Splits, request: ForgetRequest, usable: np.ndarray
) -> None:
    """Warn with the sentence, if there is one, where the caller's caller was called."""
    said = telltale(network, splits, request, usable)
    if said and is_writer():
        warnings.warn(said, TelltaleWarning, stacklevel=4)

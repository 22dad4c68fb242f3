"""What is left of a class in a network that was to forget it: probes and relearning, by oracles.

The class may be gone from a network's answers and not from its features, and what is still in its
parameters comes back sooner than what is learnt for the first time. Networks that never saw the
class tell it apart and learn it to some degree too; every number stands beside the range of theirs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from dcmu_jax.audits.checks import check_models
from dcmu_jax.audits.probing import knn_probe, linear_probe, probe_samples
from dcmu_jax.audits.relearning import RelearningConfig, relearn
from dcmu_jax.data.dataset import Splits
from dcmu_jax.data.requests import RequestLike, as_request
from dcmu_jax.data.selections import Mask, as_mask
from dcmu_jax.errors import InputError
from dcmu_jax.training.classifier import Classifier

TRACES = (
    "knn_class",
    "knn_excess",
    "knn_rest",
    "linear_class",
    "linear_excess",
    "linear_rest",
    "relearning_epochs",
)
"""What is read off a network.

``PROBE_class`` and ``PROBE_rest``: accuracy (%) of a probe on the forgotten class and on test
images of the others. ``PROBE_excess``: the accuracy on forgotten training images that the probe was
not fitted to, less that on test images of the same class, in points: what is left of the very
images.
``relearning_epochs``: until the class is known as well as before, less 5 points.
"""


@dataclasses.dataclass(frozen=True)
class Trace:
    """A number of one network beside the oracles'.

    Attributes:
        value: of the network.
        low: the least of the oracles.
        high: the greatest of the oracles.
    """

    value: float
    low: float
    high: float

    @property
    def within(self) -> bool:
        """Whether some oracle gives less or as much, and some as much or more."""
        return self.low <= self.value <= self.high


def traces_of(
    splits: Splits,
    request: RequestLike,
    original: Classifier,
    *,
    usable: Mask | None = None,
    limit: int = 2000,
    relearning: RelearningConfig | None = None,
) -> Callable[[Classifier], dict[str, float]]:
    """A function that reads ``TRACES`` off a network, by the same samples for every network.

    Args:
        splits: the data.
        request: forgets one class or more whole; what else it names is left out.
        original: before forgetting; only its accuracy on the classes counts.

    Other Args:
        usable: bool, of the test images: those that no method was trained on. All if not given.
        limit: most samples of a kind, see ``probe_samples``; most that relearning is judged on.
        relearning: see there. An epoch more than its most stands for "not within those".

    Raises:
        InputError: a request that forgets no class whole, or what ``probe_samples`` refuses.
    """
    request = as_request(request, splits.train)
    if not request.forgotten_classes:
        raise InputError(
            f"Traces of a class after the request {request.text!r}",
            "a request that forgets a class whole",
            "Ask for class:NUMBER",
        )
    train = splits.train
    gone = np.isin(train.labels, request.forgotten_classes)
    kept = train.without(np.setdiff1d(request.ids, train.ids[gone]))
    test = splits.test
    if usable is not None:
        test = test.take(as_mask("usable mask", usable, (len(test),), "test samples"))
    samples = probe_samples(kept, train.ids[gone], test, limit=limit, seed=0)
    forgotten = train.take(np.flatnonzero(gone))
    forgotten = forgotten.take(np.random.default_rng(0).permutation(len(forgotten))[:limit])
    config = relearning or RelearningConfig()
    known = 100 * float(original.evaluate(forgotten).correct.mean())
    target = max(0.0, known - config.margin)

    def read(network: Classifier) -> dict[str, float]:
        probes = {
            "knn": knn_probe(network, samples, neighbours=min(10, len(samples.fitted))),
            "linear": linear_probe(network, samples),
        }
        found = {}
        for name, probed in probes.items():
            excess = 0.0 if probed.excess is None else probed.excess
            found |= {f"{name}_class": probed.forgotten, f"{name}_excess": excess}
            found[f"{name}_rest"] = probed.rest
        epochs = relearn(network, forgotten, target=target, config=config).epochs
        return found | {
            "relearning_epochs": float(config.max_epochs + 1 if epochs is None else epochs)
        }

    return read


def beside_oracles(
    readings: Mapping[str, float], oracles: Sequence[Mapping[str, float]]
) -> dict[str, Trace]:
    """Each reading of a network beside the range of the oracles'.

    The range of n oracles holds one more oracle's number with probability (n - 1) / (n + 1); these
    numbers take few values, and a band of a normal distribution would mean little.

    Raises:
        InputError: fewer than 2 oracles.
    """
    check_models("oracle", len(oracles), 2, "Traces of a class")
    return {
        name: Trace(value, min(o[name] for o in oracles), max(o[name] for o in oracles))
        for name, value in readings.items()
    }

"""Probes: do a network's features still tell the forgotten class or samples from the rest.

A network may have lost a class from its answers and not from its features. A simple classifier is
fitted to the features of training images, half of the forgotten ones among them with their labels,
and scored on others. Features that never saw a class tell it apart to some degree too: compare with
a network retrained without it, not with 0.
"""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler

from dcmu_jax.data.dataset import Dataset
from dcmu_jax.data.numbers import as_numbers
from dcmu_jax.data.selections import Ids
from dcmu_jax.errors import InputError, check_at_least, check_seed
from dcmu_jax.threads import one_thread
from dcmu_jax.training.classifier import Classifier
from dcmu_jax.training.keys import named_seed


@dataclasses.dataclass(frozen=True)
class Probed:
    """What a probe finds.

    Attributes:
        forgotten: accuracy (%) on forgotten samples that were not fitted and, where whole classes
            were forgotten, on test images of those classes.
        rest: accuracy (%) on the other test images.
        fitted: samples fitted.
        scored: samples scored, of both kinds.
        excess: accuracy on the forgotten samples less that on the test images of their classes, in
            points; None where no class was forgotten whole, or no such image is there.
    """

    forgotten: float
    rest: float
    fitted: int
    scored: int
    excess: float | None


@dataclasses.dataclass(frozen=True, eq=False)
class ProbeSamples:
    """Which samples a probe is fitted to and scored on; no sample is in two.

    Attributes:
        fitted: of the training set: retained ones and half of the forgotten.
        forgotten: the other half, and test images of classes that are forgotten whole.
        rest: the other test images.
        unseen: bool, which of ``forgotten`` are test images.
    """

    fitted: Dataset
    forgotten: Dataset
    rest: Dataset
    unseen: np.ndarray


def probe_samples(
    train: Dataset,
    forget_ids: Ids,
    test: Dataset,
    *,
    limit: int = 5000,
    seed: int = 0,
) -> ProbeSamples:
    """Draw what a probe works on; the same for every network compared.

    Args:
        train: the training set, the forgotten samples included.
        forget_ids: which of them are forgotten.
        test: test images that no network was trained on.

    Other Args:
        limit: most samples fitted, and most scored of either kind. Where fewer are fitted than
            there are, forgotten and retained ones keep their proportion.
        seed: of the draw.

    Raises:
        InputError: fewer than two forgotten samples, none retained, no test image for the rest, a
            limit below 2.
    """
    seed = check_seed("seed", seed)
    check_at_least("limit", limit, 2)
    gone = np.zeros(len(train), bool)
    gone[train.positions(forget_ids)] = True
    whole = np.setdiff1d(train.labels[gone], train.labels[~gone])
    other = ~np.isin(test.labels, whole)
    if gone.sum() < 2 or gone.all() or not other.any():
        raise InputError(
            f"A probe for {int(gone.sum())} forgotten samples of {len(train)}, with "
            f"{int(other.sum())} test images of classes that stay",
            "two or more forgotten, one or more retained, and one or more such test images",
            "Forget at least two samples, leave some, and bring test images of the other classes",
        )
    rng = np.random.default_rng(named_seed(seed, "probe"))
    mine, retained = rng.permutation(np.flatnonzero(gone)), rng.permutation(np.flatnonzero(~gone))
    half = len(mine) // 2
    share = min(1.0, limit / (half + len(retained)))
    few = max(1, round(share * half))
    most = min(len(retained), limit - few) if share < 1 else len(retained)
    fitted = np.sort(np.concatenate([mine[:few], retained[:most]]))
    held = _joined(train.take(mine[half:]), test.take(~other))
    scored = rng.permutation(len(held))[:limit]
    return ProbeSamples(
        train.take(fitted),
        held.take(scored),
        test.take(rng.permutation(np.flatnonzero(other))[:limit]),
        scored >= len(mine) - half,
    )


def knn_probe(classifier: Classifier, samples: ProbeSamples, *, neighbours: int = 10) -> Probed:
    """Accuracy of the vote of the ``neighbours`` fitted samples of nearest direction.

    Nearness is the cosine of the features' angle; of tied classes the lowest wins.

    Args:
        classifier: the network whose features are probed.
        samples: see ``probe_samples``.

    Other Args:
        neighbours: an odd number avoids most ties.

    Raises:
        InputError: more neighbours than fitted samples, or features that are not finite.
    """
    if not 1 <= neighbours <= len(samples.fitted):
        raise InputError(
            f"A vote of {neighbours} neighbours among {len(samples.fitted)} fitted samples",
            f"1..{len(samples.fitted)}",
            "Lower neighbours, or fit more samples",
        )
    voting = KNeighborsClassifier(neighbours, algorithm="brute")
    return _probe(make_pipeline(Normalizer(), voting), classifier, samples)


def linear_probe(
    classifier: Classifier, samples: ProbeSamples, *, strength: float = 1.0, iterations: int = 300
) -> Probed:
    """Accuracy of a logistic regression on standardised features.

    Args:
        classifier: the network whose features are probed.
        samples: see ``probe_samples``.

    Other Args:
        strength: of the L2 penalty: scikit-learn's C is its inverse.
        iterations: at most; the fit ends there whether it has converged or not.

    Raises:
        InputError: fitted samples of one class only, or features that are not finite.
    """
    check_at_least("strength", strength, 1e-9)
    check_at_least("iterations", iterations, 1)
    if len(np.unique(samples.fitted.labels)) < 2:
        raise InputError(
            "A linear probe fitted to samples of one class",
            "two classes or more",
            "Raise limit, or bring more classes",
        )
    line = LogisticRegression(C=1 / strength, max_iter=iterations)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return _probe(make_pipeline(StandardScaler(), line), classifier, samples)


@one_thread()
def _probe(model: Any, classifier: Classifier, samples: ProbeSamples) -> Probed:
    model.fit(_features(classifier, samples.fitted), samples.fitted.labels)
    forgotten, rest = (
        100.0 * (model.predict(_features(classifier, part)) == part.labels)
        for part in (samples.forgotten, samples.rest)
    )
    seen, unseen = forgotten[~samples.unseen], forgotten[samples.unseen]
    excess = float(seen.mean() - unseen.mean()) if len(seen) and len(unseen) else None
    scored = len(forgotten) + len(rest)
    means = float(forgotten.mean()), float(rest.mean())
    return Probed(*means, len(samples.fitted), scored, excess)


def _features(classifier: Classifier, dataset: Dataset) -> np.ndarray:
    features = classifier.features(dataset.images)
    as_numbers("Features", features)
    return features


def _joined(one: Dataset, other: Dataset) -> Dataset:
    return Dataset(
        *(
            np.concatenate([getattr(part, name) for part in (one, other)])
            for name in ("images", "labels", "ids")
        ),
        num_classes=one.num_classes,
    )

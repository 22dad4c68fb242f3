"""The three versions of UM in the published code, against plain loops over classes and units."""

import jax
import numpy as np
import pytest
from toys import Noisy, fresh, toy_splits

from dcmu_jax.errors import InputError
from dcmu_jax.metrics.gradients import unlearning_metric
from dcmu_jax.metrics.um_variants import (
    first_samples_metric,
    rowwise_metric,
)
from dcmu_jax.networks.partition import apply_parts
from dcmu_jax.training.examples import cross_entropy

TRAIN = toy_splits(classes=3, per_class=12).train
# Class 2 is in the retain set alone.
FORGET = TRAIN.take(np.flatnonzero(TRAIN.labels < 2)[::3])
RETAIN = TRAIN.without(FORGET.ids)


@pytest.fixture(scope="module")
def classifier():
    return fresh(Noisy(), TRAIN)


def gradient(classifier, dataset):
    """Gradient of the mean loss, without batches."""

    def loss(params):
        variables = {**classifier.variables, "params": params}
        x = classifier.normalisation.apply(dataset.images)
        logits, _ = apply_parts(classifier.model, variables, x)
        return cross_entropy(logits, jax.numpy.asarray(dataset.labels)).mean()

    return jax.tree.leaves(jax.jit(jax.grad(loss))(classifier.variables["params"]))


def cosine(a, b):
    a, b = np.ravel(a).astype(float), np.ravel(b).astype(float)
    norms = np.linalg.norm(a) * np.linalg.norm(b)
    return a @ b / norms if norms else 0.0


def by_rows(classifier, count=None):
    of_classes = []
    for label in (0, 1):
        retain, forget = (
            gradient(classifier, s.take(np.flatnonzero(s.labels == label)[:count]))
            for s in (RETAIN, FORGET)
        )
        of_tensors = []
        for r, f in zip(retain, forget, strict=True):
            r, f = np.asarray(r), np.asarray(f)
            units = [1 - cosine(r[..., i], f[..., i]) for i in range(r.shape[-1])]
            of_tensors.append(0.0 if r.ndim == 1 else np.mean(units))
        of_classes.append(np.mean(of_tensors))
    return 100 * np.mean(of_classes)


def test_rows_are_averaged_over_units_tensors_and_classes(classifier):
    found = rowwise_metric(classifier, RETAIN, FORGET, batch_size=5)
    assert found == pytest.approx(by_rows(classifier), abs=1e-2)
    few = rowwise_metric(classifier, RETAIN, FORGET, at_most=2)
    assert few == pytest.approx(by_rows(classifier, 2), abs=1e-2)
    assert abs(few - found) > 0.1
    # Fewer than 256 samples of each class here, so the cap changes nothing.
    assert rowwise_metric(classifier, RETAIN, FORGET, at_most=256) == pytest.approx(found, abs=1e-3)


def test_few_samples_have_the_full_cosine(classifier):
    cosines = []
    for label in (0, 1):
        vectors = [
            np.concatenate([np.ravel(x) for x in gradient(classifier, s.take(rows[:2]))])
            for s in (RETAIN, FORGET)
            for rows in [np.flatnonzero(s.labels == label)]
        ]
        cosines.append(cosine(*vectors))
    found = first_samples_metric(classifier, RETAIN, FORGET, samples=2)
    assert found == pytest.approx(100 * (1 - np.mean(cosines)), abs=1e-2)


def test_with_all_samples_the_last_version_is_the_mean_over_classes(classifier):
    classes = unlearning_metric(
        classifier.model,
        classifier.variables,
        classifier.normalisation,
        RETAIN.images,
        RETAIN.labels,
        FORGET.images,
        FORGET.labels,
        per="class",
    )
    found = first_samples_metric(classifier, RETAIN, FORGET, samples=99)
    assert found == pytest.approx(np.mean(list(classes.values())), abs=1e-3)


def test_refusals(classifier):
    other = TRAIN.take(np.flatnonzero(TRAIN.labels == 2))
    for metric in (rowwise_metric, first_samples_metric):
        with pytest.raises(InputError, match=r"forgotten classes \[0, 1\].*in both"):
            metric(classifier, other, FORGET)
    with pytest.raises(InputError, match="samples = 0"):
        first_samples_metric(classifier, RETAIN, FORGET, samples=0)
    with pytest.raises(InputError, match="at_most = 0"):
        rowwise_metric(classifier, RETAIN, FORGET, at_most=0)

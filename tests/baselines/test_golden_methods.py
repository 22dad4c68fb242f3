"""The first steps of every unlearning method are PyTorch's: golden values, in every run."""

import functools
import math
import sys

import numpy as np
import pytest
from golden import request as given

from dcmu_jax.baselines.registry import METHODS, build_method
from dcmu_jax.condensation import CondensedBank
from dcmu_jax.data.dataset import Dataset, Normalisation
from dcmu_jax.training import flops
from dcmu_jax.training.classifier import Classifier
from dcmu_jax.training.optimizers import Optimizer
from dcmu_jax.unlearning.modular import Offline, train_offline
from dcmu_jax.unlearning.task import Hooks, Prepared, Training, UnlearningTask

ORIGINAL = given.weights("original")
IDS = 100 + np.arange(given.COUNT)
TRAIN = Dataset(given.PIXELS, given.LABELS, IDS, given.CLASSES)
REMEMBRANCE = Dataset(
    given.REMEMBERED, *(np.arange(given.CLASSES, dtype=d) for d in ("i4", "i8")), given.CLASSES
)


@pytest.fixture(autouse=True)
def uncounted(monkeypatch):
    """Operations are counted in other tests, and counting takes as long as all the rest."""
    monkeypatch.setattr(flops, "_lowered", lambda *_: flops.ProgramCost(None, None))


@functools.cache
def golden():
    with np.load(given.ARCHIVE) as archive:
        return dict(archive)


@functools.cache
def network():
    return Classifier(
        given.Network(),
        {"params": given.tree(ORIGINAL)},
        Normalisation(*(np.float32(values) for values in (given.MEAN, given.STD))),
        (given.SIDE, given.SIDE, given.CHANNELS),
    )


def bank():
    """All that matters are clusters and condensed images."""
    sizes = np.bincount(given.CLUSTERS).astype(np.int32)
    _, first = np.unique(given.CLUSTERS, return_index=True)
    nothing = np.zeros(len(sizes), np.float32)
    return CondensedBank(
        ids=IDS,
        cluster=given.CLUSTERS,
        weights=np.float32(1 / sizes[given.CLUSTERS]),
        images=given.CONDENSED,
        labels=given.LABELS[first],
        sizes=sizes,
        initial_loss=nothing,
        final_loss=nothing,
        feature_sums=np.zeros((len(sizes), 5), np.int64),
        layer="",
        lineage="trained",
        data_fingerprint=TRAIN.fingerprint(),
        model_fingerprint=network().fingerprint(),
    )


@functools.cache
def task():
    return UnlearningTask(
        original=network(),
        train=TRAIN,
        forget_ids=IDS[given.FORGOTTEN],
        seed=1,
        training=Training(epochs=2, optimizer=Optimizer(**given.SGD)),
        prepared=Prepared(bank(), network(), REMEMBRANCE, 0.0, 0.0),
    )


def moved(classifier):
    """By how much the parameters differ from the original's."""
    return given.flat(classifier.variables["params"]) - ORIGINAL


def change(case, **settings):
    """What the method of a case changes."""
    name = given.method_of(case)
    method = build_method(name, (given.CASES | given.FISHER)[case] | settings)
    return moved(method(task(), Hooks()).classifier)


def close(ours, case, scale=1.0):
    """Up to the rounding of some sums in single precision, or of a system of equations."""
    theirs = scale * golden()[case]
    largest = np.abs(theirs).max()
    assert largest > 0.1
    atol = 5e-5 * largest if "ntk" in case else 2e-6
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=atol, err_msg=case)


def test_every_method_has_golden_values():
    assert {given.method_of(case) for case in given.CASES | given.FISHER} == set(METHODS)
    assert set(golden()) == {*given.CASES, *given.FISHER, "offline"}


@pytest.mark.parametrize("case", given.CASES)
def test_the_parameters_that_a_method_leaves(case, monkeypatch):
    draws = sys.modules[METHODS["random_labels"].__module__]
    monkeypatch.setattr(draws, "wrong_labels_among", lambda *_: given.WRONG)
    close(change(case), case)


@functools.cache
def drawn():
    """The normal numbers that Fisher forgetting draws: its noise where all variances are alpha."""
    found = change("fisher_forgetting", power=1e-30)
    return found / np.float32(math.sqrt(given.FISHER["fisher_forgetting"]["alpha"]))


@pytest.mark.parametrize("case", given.FISHER)
def test_the_noise_of_fisher_forgetting(case):
    close(change(case), case, drawn())


def test_the_offline_phase():
    steady = Optimizer(**given.STEADY)
    config = Offline(**given.OFFLINE, final_optimizer=steady, intermediate_optimizer=steady)
    close(moved(train_offline(network(), TRAIN, REMEMBRANCE, config, seed=0)), "offline")

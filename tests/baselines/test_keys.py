"""No method shares a key with the original, with the retrained network or with another method."""

import dataclasses
import itertools
import sys

import jax
import numpy as np
import pytest
from baselines.setting import METHODS as SCALED
from baselines.setting import SPLITS, TRAINING, make_task
from toys import Plain

from dcmu_jax.audits.building import Rearing, unlearned_population
from dcmu_jax.audits.together import PLAIN, together
from dcmu_jax.baselines.registry import METHODS
from dcmu_jax.data.requests import parse_request
from dcmu_jax.networks.partition import initialise
from dcmu_jax.runs import stages
from dcmu_jax.runs.config import RunConfig
from dcmu_jax.runs.presets import PRESETS
from dcmu_jax.training.keys import named_key, named_seed
from dcmu_jax.training.loop import fit
from dcmu_jax.unlearning.task import Hooks, UnlearningTask, train_from_scratch

SHARED = {"remembrance", "clean bank"}
"""Drawn once for all presets: samples that nothing is evaluated on, features of a clean bank."""


class Reached(Exception):
    """Training began: enough is known."""


def numbers(key):
    return tuple(np.asarray(jax.random.key_data(key)).ravel().tolist())


@pytest.fixture(scope="module")
def task():
    """Made before anything is watched."""
    return make_task(seed=5)


@pytest.fixture
def used(task, monkeypatch):
    """A call's keys and seeds, and the network its first training began on, where it ends."""
    found, began = set(), []

    def keeping_key(seed, name):
        found.add(numbers(named_key(seed, name)))
        return named_key(seed, name)

    def keeping_seed(seed, name):
        if name not in SHARED:
            found.add(named_seed(seed, name))
        return named_seed(seed, name)

    def keeping_initialisation(model, key, *rest):
        found.add(numbers(key))
        return initialise(model, key, *rest)

    def stopping(classifier, examples, *, key, **rest):
        found.add(numbers(key))
        began.append(classifier)
        raise Reached

    spies = {
        named_key: keeping_key,
        named_seed: keeping_seed,
        initialise: keeping_initialisation,
        fit: stopping,
    }
    for module in [m for name, m in sys.modules.items() if name.startswith("dcmu_jax")]:
        for function, spy in spies.items():
            if getattr(module, function.__name__, None) is function:
                monkeypatch.setattr(module, function.__name__, spy)

    def of(call):
        found.clear()
        began.clear()
        try:
            call()
        except Reached:
            pass
        return frozenset(found), began[0].variables["params"] if began else None

    return of


def nothing_in_common(keys):
    for (one, of_one), (other, of_other) in itertools.combinations(keys.items(), 2):
        assert of_one, one
        assert not of_one & of_other, (one, other)


def differ(one, other):
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all((a != b).any() for a, b in pairs if a.ndim > 1)


def test_every_method_has_keys_of_its_own(task, used):
    methods = {name: SCALED.get(name, SCALED["modular, condensed"]) for name in METHODS}
    calls = {name: lambda m=m: m(task, Hooks()) for name, m in methods.items()}
    calls["original"] = lambda: train_from_scratch(Plain(), task.train, TRAINING, 0)
    found = {name: used(call) for name, call in calls.items()}
    nothing_in_common({name: keys for name, (keys, _) in found.items()})
    fresh = ("original", "retrain", "fast_retraining", "distillation")
    parameters = [found[name][1] for name in fresh]
    parameters.append(initialise(Plain(), named_key(5, "initialisation"), (8, 8, 1))["params"])
    assert not differ(parameters[1], parameters.pop())  # retraining goes by the seed itself
    assert all(differ(a, b) for a, b in itertools.combinations(parameters, 2))
    # The parts that are trained anew, and that part of every network that is wholly new.
    finals = [found[name][1]["final"] for name in (*fresh, "eu_k")]
    assert all(differ(a, b) for a, b in itertools.combinations(finals, 2))


def test_every_preset_has_keys_of_its_own(task, used):
    config = RunConfig(unlearning_seed=5, training=TRAINING)
    request = parse_request("random:0.1", SPLITS.train, 0)
    found = {}
    for name in (*PRESETS, "retrain"):
        keys = frozenset()
        if name in PRESETS:
            options = config.options_of(name)
            fewer = dataclasses.replace(options.remembrance, per_class=2)
            options = dataclasses.replace(options, remembrance=fewer)
            mine = dataclasses.replace(config, preset=name, method=options)
            keys, _ = used(lambda c=mine: stages.prepare(c, task.original, SPLITS))
        served, _ = used(
            lambda n=name: stages.unlearn(
                n, config, task.original, SPLITS, request, prepared=task.prepared
            )
        )
        found[name] = keys | served
    nothing_in_common(found)


def test_the_retrained_network_never_starts_as_the_original_did(task, used):
    config = RunConfig(seed=1, unlearning_seed=1, training=TRAINING)
    request = parse_request("random:0.1", SPLITS.train, 0)
    original, first = used(lambda: stages.train_original(config, Plain(), SPLITS))
    retrained, other = used(
        lambda: stages.unlearn("retrain", config, task.original, SPLITS, request)
    )
    assert not original & retrained and differ(first, other)


def test_a_population_is_unlearned_by_other_seeds_than_it_was_trained_by(monkeypatch):
    trained, served = [], []
    from dcmu_jax.audits import building
    from dcmu_jax.audits import together as at_once

    train_together = building.train_together

    def watching(kept):
        def train(model, dataset, rows, training, seeds, **rest):
            kept.extend(seeds)
            return train_together(model, dataset, rows, training, seeds, **rest)

        return train

    monkeypatch.setattr(building, "train_together", watching(trained))
    monkeypatch.setattr(at_once, "train_together", watching(served))
    rearing = Rearing(
        model=Plain(), splits=SPLITS, training=dataclasses.replace(TRAINING, epochs=1)
    )
    ids = SPLITS.train.ids[:4]

    def alone(original, seed):
        served.append(seed)
        return original

    unlearned_population(
        rearing, ids, 2, {"retrain": together(PLAIN[0], rearing, ids), "alone": alone}
    )
    assert len(trained) == 2 and len(served) == 4 and not set(trained) & set(served)


def test_the_name_of_a_preset_stands_for_that_of_its_method(task, used):
    method = SCALED["modular, condensed"]
    named: UnlearningTask = dataclasses.replace(task, name="condensed")
    found = {t.name: used(lambda t=t: method(t, Hooks()))[0] for t in (task, named)}
    nothing_in_common(found)

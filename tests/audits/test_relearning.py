"""Relearning: nothing to learn takes no epoch, and an untrained network takes more than a few."""

import dataclasses

import jax
import numpy as np
import pytest
from toys import Plain, examples_of, fresh, same_bits, toy_splits

from dcmu_jax.audits.relearning import RelearningConfig, relearn
from dcmu_jax.errors import InputError
from dcmu_jax.training.arguments import Trainable
from dcmu_jax.training.keys import named_key
from dcmu_jax.training.loop import fit
from dcmu_jax.training.optimizers import Optimizer

CONFIG = RelearningConfig(samples=4, batch_size=2, optimizer=Optimizer(learning_rate=1e-2))


@pytest.fixture(scope="module")
def train():
    return toy_splits(per_class=12).train


@pytest.fixture(scope="module")
def forgotten(train):
    return train.take(train.labels == 2)


@pytest.fixture(scope="module")
def original(train):
    return trained(train, np.ones(len(train)))


@pytest.fixture(scope="module")
def without(train):
    return trained(train, train.labels != 2)


def trained(dataset, weights):
    return fit(
        fresh(Plain(), dataset),
        examples_of(dataset, weights),
        epochs=40,
        key=named_key(0, "training"),
        optimizer=Optimizer(learning_rate=1e-2),
        batch_size=12,
    ).classifier


def test_what_knows_the_class_is_there_at_once_and_others_need_longer(forgotten, original, without):
    networks = {"original": original, "retrained": without}
    found = {
        name: relearn(network, forgotten, target=95.0, config=CONFIG)
        for name, network in networks.items()
    }
    assert found["original"].epochs == 0 and len(found["original"].accuracies) == 1
    assert found["retrained"].accuracies[0] == 0
    epochs = found["retrained"].epochs
    assert epochs and epochs > 0 and len(found["retrained"].accuracies) == epochs + 1
    for each in found.values():
        assert each.target == 95.0 and each.accuracies[-1] >= 95
        assert all(accuracy < 95 for accuracy in each.accuracies[:-1])


def test_it_is_the_training_loop_one_epoch_at_a_time(forgotten, without):
    before = jax.tree.map(np.array, without.variables)
    config = dataclasses.replace(CONFIG, samples=100, max_epochs=6, batch_size=4, seed=3)
    found = relearn(without, forgotten, target=100, config=config)
    network, state, accuracies = without, None, []
    for epoch in range(1, 7):
        fitted = fit(
            network,
            examples_of(forgotten),
            epochs=1,
            key=named_key(3, f"relearning {epoch}"),
            optimizer=config.optimizer,
            batch_size=4,
            parts=Trainable(opt_state=state),
        )
        network, state = fitted.classifier, fitted.opt_state
        accuracies.append(100 * float(np.mean(network.evaluate(forgotten).correct)))
    assert found.accuracies[1:] == tuple(accuracies)[: len(found.accuracies) - 1]
    assert len(set(found.accuracies)) > 1
    assert same_bits(before, without.variables)


def test_too_few_epochs_are_none(forgotten, without):
    short = dataclasses.replace(CONFIG, max_epochs=1)
    found = relearn(without, forgotten, target=100, config=short)
    assert found.epochs is None and len(found.accuracies) == 2
    assert relearn(without, forgotten, target=100, config=short) == found


def test_refusals(forgotten, original):
    with pytest.raises(InputError, match=r"Relearning 12 samples to 101 %"):
        relearn(original, forgotten, target=101)
    nothing = forgotten.take(np.arange(0))
    with pytest.raises(InputError, match=r"Relearning 0 samples"):
        relearn(original, nothing, target=95)
    with pytest.raises(InputError, match="by the schedule 'cosine'"):
        RelearningConfig(optimizer=Optimizer(schedule="cosine"))
    for name in ("samples", "max_epochs", "batch_size"):
        with pytest.raises(InputError, match=f"{name} = 0"):
            RelearningConfig(**{name: 0})

"""Relearning: nothing to learn takes no epoch, and an untrained network takes more than a few."""

import numpy as np
import pytest
from toys import Noisy, Plain, examples_of, fresh, same_bits, toy_splits

from dcmu_jax.attacks.relearning import RelearningConfig, relearn, relearning_times
from dcmu_jax.errors import InputError
from dcmu_jax.training.keys import named_key
from dcmu_jax.training.loop import fit
from dcmu_jax.training.optimizers import Optimizer

CONFIG = RelearningConfig(samples=4, batch_size=2, optimizer=Optimizer(learning_rate=1e-3))


@pytest.fixture(scope="module")
def train():
    return toy_splits(per_class=12).train


@pytest.fixture(scope="module")
def forgotten(train):
    return train.take(train.labels == 2)


@pytest.fixture(scope="module")
def original(train):
    return trained(train)


def trained(dataset, model=None):
    return fit(
        fresh(model or Plain(), dataset),
        examples_of(dataset),
        epochs=40,
        key=named_key(0, "training"),
        optimizer=Optimizer(learning_rate=1e-2),
        batch_size=12,
    ).classifier


def test_what_knows_the_class_is_there_at_once_and_others_need_longer(train, forgotten, original):
    without = trained(train.take(train.labels != 2))
    networks = {"original": original, "retrained": without}
    found = relearning_times(networks, original, forgotten, CONFIG)
    assert found["original"].epochs == 0 and len(found["original"].accuracies) == 1
    assert found["retrained"].accuracies[0] == 0
    epochs = found["retrained"].epochs
    assert epochs and epochs > 0 and len(found["retrained"].accuracies) == epochs + 1
    for each in found.values():
        assert each.target == 95.0 and each.accuracies[-1] >= 95
        assert all(accuracy < 95 for accuracy in each.accuracies[:-1])


def test_it_is_the_training_loop_one_epoch_at_a_time(train, forgotten):
    start = trained(train.take(train.labels != 2), Noisy())
    before = np.asarray(start.variables["params"]["final"]["Dense_1"]["bias"]).copy()
    config = RelearningConfig(
        samples=100, max_epochs=3, optimizer=Optimizer(learning_rate=1e-3), seed=3
    )
    found = relearn(start, forgotten, target=100, config=config)
    network, state, accuracies = start, None, []
    for epoch in range(1, 4):
        fitted = fit(
            network,
            examples_of(forgotten),
            epochs=1,
            key=named_key(3, f"relearning {epoch}"),
            optimizer=config.optimizer,
            batch_size=32,
            opt_state=state,
        )
        network, state = fitted.classifier, fitted.opt_state
        accuracies.append(100 * float(np.mean(network.evaluate(forgotten).correct)))
    assert found.accuracies[1:] == tuple(accuracies)[: len(found.accuracies) - 1]
    after = start.variables["params"]["final"]["Dense_1"]["bias"]
    assert same_bits(before, np.asarray(after))


def test_too_few_epochs_are_none(train, forgotten):
    without = trained(train.take(train.labels != 2))
    slow = RelearningConfig(samples=1, max_epochs=2, optimizer=Optimizer(learning_rate=1e-6))
    found = relearn(without, forgotten, target=90, config=slow)
    assert found.epochs is None and len(found.accuracies) == 3
    assert relearn(without, forgotten, target=90, config=slow) == found


def test_a_margin_lowers_the_target(forgotten, original):
    found = relearning_times({}, original, forgotten)
    assert found == {}
    wide = RelearningConfig(margin=200)
    assert relearning_times({"it": original}, original, forgotten, wide)["it"].target == 0


def test_refusals(forgotten, original):
    with pytest.raises(InputError, match=r"Relearning 12 samples to 101 %"):
        relearn(original, forgotten, target=101)
    nothing = forgotten.take(np.arange(0))
    with pytest.raises(InputError, match=r"Relearning 0 samples"):
        relearning_times({"it": original}, original, nothing)
    with pytest.raises(InputError, match="by the schedule 'cosine'"):
        RelearningConfig(optimizer=Optimizer(schedule="cosine"))
    for name in ("samples", "max_epochs", "batch_size"):
        with pytest.raises(InputError, match=f"{name} = 0"):
            RelearningConfig(**{name: 0})

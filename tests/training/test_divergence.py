"""Trainings that come to no number stop with a message, and nothing of them is kept."""

import dataclasses
import json
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dcmu_jax.cli import main
from dcmu_jax.data.sources import load
from dcmu_jax.errors import InputError
from dcmu_jax.networks.catalogue import create
from dcmu_jax.training.checkpoints import FitCheckpoint, save_classifier
from dcmu_jax.training.classifier import fresh_classifier
from dcmu_jax.training.divergence import Diverged, all_finite, during
from dcmu_jax.training.examples import Examples
from dcmu_jax.training.keys import named_key
from dcmu_jax.training.loop import fit
from dcmu_jax.training.optimizers import Optimizer
from dcmu_jax.training.population import fit_population, stack

RUINOUS = Optimizer(name="sgd", learning_rate=1e30)


@pytest.fixture(scope="module")
def train():
    return load("synthetic:classes=2,per_class=12,size=8,channels=1").train


@pytest.fixture(scope="module")
def network(train):
    model = create("mlp", image_shape=(8, 8, 1), num_classes=2, width=0.02)
    return fresh_classifier(model, train, seed=0)


def _fit(network, train, epochs, optimizer=RUINOUS, **rest):
    examples = Examples.of(train.images, train.labels)
    key = named_key(0, "training")
    return fit(network, examples, epochs=epochs, key=key, optimizer=optimizer, batch_size=6, **rest)


def test_a_loss_that_is_no_number_stops_the_training(network, train):
    told = []
    with pytest.raises(Diverged, match=r"in epoch 1 of 5, with optimizer.learning_rate = 1e\+30"):
        _fit(network, train, 5, callbacks=(told.append,))
    assert not told  # nobody was shown a loss that is no number


def _fit_by_ruinous_steps(network, train, epochs, **rest):
    """One step an epoch: its loss is taken before it."""
    examples = Examples.of(train.images, train.labels)
    return fit(
        network,
        examples._replace(weights=examples.weights * np.float32(1e4)),
        epochs=epochs,
        key=named_key(0, "training"),
        optimizer=dataclasses.replace(RUINOUS, learning_rate=3e38),
        batch_size=None,
        loss=_steep,
        **rest,
    )


def test_a_last_step_that_ruins_is_found(network, train):
    with pytest.raises(Diverged, match="parameters are not finite after the last epoch"):
        _fit_by_ruinous_steps(network, train, 1)


def _steep(outputs, labels):
    return 1e3 * jnp.abs(outputs).sum(axis=-1)


def test_a_population_says_which_network(network, train):
    rows = np.stack([np.arange(24), np.arange(24)])
    with pytest.raises(Diverged, match=r"the loss of network 0 is (nan|inf) in epoch 1 of 3"):
        fit_population(
            stack([network, network]),
            Examples.of(train.images, train.labels),
            rows,
            epochs=3,
            keys=jnp.stack([named_key(n, "training") for n in range(2)]),
            optimizer=RUINOUS,
            batch_size=6,
        )


def test_a_last_step_that_ruins_a_network_of_a_population_is_found(network, train):
    with pytest.raises(Diverged, match="parameters are not finite after the last epoch"):
        fit_population(
            stack([network, network]),
            Examples.of(train.images, train.labels),
            np.stack([np.arange(24), np.arange(24)]),
            epochs=1,
            keys=jnp.stack([named_key(n, "training") for n in range(2)]),
            optimizer=dataclasses.replace(RUINOUS, learning_rate=3e38),
            batch_size=24,
            loss=lambda outputs, labels: 1e4 * _steep(outputs, labels),
        )


def test_a_network_that_is_no_number_is_not_saved(network, tmp_path):
    variables = jax.tree.map(lambda x: x.at[...].set(jnp.inf), network.variables)
    with pytest.raises(InputError, match="nothing was saved"):
        save_classifier(tmp_path / "n", dataclasses.replace(network, variables=variables))
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_is_never_of_a_ruined_state(network, train, tmp_path):
    checkpoint = FitCheckpoint(tmp_path / "unfinished", every=1, identity="x")
    told = []
    with pytest.raises(Diverged, match="in epoch 2 of 3"):
        _fit_by_ruinous_steps(network, train, 3, callbacks=(checkpoint, told.append))
    assert len(told) == 1  # the first epoch was finite, and a checkpoint due after it
    assert list(tmp_path.iterdir()) == []


def test_the_setting_is_named_as_it_is_typed():
    with (
        pytest.raises(Diverged) as caught,
        during("outer", within="--method.online."),
        during("inner", within="closing_steps.0."),
    ):
        raise Diverged("the loss is nan", "optimizer.learning_rate", 2.0)
    text = str(caught.value)
    assert "outer (inner) diverged: the loss is nan, with --method.online.closing-steps.0." in text
    assert "Set --method.online.closing-steps.0.optimizer.learning-rate below 2" in text
    assert str(pickle.loads(pickle.dumps(caught.value))) == text


def test_all_finite():
    assert all_finite({"a": np.ones(3), "b": np.arange(3)})
    assert not all_finite({"a": np.array([1.0, np.nan])})
    assert not all_finite([jnp.array(jnp.inf)])
    assert all_finite(jnp.ones(2, jnp.bfloat16))
    assert not all_finite(jnp.array([1.0, jnp.nan], jnp.bfloat16))


def _no_constants(path):
    def refuse(name):
        raise AssertionError((path, name))

    for line in path.read_text().splitlines():
        json.loads(line, parse_constant=refuse)


@pytest.mark.parametrize("command", ["train", "run"])
def test_a_ruinous_rate_of_the_original(command, tmp_path, capsys):
    out = tmp_path / "r"
    rate = "--training.optimizer.learning-rate"
    data = ["--dataset", "synthetic:classes=2,per_class=12,size=8,channels=1"]
    arguments = [command, *data, "--network.width", "0.05", "--training.epochs", "3", rate, "1e30"]
    assert main([*arguments, "--quiet", "--method.remembrance.per-class=1", "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert f"Training the original diverged: the loss is nan in epoch 2 of 3, with {rate}" in error
    assert f"Set {rate} below 1e+30 in a new run (another --out)" in error
    kept = ["config.json", "data.json", "environment.json", "metrics.jsonl", "run.lock"]
    assert sorted(p.name for p in out.iterdir()) == kept
    _no_constants(out / "metrics.jsonl")
    assert main([command, "--out", str(out), "--resume", "--quiet"]) == 2
    assert "diverged" in capsys.readouterr().err


def test_a_ruinous_rate_of_the_method(tmp_path, capsys):
    out = tmp_path / "r"
    rate = "--method.online.closing-steps.0.optimizer.learning-rate"
    data = ["--dataset", "synthetic:classes=2,per_class=12,size=8,channels=1"]
    arguments = ["train", *data, "--network.width", "0.05", "--training.epochs", "2", rate, "1e30"]
    assert main([*arguments, "--quiet", "--method.remembrance.per-class=1", "--out", str(out)]) == 0
    assert main(["forget", str(out), "--forget", "ids:0,1", "--quiet"]) == 2
    error = capsys.readouterr().err
    assert "Forgetting by recommended" in error and f"Set {rate} below 1e+30" in error
    assert not list(out.glob("requests/*/recommended"))
    _no_constants(out / "metrics.jsonl")


def test_no_setting_is_invented_for_a_transformation_of_optax():
    with pytest.raises(Diverged) as caught, during("offline", option="final.learning_rate"):
        raise Diverged("the loss is nan", "", 0.0)
    assert "learning_rate" not in str(caught.value)

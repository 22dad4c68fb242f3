"""Metrics of the user's own: what they may be, what they may return, and where they come from."""

import dataclasses
import importlib.metadata
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import Plain, toy_splits

import dcmu_jax as dcmu
from dcmu_jax.errors import InputError
from dcmu_jax.metrics import own
from dcmu_jax.metrics.measurement import own_columns
from dcmu_jax.runs.config import RunConfig
from dcmu_jax.runs.config_json import differing_settings, from_json, to_file, to_json
from dcmu_jax.runs.meant import check_meant
from dcmu_jax.runs.run import Run
from dcmu_jax.training.classifier import fresh_classifier

FILE = '''
def counts(network, *, retain, forget, test):
    """Nothing about the network at all."""
    return len(forget)


def few(network):
    return 0.0


number = 3
'''


@pytest.fixture(scope="module")
def data():
    return toy_splits(classes=3, per_class=8)


@pytest.fixture(scope="module")
def network(data):
    return fresh_classifier(Plain(), data.train, 0)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(FILE)
    (tmp_path / "wants.py").write_text("open('weights.npy')")
    return tmp_path


def say(network, data, metric):
    sets = {"retain": data.train, "forget": data.train.take([0, 1]), "test": data.test}
    return own.measured_by(own.own_metrics({"mine": metric}), network, **sets)["mine"]


@pytest.mark.parametrize("value", [2, 0.5, np.float32(0.5), np.array(2), jnp.float32(0.5)])
def test_any_one_number_is_a_value(network, data, value):
    found = say(network, data, lambda network, **sets: value)
    assert type(found) is float and found == float(value)


def test_a_metric_gets_the_network_and_the_sets(network, data):
    def metric(given, *, retain, forget, test):
        assert given.fingerprint() == network.fingerprint()
        return 100 * len(retain) + 10 * len(forget) + len(test)

    assert say(network, data, metric) == 100 * len(data.train) + 20 + len(data.test)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "returned None. Allowed: one number"),
        (True, "returned a bool"),
        ("high", "returned a str"),
        (np.zeros(3), r"returned an ndarray of shape \(3,\)"),
        (1j, "returned a complex"),
        (float("nan"), "returned nan"),
        (np.float32("inf"), "returned inf"),
        (np.ma.masked, "returned nan"),
        pytest.param(10**400, "returned inf", id="huge"),
    ],
)
def test_what_a_metric_may_not_return(network, data, value, message):
    with pytest.raises(InputError, match=message):
        say(network, data, lambda network, **sets: value)


def test_a_metric_changes_neither_network_nor_data(network, data):
    before = network.fingerprint(), data.train.fingerprint()

    def zeros(given, **sets):
        params = given.variables["params"]
        params["final"] = jax.tree.map(jnp.zeros_like, params["final"])
        return 0.0

    assert say(network, data, zeros) == 0.0

    def darkens(given, *, retain, **sets):
        retain.images[:] = 0
        return 0.0

    with pytest.raises(InputError, match=r"'mine' fails .*read-only"):
        say(network, data, darkens)
    assert (network.fingerprint(), data.train.fingerprint()) == before


def test_the_line_said_is_of_the_metric(network, data):
    with pytest.raises(InputError, match=r"'mine' fails \(LinAlgError.*test_own_metrics\.py, line"):
        say(network, data, lambda network, **sets: np.linalg.inv(np.zeros((2, 2))))


@pytest.mark.parametrize("error", [ZeroDivisionError("by 0"), SystemExit(3)])
def test_a_metric_that_raises(network, data, error):
    def metric(network, **sets):
        raise error

    with pytest.raises(InputError, match=rf"'mine' fails \({type(error).__name__}.*line \d+\)"):
        say(network, data, metric)
    with pytest.raises(MemoryError):  # of the machine: told of as such
        error = MemoryError()
        say(network, data, metric)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("other.py:counts", r"there is no file 'other\.py'"),
        ("mine.py:count", "Did you mean 'counts'"),
        ("mine.py:number", "which is an int"),
        ("mine.py:few", "cannot be called with network, retain, forget, test"),
        ("mine.py", "Name the function in it: mine.py:FUNCTION"),
        ("wants.py:counts", r"wants\.py cannot be run \(FileNotFoundError: .*weights\.npy"),
        ((name for name in ["other.py:counts"]), r"there is no file 'other\.py'"),
        ("absent", r"Unknown metric 'absent'.*as in mine\.py:metric"),
        ({"mine": Plain}, "which is a class"),
        ({"": max}, "The name '' of a metric"),
        ({3: max}, "The name 3 of a metric"),
        ([max], "Metrics given as a list"),
        (max, "Metrics given as a builtin_function"),
    ],
)
def test_what_is_no_metric(here, given, message):
    with pytest.raises(InputError, match=message):
        own.own_metrics(given)


def test_entry_points_of_other_packages_are_metrics(monkeypatch):
    entry = importlib.metadata.EntryPoint("theirs", "own_metric_of_a_package:metric", own.GROUP)
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [entry])
    module = types.ModuleType("own_metric_of_a_package")
    module.metric = lambda network, **sets: 0.0
    monkeypatch.setitem(sys.modules, module.__name__, module)
    assert own.own_metrics("theirs") == {"theirs": module.metric}
    del module.metric
    with pytest.raises(InputError, match=r"'theirs' of dcmu_jax\.metrics cannot be loaded"):
        own.own_metrics("theirs")
    with pytest.raises(InputError, match=r"Allowed: theirs; or one of your own.*mean .theirs"):
        own.own_metrics("their")


def test_settings_without_metrics_are_written_as_before(here):
    without, named = RunConfig(), RunConfig(metrics="mine.py:counts")
    assert "metrics" not in to_json(without) and named.metrics == ("mine.py:counts",)
    for config in (without, named):
        assert from_json(to_file(config), "config.json") == config
    assert differing_settings(without, named) == {"metrics": ([], ["mine.py:counts"])}
    with pytest.raises(InputError, match=r"Give functions to dcmu_jax\.compare"):
        check_meant(types.SimpleNamespace(**vars(without) | {"metrics": {"mine": max}}))
    with pytest.raises(InputError, match=r"no file 'absent\.py'"):
        Run.create("run", dataclasses.replace(named, metrics="absent.py:counts"))
    assert not (here / "run").exists()


def test_columns_are_those_of_all_rows(data):
    rows = [
        dcmu.Measurement(
            method=name,
            retain_accuracy=0.0,
            forget_accuracy=0.0,
            train_accuracy=0.0,
            test_accuracy=0.0,
            mia=0.0,
            unlearning_metric=0.0,
            own=values,
        )
        for name, values in (("a", {"x": 1.0}), ("b", {"y": 2.0, "x": 3.0}))
    ]
    assert [metric.title for metric in own_columns(rows)] == ["x", "y"]
    assert rows[0].value("own.y") is None and rows[1].value("own.y") == 2.0
    assert rows[1].row()["own.x"] == 3.0 and "own" not in rows[1].row()
    assert hash(rows[0]) is not None

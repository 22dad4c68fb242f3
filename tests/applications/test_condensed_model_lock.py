"""Two at work in the folder of one condensed model: one after the other, and each part once."""

import dataclasses
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from toys import Plain, fresh, toy_splits

from dcmu_jax.applications.condensed_model_bench import CondensedModelBench
from dcmu_jax.applications.condensed_model_recipes import Budget, recipe
from dcmu_jax.applications.condensed_model_settings import recommended_construction
from dcmu_jax.errors import InputError
from dcmu_jax.networks.autoencoder import Architecture

SPLITS = toy_splits(per_class=24)
RECIPE = recipe("retrain", target="mlp", width=0.05, per_class=2)
COST = dict.fromkeys(("request_s", "train_s", "update_s"), 1.0)
COST |= dict.fromkeys(("parameters", "trained_parameters", "trained_images"), 1)


def _bench(folder, seed=0):
    small = Architecture(channels=(4, 4), small_channels=(4,))
    construction = dataclasses.replace(recommended_construction(), architecture=small, per_class=2)
    return CondensedModelBench(construction, Budget(), SPLITS, "class:1", folder, seed=seed)


def _wait(caplog):
    """Until another is told that it has to wait, or for too long."""
    until = time.monotonic() + 5
    while "Waiting until it is done" not in caplog.text and time.monotonic() < until:
        time.sleep(0.01)


def test_a_row_that_two_ask_for_at_once_is_made_once(tmp_path, monkeypatch, caplog):
    made, going_on = [], threading.Event()

    def network(bench, recipe):
        made.append(recipe)
        going_on.wait(60)
        return fresh(Plain(), SPLITS.train), COST

    monkeypatch.setattr(CondensedModelBench, "network", network)
    monkeypatch.setattr(CondensedModelBench, "prepared", lambda _: SimpleNamespace(offline_s=1.0))
    benches = [_bench(tmp_path / "model") for _ in range(2)]
    with ThreadPoolExecutor(2) as threads:
        rows = [threads.submit(bench.row, "retrain", RECIPE) for bench in benches]
        _wait(caplog)
        going_on.set()
    assert rows[0].result() == rows[1].result()
    assert made == [RECIPE]


def test_a_folder_is_not_claimed_while_another_is_at_work(tmp_path, caplog):
    bench = _bench(tmp_path / "model")
    with ThreadPoolExecutor(1) as threads:
        with bench.working():
            other = threads.submit(_bench, tmp_path / "model", seed=1)
            _wait(caplog)
            assert not other.done()
        with pytest.raises(InputError, match="another seed"):
            other.result(60)

"""Traces of a class: what knew it shows, and what is read off oracles is kept beside them."""

import dataclasses

import numpy as np
import pytest
from toys import Plain, fresh, toy_splits

from dcmu_jax.audits.building import Rearing, oracle_population, readings
from dcmu_jax.audits.class_traces import TRACES, beside_oracles, traces_of
from dcmu_jax.audits.relearning import RelearningConfig
from dcmu_jax.data.requests import parse_request
from dcmu_jax.errors import InputError
from dcmu_jax.training.optimizers import Optimizer
from dcmu_jax.unlearning.task import Training, train_from_scratch

SPLITS = toy_splits(per_class=12)
REQUEST = parse_request("class:2", SPLITS.train, 0)
TRAINING = Training(epochs=20, batch_size=12, optimizer=Optimizer(learning_rate=1e-2))
RELEARNING = RelearningConfig(
    samples=4, max_epochs=5, batch_size=2, optimizer=Optimizer(learning_rate=1e-2)
)


@pytest.fixture(scope="module")
def original():
    return train_from_scratch(Plain(), SPLITS.train, TRAINING, 0).classifier


@pytest.fixture(scope="module")
def read(original):
    return traces_of(SPLITS, REQUEST, original, relearning=RELEARNING)


def test_one_that_knew_the_class_has_it_back_at_once_and_others_have_not(tmp_path, original, read):
    rearing = Rearing(
        model=Plain(), splits=SPLITS, training=TRAINING, group=2, folder=tmp_path, inspect=read
    )
    oracles = oracle_population(rearing, REQUEST.ids, 3)
    of_oracles = readings(rearing, "oracle", 3)
    assert len(of_oracles) == 3 and all(tuple(o) == TRACES for o in of_oracles)
    found = beside_oracles(read(original), of_oracles)
    assert found["relearning_epochs"].value == 0 < found["relearning_epochs"].low
    assert not found["relearning_epochs"].within
    assert found["linear_class"].value == 100

    # Numbers that are gone are read again, off the same networks; what is there is not touched.
    (tmp_path / "oracle-00002.json").unlink()
    first = (tmp_path / "oracle-00000.json").stat().st_mtime_ns
    again = oracle_population(rearing, REQUEST.ids, 3)
    np.testing.assert_array_equal(again.margins, oracles.margins)
    assert readings(rearing, "oracle", 3) == of_oracles
    assert (tmp_path / "oracle-00000.json").stat().st_mtime_ns == first
    (tmp_path / "oracle-00000.json").write_text("[1]")
    with pytest.raises(InputError, match="cannot be read as what was read off oracle models"):
        readings(rearing, "oracle", 3)


def test_only_what_the_request_forgets_whole_counts():
    # Noise, so that what a probe is fitted to shows in what it gets right.
    noise = np.random.default_rng(0).integers(0, 256, SPLITS.train.images.shape, np.uint8)
    splits = dataclasses.replace(SPLITS, train=dataclasses.replace(SPLITS.train, images=noise))
    network = fresh(Plain(), splits.train)
    wider = parse_request("class:2+random:0.3", splits.train, 0)
    assert len(wider) > len(REQUEST) and wider.forgotten_classes == (2,)
    kept = splits.train.without(np.setdiff1d(wider.ids, REQUEST.ids))
    smaller = dataclasses.replace(splits, train=kept)
    alone = traces_of(smaller, parse_request("class:2", kept, 0), network, relearning=RELEARNING)
    assert traces_of(splits, wider, network, relearning=RELEARNING)(network) == alone(network)


def test_a_range_holds_its_ends():
    oracles = [{"a": 1.0, "b": 3.0}, {"a": 2.0, "b": 5.0}]
    found = beside_oracles({"a": 2.0, "b": 2.9}, oracles)
    assert found["a"].within and not found["b"].within
    assert beside_oracles({"a": 1.0}, oracles)["a"].within
    assert not beside_oracles({"a": 2.1}, oracles)["a"].within
    assert (found["b"].low, found["b"].high) == (3.0, 5.0)


def test_refusals(original, read):
    with pytest.raises(InputError, match=r"after the request 'random:0\.1'"):
        traces_of(SPLITS, parse_request("random:0.1", SPLITS.train, 0), original)
    with pytest.raises(InputError, match=r"Traces of a class with 1 oracle model.*2 or more"):
        beside_oracles({"a": 1.0}, [{"a": 1.0}])
    rearing = Rearing(model=Plain(), splits=SPLITS, training=TRAINING, inspect=read)
    with pytest.raises(InputError, match="inspect without a folder"):
        oracle_population(rearing, REQUEST.ids, 2)

"""Condensers of the user's own: what they get, what they may return, where they come from."""

import dataclasses
import importlib.metadata

import numpy as np
import pytest
from toys import Plain, fresh, toy_splits

import dcmu_jax as dcmu
from dcmu_jax.condensation import own
from dcmu_jax.errors import InputError
from dcmu_jax.runs import facts
from dcmu_jax.runs.config import RunConfig

FILE = """
import numpy as np


def mean(network, members):
    return [each.images.mean(axis=0) for each in members]


def few(network):
    return []


number = 3
"""


@pytest.fixture(scope="module")
def data():
    return toy_splits(classes=3, per_class=8)


@pytest.fixture(scope="module")
def network(data):
    return fresh(Plain(), data.train)


@pytest.fixture(scope="module")
def clusters(network, data):
    return dcmu.cluster(network, data.train, per_class=2)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(FILE)
    return tmp_path


def test_the_images_are_those_it_returns_beside_equal_weights(network, data, clusters):
    got = []

    def first(given, members):
        assert given.fingerprint() == network.fingerprint()
        got.extend(members)
        return np.stack([each.images[0] for each in members])

    bank = dcmu.condense(network, data.train, clusters, by=first)
    assert [set(each.labels.tolist()) for each in got] == [{each} for each in clusters.labels]
    for number, each in enumerate(got):
        rows = clusters.assignment == number
        assert each.ids.tolist() == data.train.ids[rows].tolist()
        assert (bank.images[number] == data.train.images[rows][0]).all()
        np.testing.assert_allclose(bank.weights[rows], 1 / rows.sum(), rtol=1e-6)
    assert bank.images.dtype == np.float32
    single = clusters.sizes == 1
    assert (bank.final_loss[~single] > 0).all() and (bank.final_loss[single] < 1e-6).all()
    reduced = dcmu.collect(bank, data.train, [int(data.train.ids[0])])
    assert (
        len(reduced.labels) == len(clusters.sizes) - 1 + clusters.sizes[clusters.assignment[0]] - 1
    )


SHAPES = {
    "one too few": (lambda images: images[1:], r"returned \d+ images? for \d+ clusters"),
    "other sides": (lambda images: images[:, 1:], "returned: Pixels of shape"),
    "scaled": (lambda images: images / 255, r"which look scaled to \[0, 1\].*Multiply by 255"),
    "not finite": (lambda images: images * np.nan, "NaN or infinite"),
    "texts": (lambda images: "images", "returned a str.*np.stack"),
    "nothing": (lambda images: None, "returned None. Allowed: an array of pixels"),
    "ragged": (lambda images: [images[0], images[1][1:]], "returned: Pixels that are no array"),
}


@pytest.mark.parametrize("kind", SHAPES)
def test_what_it_may_not_return(network, data, clusters, kind):
    change, message = SHAPES[kind]

    def condenser(network, members):
        return change(np.stack([each.images.mean(axis=0) for each in members]))

    with pytest.raises(InputError, match=message):
        own.condensed_by(condenser, network, data.train, clusters)


def test_one_that_raises(network, data, clusters):
    def condenser(network, members):
        raise KeyError("mean")

    with pytest.raises(InputError, match=r"condenser of your own fails \(KeyError: 'mean'.*line"):
        own.condensed_by(condenser, network, data.train, clusters)


@pytest.mark.parametrize(
    ("by", "message"),
    [
        ("match", "Did you mean 'matching'"),
        ("mine.py:men", "Did you mean 'mean'"),
        ("absent.py:mean", r"no file 'absent\.py'"),
        ("mine.py:few", "cannot be called with network, members"),
        ("mine.py:number", "which is an int"),
        (Plain, "which is a class"),
        (lambda members: members, "cannot be called with network, members"),
    ],
)
def test_what_is_no_condenser(here, network, data, clusters, by, message):
    with pytest.raises(InputError, match=message):
        dcmu.condense(network, data.train, clusters, by=by)


def test_a_name_of_a_run_and_the_file_it_stands_for(here, network, data, monkeypatch):
    condensation = dataclasses.replace(RunConfig().method.condensation, condenser="mine.py:mean")
    method = dataclasses.replace(RunConfig().method, condensation=condensation)
    config = RunConfig(method=method)
    config.check()
    given = config.preset, data, facts.Data("", ""), network
    before = facts.of_prepared(config, *given)
    assert "source" not in facts.of_prepared(RunConfig(), *given)
    assert facts.of_prepared(config, *given) == before
    (here / "mine.py").write_text(FILE.replace("mean(axis=0)", "max(axis=0)"))
    assert facts.of_prepared(config, *given)["source"] != before["source"]
    for wrong, message in (("mach", "Did you mean 'matching'"), ("mine", "file.py:attribute")):
        changed = dataclasses.replace(condensation, condenser=wrong)
        with pytest.raises(InputError, match=message):
            RunConfig(method=dataclasses.replace(method, condensation=changed)).check()
    entry = importlib.metadata.EntryPoint("theirs", "absent:condenser", own.GROUP)
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [entry])
    own.check_condenser_name("condenser", "theirs")
    with pytest.raises(InputError, match="cannot be loaded"):
        own.own_condenser("theirs")

"""Networks on disk: the three parts apart, and nothing else taken for one."""

import errno
import gc
import json
import logging
import os
import sys
import threading
import time
import types
from typing import Any

import jax
import numpy as np
import pytest
from damage import COUNT
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from toys import Noisy, Plain, fresh, same_bits, toy_splits

from dcmu_jax.errors import InputError
from dcmu_jax.reading import Unreadable
from dcmu_jax.training import checkpoints
from dcmu_jax.training.checkpoints import load_classifier, save_classifier
from dcmu_jax.training.examples import Examples
from dcmu_jax.training.loop import fit
from dcmu_jax.training.optimizers import Optimizer

TRAIN = toy_splits().train

orbax_gives_up = pytest.mark.filterwarnings(
    # Orbax leaves the coroutines of a failed reading unawaited; collected within the test.
    "ignore::pytest.PytestUnraisableExceptionWarning"
)


@pytest.fixture(scope="module")
def networks():
    return {
        "noisy": fresh(Noisy(), TRAIN, seed=3),
        "plain": fresh(Plain(), TRAIN, seed=3),
        "wide": fresh(Plain(width=17), TRAIN, seed=3),
        "twin": fresh(Noisy(), TRAIN, seed=4),
    }


@pytest.mark.parametrize("name", ["noisy", "plain"])
def test_round_trip(tmp_path, networks, name):
    saved = networks[name]
    save_classifier(tmp_path / "network", saved)
    loaded = load_classifier(tmp_path / "network", saved.model, fresh(saved.model, TRAIN))
    assert same_bits(loaded.variables, saved.variables)
    assert same_bits(loaded.normalisation, saved.normalisation)
    assert (loaded.image_shape, loaded.fingerprint()) == (saved.image_shape, saved.fingerprint())
    np.testing.assert_array_equal(loaded.logits(TRAIN.images), saved.logits(TRAIN.images))


def test_a_loaded_network_trains_by_the_program_of_a_fresh_one(tmp_path, networks):
    fresh_one = networks["noisy"]
    save_classifier(tmp_path / "network", fresh_one)
    loaded = load_classifier(tmp_path / "network", fresh_one.model, fresh(Noisy(), TRAIN))
    examples = Examples.of(TRAIN.images, TRAIN.labels)

    def train(classifier):
        key, optimizer = jax.random.key(0), Optimizer(learning_rate=0.01)
        return fit(classifier, examples, epochs=2, key=key, optimizer=optimizer)

    first = train(fresh_one)
    again = train(loaded)
    assert again.compile_s == 0
    assert same_bits(again.classifier.variables, first.classifier.variables)


def test_each_part_is_an_item_of_its_own(tmp_path, networks):
    save_classifier(tmp_path / "network", networks["noisy"])
    items = {path.name for path in (tmp_path / "network").iterdir() if path.is_dir()}
    assert {"beginning", "intermediate", "final", "normalisation"} <= items
    assert [path.name for path in tmp_path.iterdir()] == ["network"]  # nothing left aside


def test_saved_over_an_older_one(tmp_path, networks):
    save_classifier(tmp_path / "network", networks["twin"])
    save_classifier(tmp_path / "network", networks["noisy"])
    loaded = load_classifier(tmp_path / "network", Noisy(), networks["twin"])
    assert same_bits(loaded.variables, networks["noisy"].variables)


@pytest.mark.parametrize("other", ["noisy", "wide"])
def test_of_another_model(tmp_path, networks, other):
    save_classifier(tmp_path / "network", networks["plain"])
    like = networks[other]
    with pytest.raises(InputError, match=r"is of another model.*Saved from 'Plain\("):
        load_classifier(tmp_path / "network", like.model, like)


def test_of_the_same_shapes_with_other_settings(tmp_path, networks):
    save_classifier(tmp_path / "network", networks["noisy"])
    like = fresh(Noisy(dropout=0.5), TRAIN)
    with pytest.raises(InputError, match=r"is of another model.*Saved from 'Noisy\("):
        load_classifier(tmp_path / "network", like.model, like)


def test_missing(tmp_path, networks):
    with pytest.raises(InputError, match=r"No checkpoint at .*train first"):
        load_classifier(tmp_path / "none", Plain(), networks["plain"])


def test_a_folder_of_something_else(tmp_path, networks):
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(InputError, match="cannot be read"):
        load_classifier(tmp_path, Plain(), networks["plain"])


@orbax_gives_up
@pytest.mark.parametrize("part", ["intermediate", "normalisation"])
@pytest.mark.parametrize("damage", ["overwritten", "gone"])
def test_damaged(tmp_path, networks, part, damage):
    save_classifier(tmp_path / "network", networks["noisy"])
    for file in sorted((tmp_path / "network" / part).rglob("*")):
        if file.is_file():
            file.unlink() if damage == "gone" else file.write_bytes(b"damaged")
    with pytest.raises(InputError, match=r"cannot be read.*save the network in its place"):
        load_classifier(tmp_path / "network", Noisy(), networks["noisy"])
    with pytest.raises(InputError, match=r"cannot be read.*Do this and that"):
        load_classifier(tmp_path / "network", Noisy(), networks["noisy"], "Do this and that")
    save_classifier(tmp_path / "network", networks["noisy"])
    load_classifier(tmp_path / "network", Noisy(), networks["noisy"])
    gc.collect()


def _caused(error, cause):
    error.__cause__ = cause
    return error


MACHINE = {
    "permission": PermissionError(errno.EACCES, "Permission denied"),
    "open files": OSError(errno.EMFILE, "Too many open files"),
    "disk": _caused(ValueError("a library says"), OSError(errno.EIO, "Input/output error")),
    "memory": MemoryError(),
    "device": RuntimeError("RESOURCE_EXHAUSTED: 9 GiB"),
    "TensorStore": ValueError("RESOURCE_EXHAUSTED: [os_error_code='24'] and a long text"),
}


@pytest.mark.parametrize("step", ["_read_about", "_read"])
@pytest.mark.parametrize("kind", MACHINE)
def test_what_the_machine_does_not_read_is_not_called_damaged(
    tmp_path, networks, monkeypatch, kind, step
):
    save_classifier(tmp_path / "network", networks["noisy"])

    def refuse(*_):
        raise MACHINE[kind]

    monkeypatch.setattr(checkpoints, step, refuse)
    with pytest.raises(Unreadable, match="Nothing says that it is damaged") as caught:
        load_classifier(tmp_path / "network", Noisy(), networks["noisy"], "Delete it")
    assert "Delete" not in str(caught.value)
    assert ("memory is exhausted" in str(caught.value)) == (kind in ("memory", "device"))


def test_a_library_that_does_not_say_why(tmp_path, networks, monkeypatch):
    """Where it names no cause, the files are asked."""
    save_classifier(tmp_path / "network", networks["noisy"])

    def refuse(*_):
        raise ValueError("not read")

    def opened(path):
        raise OSError(errno.EIO, "Input/output error", str(path))

    monkeypatch.setattr(checkpoints, "_read", refuse)
    with pytest.raises(InputError, match="Delete it"):
        load_classifier(tmp_path / "network", Noisy(), networks["noisy"], "Delete it")
    monkeypatch.setattr(checkpoints, "opened", opened)
    with pytest.raises(Unreadable, match="Input/output error"):
        load_classifier(tmp_path / "network", Noisy(), networks["noisy"], "Delete it")


@pytest.mark.parametrize(
    ("told", "number"),
    [("No space left\nin many lines", None), ("RESOURCE_EXHAUSTED: [os_error_code='28']", 28)],
)
def test_a_full_disk(tmp_path, networks, monkeypatch, told, number):
    """Of which the layers below Orbax make a ``ValueError``."""

    def full(*_, **__):
        raise ValueError(told)

    monkeypatch.setattr(checkpoints.ocp.Checkpointer, "save", full)
    with pytest.raises(OSError, match="No space left") as caught:
        save_classifier(tmp_path / "network", networks["noisy"])
    assert (caught.value.filename, caught.value.errno) == (str(tmp_path / "network"), number)


@pytest.fixture(scope="module")
def spoiled(networks, tmp_path_factory):
    """A checkpoint that is broken again and again, and the bytes it had."""
    path = tmp_path_factory.mktemp("strangers") / "network"
    save_classifier(path, networks["noisy"])
    files = sorted(file for file in path.rglob("*") if file.is_file())
    return path, {file: file.read_bytes() for file in files}


@orbax_gives_up
@settings(
    max_examples=max(15, COUNT // 4),
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    number=st.integers(0, 1000),
    at=st.floats(0, 1),
    cut=st.integers(0, 60),
    put=st.binary(max_size=60),
)
def test_checkpoints_of_any_bytes(spoiled, networks, number, at, cut, put):
    """What does not matter (a time, say) may be changed; nothing else goes unnoticed."""
    path, before = spoiled
    file, data = sorted(before.items())[number % len(before)]
    place = int(at * len(data))
    try:
        file.write_bytes(data[:place] + put + data[place + cut :])
        loaded = load_classifier(path, Noisy(), networks["twin"])
    except InputError:
        pass
    else:
        assert same_bits(loaded.variables, networks["noisy"].variables)
        assert same_bits(loaded.normalisation, networks["noisy"].normalisation)
    finally:
        for name in [name for name in path.rglob("*") if name.is_file() and name not in before]:
            name.unlink()
        file.write_bytes(data)
        gc.collect()


def test_something_else_than_files(tmp_path, networks):
    path = tmp_path / "network"
    save_classifier(path, networks["noisy"])
    (file,) = [name for name in (path / "about").rglob("*") if name.is_file()
               and "fingerprint" in name.read_text(errors="replace")]  # fmt: skip
    file.unlink()
    os.mkfifo(file)
    with pytest.raises(InputError, match="is no plain file"):
        load_classifier(path, Noisy(), networks["noisy"])


@pytest.mark.parametrize("about", [None, [], {}, {"model": 3}, {"model": [], "shapes": 1}])
def test_what_is_written_beside_the_arrays_is_not_trusted(tmp_path, networks, about):
    path = tmp_path / "network"
    save_classifier(path, networks["noisy"])
    (file,) = [name for name in (path / "about").rglob("*") if name.is_file()
               and "fingerprint" in name.read_text(errors="replace")]  # fmt: skip
    file.write_text(json.dumps(about))
    with pytest.raises(InputError, match=r"cannot be read|is of another model"):
        load_classifier(path, Noisy(), networks["noisy"])


def test_exchanged_parts_are_noticed(tmp_path, networks):
    save_classifier(tmp_path / "network", networks["noisy"])
    save_classifier(tmp_path / "twin", networks["twin"])
    part = tmp_path / "network" / "final"
    part.rename(tmp_path / "aside")
    (tmp_path / "twin" / "final").rename(part)
    with pytest.raises(InputError, match="do not match its fingerprint"):
        load_classifier(tmp_path / "network", Noisy(), networks["noisy"])


class Late(threading.Thread):
    """A thread of Orbax that tells of a failure when that has been raised already."""

    __module__ = "orbax.late"

    def run(self):
        time.sleep(0.1)
        logging.getLogger("absl").error("its stack")


def test_what_threads_say_of_a_full_disk_is_not_shown(monkeypatch, caplog):
    """The error that is raised says it all."""
    said = []
    monkeypatch.setattr(sys, "unraisablehook", said.append)
    with pytest.raises(OSError, match="no room"), checkpoints._checkpointer():
        late = Late()
        late.start()
        raise OSError("no room")
    assert not late.is_alive() and not caplog.records
    told: Any = types.SimpleNamespace(object=None, exc_value=RuntimeError("Event loop is closed"))
    other: Any = types.SimpleNamespace(object=None, exc_value=RuntimeError("something else"))
    sys.unraisablehook(told)
    sys.unraisablehook(other)
    assert said == [other]
    with checkpoints._checkpointer():
        pass
    sys.unraisablehook(told)
    assert said == [other]

"""Workspaces, archives, ledgers and requests from strangers: an InputError, and nothing changed."""

import json
import shutil

import numpy as np
import pytest
from data.bad_archives import Trap
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from service.toy import bytes_of, forge

from dcmu_jax.cli import main
from dcmu_jax.errors import InputError
from dcmu_jax.service import Workspace
from dcmu_jax.service.verification import verify

FEW = settings(
    max_examples=15,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.fixture(scope="module")
def spoiled(served, tmp_path_factory):
    """A workspace that is broken again and again; whoever breaks it mends it."""
    directory = tmp_path_factory.mktemp("strangers") / "w"
    shutil.copytree(served, directory)
    return directory


class _Mended:
    """Puts every file back as it was."""

    def __init__(self, directory):
        self.directory = directory

    def __enter__(self):
        self.before = bytes_of(self.directory)

    def __exit__(self, *_):
        for name in bytes_of(self.directory).keys() - self.before.keys():
            (self.directory / name).unlink()
        for name, data in self.before.items():
            if not (self.directory / name).exists() or (
                (self.directory / name).read_bytes() != data
            ):
                (self.directory / name).write_bytes(data)


ACTS = {
    "status": lambda w: w.status(),
    "request": lambda w: w.request("class:0"),
    "version": lambda w: w.version(),
    "certificate": lambda w: w.certificate(1),
}


def _refused_and_unchanged(directory, by=tuple(ACTS)):
    """What reads it says so in an InputError, and changes no byte; what does not, does its work."""
    before = bytes_of(directory)
    assert not verify(directory).clean
    refused = []
    for name, act in ACTS.items():
        try:
            act(Workspace(directory))
        except InputError:
            refused.append(name)
            assert bytes_of(directory) == before
        else:
            (directory / "ledger.jsonl").write_bytes(before["ledger.jsonl"])
            (directory / "ledger.head").write_bytes(before["ledger.head"])
    assert tuple(refused) == by
    assert main(["verify", str(directory)]) == 2


words = st.one_of(
    st.text(max_size=30),
    st.lists(
        st.sampled_from(
            ["ids:", "class:", "random:", "+", "0", "1", ",", "-3", "0.5", "1e400", "nan", "9" * 30,
             "x", "/", "..", "~", "\0", " ", "\udc80", "a" * 5000]
        ),
        max_size=6,
    ).map("".join),
)  # fmt: skip


@FEW
@given(text=words, reference=st.one_of(st.none(), st.text(max_size=5)))
def test_requests_of_any_text(spoiled, text, reference):
    with _Mended(spoiled):
        before = bytes_of(spoiled)
        try:
            Workspace(spoiled).request(text, reference=reference)
        except InputError:
            assert bytes_of(spoiled) == before
        Workspace(spoiled).history()


@FEW
@given(data=st.one_of(st.binary(max_size=60), st.text("0123456789, \n[]-", max_size=40)),
       suffix=st.sampled_from([".txt", ".json", ".npy"]))  # fmt: skip
def test_request_files_of_any_bytes(spoiled, tmp_path, data, suffix):
    path = tmp_path / f"ids{suffix}"
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    with _Mended(spoiled):
        before = bytes_of(spoiled)
        try:
            Workspace(spoiled).request(f"ids:{path}")
        except InputError:
            assert bytes_of(spoiled) == before
        Workspace(spoiled).history()


@FEW
@given(
    name=st.sampled_from(["ledger.jsonl", "ledger.head"]),
    at=st.floats(0, 1),
    cut=st.integers(0, 40),
    put=st.binary(max_size=40),
)
def test_ledgers_of_any_bytes(spoiled, name, at, cut, put):
    with _Mended(spoiled):
        data = (spoiled / name).read_bytes()
        place = int(at * len(data))
        other = data[:place] + put + data[place + cut :]
        (spoiled / name).write_bytes(other)
        if name == "ledger.jsonl" and other.startswith(data):
            assert verify(spoiled).clean  # never acknowledged
        elif other != data:
            _refused_and_unchanged(spoiled)


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-3, 10**6), st.floats(), st.text(max_size=8)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)


def _paths(value, path=()):
    yield path
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _paths(inner, (*path, key))


@FEW
@given(data=st.data(), name=st.sampled_from(["config.json", "about.json"]))
def test_settings_of_any_kind_with_right_hashes(spoiled, data, name):
    with _Mended(spoiled):
        whole = json.loads((spoiled / name).read_text())
        path = data.draw(st.sampled_from(list(_paths(whole))))
        value = data.draw(json_values)
        if path:
            target = whole
            for key in path[:-1]:
                target = target[key]
            target[path[-1]] = value
        else:
            whole = value
        forge(spoiled, name, json.dumps(whole).encode())
        verify(spoiled)
        try:
            Workspace(spoiled).version()
        except InputError:
            pass


@FEW
@given(data=st.binary(max_size=80), name=st.sampled_from(["train.npz", "bank.npz", "test.npz"]))
def test_archives_of_any_bytes_with_right_hashes(spoiled, fresh, data, name):
    with _Mended(spoiled):
        if name == "train.npz":  # of version 0; its manifest is not the current one
            (spoiled / "versions" / "0000" / name).write_bytes(data)
        else:
            forge(spoiled, name, data)
        _refused_and_unchanged(spoiled, tuple(ACTS) if name == "test.npz" else ("version",))


@pytest.mark.parametrize("name", ["bank.npz", "test.npz", "known.npz"])
def test_nothing_is_unpickled(copied, served, name, tmp_path):
    """An archive with an object that raises as soon as it is unpickled."""
    directory = copied(served)
    np.savez(tmp_path / "trap.npz", **{
        key: np.array([Trap()], object)
        for key in ("images", "labels", "ids", "cluster", "weights", "sizes")
    })  # fmt: skip
    forge(directory, name, (tmp_path / "trap.npz").read_bytes())
    _refused_and_unchanged(directory, ("version",) if name == "bank.npz" else tuple(ACTS))


def test_a_manifest_cannot_reach_elsewhere(copied, served, tmp_path):
    directory = copied(served)
    forge(directory, "bank.npz", None, files={"../../../secret": "0" * 64})
    found = verify(directory)
    assert "A manifest that names the file '../../../secret'" in found.problems[0]
    with pytest.raises(InputError, match="its author meant to reach files outside it"):
        Workspace(directory).version()
    Workspace(directory).request("class:1")
    before = bytes_of(directory)
    assert main(["process", str(directory), "--quiet"]) == 2
    assert bytes_of(directory) == before


def test_a_folder_that_is_a_link_is_refused(copied, served, tmp_path):
    directory = copied(served)
    (directory / "versions" / "0001").rename(tmp_path / "elsewhere")
    (directory / "versions" / "0001").symlink_to(tmp_path / "elsewhere")
    assert not verify(directory).clean
    with pytest.raises(InputError, match="0001' is a link"):
        Workspace(directory).version()

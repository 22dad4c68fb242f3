"""Manifests: every file of a version, no path that leads elsewhere, every difference."""

import os

import pytest

from dcmu_jax.errors import InputError
from dcmu_jax.service.manifest import (
    Manifest,
    check_inside,
    decode,
    differences,
    encode,
    hash_files,
)


def _manifest(**changes):
    values = {
        "version": 1,
        "change": "batch",
        "previous": "",
        "parameters": "0" * 64,
        "data": 0,
        "features": 0,
        "bank_seed": 1,
        "files": {},
    }
    return Manifest(**values | changes)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "v" / "network").mkdir(parents=True)
    (tmp_path / "v" / "network" / "part").write_bytes(b"abc")
    (tmp_path / "v" / "bank.npz").write_bytes(b"")
    return tmp_path / "v"


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../a", "a/../../b", "/etc/passwd", "a//b", "./a", "a/", "C:\\a", "\\\\host\\a",
     "..\\a", "a\0b"],
)  # fmt: skip
def test_paths_that_lead_out_are_refused(name, tmp_path):
    with pytest.raises(InputError, match="A manifest that names the file"):
        check_inside(name)
    with pytest.raises(InputError, match="A manifest that names the file"):
        decode(encode(_manifest(files={name: "0" * 64})), tmp_path)


def test_what_is_encoded_comes_back(tmp_path):
    manifest = _manifest(files={"network/part": "a" * 64})
    assert decode(encode(manifest), tmp_path) == manifest


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{",
        b"\xff",
        encode(_manifest()).replace(b'"version": 1', b'"version": "1"'),
        encode(_manifest()).replace(b'"version": 1', b'"version": -1'),
        encode(_manifest()).replace(b'"format"', b'"farmat"'),
        encode(_manifest(data=2)),
        encode(_manifest(files={"a": "not a hash"})),
        b"[" * 100_000,
    ],
    ids=range(10),
)
def test_anything_else_is_refused(data, tmp_path):
    with pytest.raises(InputError, match="is not as it was published"):
        decode(data, tmp_path)


def test_every_difference_is_named(folder):
    manifest = _manifest(files=hash_files(folder))
    assert set(manifest.files) == {"network/part", "bank.npz"}
    assert list(map(str, differences(folder, manifest))) == []
    (folder / "network" / "part").write_bytes(b"abd")
    assert list(map(str, differences(folder, manifest))) == ["v/network/part has changed"]
    (folder / "network" / "part").unlink()
    assert list(map(str, differences(folder, manifest))) == ["v/network/part is missing"]
    (folder / "network" / "part").symlink_to(folder / "bank.npz")
    (folder / "more").mkdir()
    (folder / "more" / "x").touch()
    (folder / "away").symlink_to(folder.parent)
    assert sorted(map(str, differences(folder, manifest))) == [
        "v/away is a link or no file",
        "v/more/x is in no manifest: move it out of the workspace",
        "v/network/part is a link or no file",
    ]


def test_what_a_purge_kept(folder):
    manifest = _manifest(files=hash_files(folder))
    (folder / "network" / "part").unlink()
    assert list(map(str, differences(folder, manifest, ("bank.npz",)))) == []
    (folder / "bank.npz").write_bytes(b"1")
    assert list(map(str, differences(folder, manifest, ("bank.npz",)))) == [
        "v/bank.npz has changed"
    ]


def test_what_a_purge_removes_just_now_is_no_problem(folder, monkeypatch):
    manifest, part = _manifest(files=hash_files(folder)), folder / "network" / "part"
    lstat = os.lstat

    def goes(path, **rest):
        found = lstat(path, **rest)
        if os.fspath(path) == str(part):
            os.unlink(path)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(os, "lstat", goes)
        assert differences(folder, manifest, ("bank.npz",)) == []
    assert not part.exists()

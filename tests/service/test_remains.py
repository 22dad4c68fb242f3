"""Every sentence about forgotten images is read from the files when it is said."""

import io
import json
import os
import shutil
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest
from service.toy import ids_text

from dcmu_jax.cli import main
from dcmu_jax.reporting.certificate import certificate_sentences
from dcmu_jax.service import Workspace, remains
from dcmu_jax.service.contents import version_folder
from dcmu_jax.service.faults import FailingDisk, Killed


class _DiesAtRemoval(FailingDisk):
    """At the removal of that number, from 0."""

    def __init__(self, number):
        super().__init__()
        self.number = number

    def step(self, what, path):
        self.number -= what == "remove"
        if self.number < 0:
            raise Killed


def _said(w, version):
    certificate = Workspace(w).certificate(version)
    return " ".join(certificate_sentences(certificate)), certificate


@pytest.mark.parametrize("removals", [0, 2, 3, 4])
def test_a_purge_that_was_published_and_not_carried_out(copied, served, removals, tmp_path, capsys):
    w = copied(served)
    with pytest.raises(Killed):
        Workspace(w, disk=_DiesAtRemoval(removals)).purge()
    there = (version_folder(w, 0) / "train.npz").exists()
    assert Workspace(w).status().unpurged == (3 if there else 0)
    for version in (1, 2):
        text, certificate = _said(w, version)
        assert certificate["images_purged"] == (not there)
        assert ("still lie in the workspace (versions/0000/train.npz)" in text) == there
        assert certificate["remains"]["images"] == (3 if there else 0)
        made = any((version_folder(w, v) / "network").exists() for v in range(version))
        assert ("have been purged" in text) == (not there and not made)
        assert ("what was made of them was not yet: versions/000" in text) == (not there and made)
    assert main(["certificate", str(w), "1", "--out", str(tmp_path)]) == 0
    page = (tmp_path / "certificate-0001.html").read_text()
    assert ("still lie in the workspace" in page) == there
    saved = json.loads((tmp_path / "certificate-0001.json").read_text())
    assert saved["images_purged"] == (not there)
    assert main(["purge", str(w), "--quiet"]) == 0
    assert (
        "Nothing to purge: no file that is as the service wrote it holds a forgotten image"
        in capsys.readouterr().out
    )
    assert "have been purged from the workspace." in _said(w, 1)[0]
    assert Workspace(w).status().unpurged == 0


def test_images_that_came_back(copied, purged, served, capsys):
    """Somebody restores a file, or keeps a copy of a folder within."""
    w = copied(purged)
    assert "have been purged from the workspace." in _said(w, 1)[0]
    shutil.copytree(version_folder(served, 0), w / "versions" / "0000.bak")
    text, certificate = _said(w, 1)
    assert "still lie in the workspace (versions/0000.bak/train.npz)" in text
    assert certificate["remains"]["files"] == {"versions/0000.bak/train.npz": 3}
    assert Workspace(w).status().unpurged == 6
    assert main(["purge", str(w), "--quiet"]) == 2
    said = capsys.readouterr()
    assert "Nothing to purge" not in said.out
    assert "still lie in the workspace: versions/0000.bak/train.npz" in said.err


def test_archives_of_any_name_are_looked_into_and_other_files_are_named(
    copied, purged, served, capsys
):
    """A copy of one's own is found by what it holds; of what cannot be read, the name is said."""
    w = copied(purged)
    shutil.copy(version_folder(served, 0) / "train.npz", w / "backup.npz")
    shutil.copy(version_folder(served, 0) / "train.npz", w / "versions" / "0000" / "mine.npz")
    shutil.copy(version_folder(served, 0) / "bank.npz", w / "versions" / "bank.npz")
    np.savez(w / "images.npz", images=np.zeros((2, 8, 8, 1), np.uint8))
    left = Workspace(w).remains()
    assert left.files == {"backup.npz": 6, "versions/0000/mine.npz": 6}
    assert left.unknown == ["images.npz", "versions/bank.npz"] and left.images == 6
    text, certificate = _said(w, 1)
    assert "still lie in the workspace (backup.npz, versions/0000/mine.npz)" in text
    assert not certificate["images_purged"]
    found = Workspace(w).verify()
    assert not any("a purge has still to remove" in note for note in found.notes)
    assert found.problems == ("0000/mine.npz is in no manifest: move it out of the workspace",)
    for name in ("backup.npz", "versions/0000/mine.npz"):
        (w / name).unlink()
    text, certificate = _said(w, 1)
    assert "No file that is as the service wrote it holds the forgotten images any more" in text
    assert "not what the service wrote: images.npz, versions/bank.npz." in text
    assert "purged from the workspace" not in text
    assert main(["purge", str(w), "--quiet"]) == 0
    out = capsys.readouterr().out
    assert "no file that is as the service wrote it holds a forgotten image" in out
    assert "not what the service wrote: images.npz, versions/bank.npz" in " ".join(out.split())


def test_no_file_of_the_service_is_a_stranger(copied, purged, served):
    w = copied(served)
    Workspace(w).audit(oracles=4)
    assert (w / "audits" / "0001.json").exists() and Workspace(w).remains().unknown == []
    with pytest.raises(Killed):
        Workspace(w, disk=_DiesAtRemoval(3)).purge()
    assert Workspace(w).remains().unknown == []
    assert Workspace(copied(purged)).remains().unknown == []


def test_images_that_cannot_be_read_may_be_there(copied, purged):
    w = copied(purged)
    (w / "notes").mkdir()
    (w / "notes" / "train.npz").write_text("mine")
    assert Workspace(w).remains().files == {} and Workspace(w).status().unpurged == 0
    assert Workspace(w).remains().unknown == ["notes/train.npz"]
    (w / "versions" / "0000" / "train.npz").write_bytes(b"PK\3\4 and so on")
    assert Workspace(w).certificate(2)["remains"]["files"] == {"versions/0000/train.npz": None}
    assert Workspace(w).certificate(2)["images_purged"] is False
    assert Workspace(w).status().unpurged == 6


def _flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


ANY = ["work.lock", "ledger.lock", "audits/0001.json", "audits/.0001.json.part",
       ".ledger.head.part", "versions/0002/bank.npz", "versions/.0004.part/old.npz",
       "versions/0000/old.npz", "versions/0004/old.npz", "versions/0003/network/x"]  # fmt: skip


@pytest.mark.parametrize("name", ANY)
@pytest.mark.parametrize("content", ["images", "text"])
def test_images_under_any_name_are_found_or_named(copied, purged, served, name, content):
    """What a name says counts for nothing; what its bytes are does."""
    w = copied(purged)
    _flip(version_folder(w, 0) / "manifest.json")
    (w / name).parent.mkdir(exist_ok=True)
    if content == "images":
        shutil.copy(version_folder(served, 0) / "train.npz", w / name)
    else:
        (w / name).write_text("not the service's")
    left, shown = Workspace(w).remains(), "versions/.0004.part" if ".0004" in name else name
    if content == "images":
        assert left.files == {name: 6} and not set(left.unknown) & {name, shown}
    else:
        assert left.files == {} and shown in left.unknown
        text, certificate = _said(w, 1)
        assert certificate["images_purged"] is None and "purged from the workspace" not in text
        assert f"{shown}" in text.partition("not what the service wrote")[2]
        if not name.startswith("versions/0004"):
            for notes in (Workspace(w).status().notes, Workspace(w).verify().notes):
                assert any("not known" in note and shown in note for note in notes)


def test_only_an_archive_of_the_service_is_believed_to_hold_no_forgotten_image(
    copied, purged, served
):
    w = copied(purged)
    shutil.copy(version_folder(w, 3) / "train.npz", w / "copy.npz")
    assert Workspace(w).remains().unknown == []
    with np.load(version_folder(served, 0) / "train.npz") as archive:
        whole = dict(archive)
    gone = np.isin(whole["ids"], Workspace(w).history().forgotten)
    stays = {name: array[~gone] for name, array in whole.items()}
    np.savez(w / "a.npz", **whole | {"ids": whole["ids"] + 1000})
    np.savez(w / "b.npz", **whole | {"ids": whole["ids"][:0]})
    np.savez(w / "c.npz", **stays, x_train=whole["images"])
    np.savez(w / "d.npz", **stays)  # to the byte what the service writes
    left = Workspace(w).remains()
    assert left.files == {} and left.unknown == ["a.npz", "b.npz", "c.npz"]


def _headers(data):
    """Places of the bytes that say what an archive holds: its directory, its arrays' headers."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        infos, directory = archive.infolist(), archive.start_dir
    places = [*range(directory, len(data))]
    ends = [*(info.header_offset for info in infos[1:]), directory]
    for info, end in zip(infos, ends, strict=True):
        places += range(info.header_offset, end - info.file_size + 128)
    return places


def _put(path, data, at, byte):
    path.write_bytes(data[:at] + bytes([byte]) + data[at + 1 :])


def test_an_archive_of_which_any_bit_is_changed_can_be_read_or_not(copied, served):
    """What the libraries raise on such bytes is of a dozen kinds."""
    path = version_folder(copied(served), 0) / "train.npz"
    data = path.read_bytes()
    for at in _headers(data):
        for bit in range(8):
            _put(path, data, at, data[at] ^ 1 << bit)
            found = remains._ids_in(path)
            assert found is None or found.dtype == np.int64, (at, bit)


@pytest.mark.parametrize("name", ["train.npz", "bank.npz"])
@pytest.mark.parametrize("change", ["version", "encrypted", "compressed", "header"])
def test_a_changed_byte_of_an_archive_ends_no_command(copied, served, name, change):
    w = copied(served)
    path = version_folder(w, 0) / name
    data = path.read_bytes()
    entry = data.rindex(b"PK\1\2")  # of its directory, the last: of train.npz that of the ids
    at, byte = {
        "version": (entry + 6, 64),
        "encrypted": (entry + 8, 1),
        "compressed": (entry + 10, 8),
        "header": (data.rindex(b"}", 0, entry), ord("]")),
    }[change]
    _put(path, data, at, byte)
    status, found = Workspace(w).status(), Workspace(w).verify()
    assert found.problems == (f"0000/{name} has changed",)
    assert status.unpurged == 3 and not Workspace(w).certificate(1)["images_purged"]
    if name == "bank.npz":
        assert any(f"versions/0000/{name}" in note for note in status.notes)


def test_images_that_are_gone_without_a_purge(copied, served):
    w = copied(served)
    (version_folder(w, 0) / "train.npz").unlink()
    assert Workspace(w).status().unpurged == 0
    text, certificate = _said(w, 1)
    assert certificate["images_purged"] and "still lie" not in text
    assert "what was made of them was not yet: versions/0000/bank.npz" in text


def test_what_was_forgotten_by_another_version_is_told_apart(copied, purged, ids):
    w = copied(purged)
    assert Workspace(w).process() == [4]
    for version, there in ((1, False), (2, False), (3, False), (4, True)):
        assert Workspace(w).certificate(version)["images_purged"] != there
    assert Workspace(w).status().unpurged == 3
    Workspace(w).request(ids_text(ids[10:11]))
    assert Workspace(w).status().unpurged == 3  # what waits is not forgotten


def test_folders_and_files_in_each_others_place_after_a_purge(copied, purged, tmp_path, capsys):
    w = copied(purged)
    folder, file = version_folder(w, 0) / "train.npz", version_folder(w, 1) / "network"
    for wrong in (folder, file):
        wrong.mkdir() if wrong is folder else wrong.write_text("")
        assert "have been purged" in _said(w, 1)[0] or wrong is file
        assert not Workspace(w).remains().files
        problem = next(p for p in Workspace(w).verify().problems if "in the place of" in p)
        assert f"{str(wrong)!r} is a f" in problem and problem in Workspace(w).status().notes
        assert main(["purge", str(w), "--quiet"]) == 2
        said = capsys.readouterr().err
        assert f"mv {wrong} ELSEWHERE" in " ".join(said.split())
        wrong.rename(tmp_path / f"elsewhere-{wrong.name}")  # as it says
        assert main(["purge", str(w), "--quiet"]) == 0 and Workspace(w).verify().clean


def test_names_of_any_bytes_and_folders_of_any_depth(copied, purged, tmp_path, capsys):
    w = copied(purged)
    here = os.open(w, os.O_RDONLY)
    for _ in range(1100):
        os.mkdir("a", dir_fd=here)
        inside = os.open("a", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inside
    os.close(here)
    Path(os.fsdecode(bytes(w) + b"/\xff.txt")).write_text("mine")
    for command in ("status", "verify"):
        assert main([command, str(w)]) == 0
    assert main(["certificate", str(w), "1", "--out", str(tmp_path / "c")]) == 0
    page = (tmp_path / "c" / "certificate-0001.html").read_text(encoding="utf-8")
    assert r"\udcff.txt" in page
    assert json.loads((tmp_path / "c" / "certificate-0001.json").read_bytes())["remains"]["unknown"]
    assert main(["request", str(w), "ids:0"]) == 0
    subprocess.run(["rm", "-r", w / "a"], check=True)  # what removes tmp_path is recursive

"""Links, pipes, sockets and strange files in a workspace: never followed, never removed."""

import os
import shutil
import socket

import pytest
from service.toy import bytes_of, ids_text

from dcmu_jax.cli import main
from dcmu_jax.errors import InputError
from dcmu_jax.service import Workspace
from dcmu_jax.service.disk import Disk
from dcmu_jax.service.entries import check_plain, open_plain, read_plain
from dcmu_jax.service.faults import FailingDisk, Killed
from dcmu_jax.service.verification import verify


@pytest.fixture
def w(copied, served, ids):
    """With something to process and something to purge."""
    directory = copied(served)
    Workspace(directory).request(ids_text(ids[3:4]))
    return directory


@pytest.fixture
def victim(tmp_path):
    """What somebody else keeps."""
    folder = tmp_path / "victim"
    (folder / "0001").mkdir(parents=True)
    (folder / "thesis.txt").write_text("ten years")
    (folder / "0001" / "train.npz").write_text("twenty years")
    return folder


def _everything(directory):
    return sorted(
        (str(p.relative_to(directory)), p.lstat().st_mode, os.readlink(p) if p.is_symlink() else "")
        for p in directory.rglob("*")
    )


def _refused(w, match, *, others=()):
    """Whatever is asked of it, it says so at once, and nothing is changed anywhere."""
    before, kept = _everything(w), [bytes_of(other) for other in others]
    for act in (
        lambda: Workspace(w).request("class:0", reference="r"),
        lambda: Workspace(w).process(),
        lambda: Workspace(w).purge(),
        lambda: Workspace(w).status(),
        lambda: Workspace(w).certificate(1),
        lambda: Workspace(w).network(),
        lambda: Workspace(w).audit(oracles=4),
    ):
        with pytest.raises(InputError, match=match):
            act()
        assert _everything(w) == before
    (problem,) = verify(w).problems
    assert match in problem
    assert [bytes_of(other) for other in others] == kept


def _replace(path):
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    return path


@pytest.mark.parametrize(
    "name",
    [
        "versions", "versions/0000", "versions/0001/network", "versions/.0002.part", "audits",
        "versions/0009", "versions/0001/network/final", "anything",
    ],
)  # fmt: skip
def test_a_link_to_a_folder_of_somebody_else(w, victim, name):
    _replace(w / name).symlink_to(victim)
    _refused(w, "is a link", others=(victim,))


@pytest.mark.parametrize(
    "name",
    [
        ".ledger.head.part", "ledger.head", "ledger.jsonl", "ledger.lock", "work.lock",
        "config.json", "versions/0001/record.json", "versions/0000/train.npz", "audits/0001.json",
        "audits/.0001.json.part",
    ],
)  # fmt: skip
def test_a_link_to_a_file_of_somebody_else(w, victim, name):
    (w / "audits").mkdir()
    _replace(w / name).symlink_to(victim / "thesis.txt")
    _refused(w, "is a link", others=(victim,))


def test_a_dangling_link_makes_no_file(w, tmp_path):
    (w / ".ledger.head.part").symlink_to(tmp_path / "born")
    _refused(w, "is a link")
    assert not (tmp_path / "born").exists()


@pytest.mark.parametrize(
    "name", ["ledger.head", "ledger.jsonl", ".ledger.head.part", "versions/0001/manifest.json",
             "versions/0000/record.json", "work.lock", "versions/pipe", "test.npz"],
)  # fmt: skip
def test_a_pipe_makes_nobody_wait(w, name):
    os.mkfifo(_replace(w / name))
    _refused(w, "is a named pipe")


@pytest.mark.parametrize("name", ["config.json", "ledger.head"])
def test_a_pipe_makes_no_command_wait(w, name, capsys):
    os.mkfifo(_replace(w / name))
    for command in ("status", "verify", "process", "purge", "gate"):
        assert main([command, str(w), *(["3"] if command == "gate" else [])]) == 2
        assert "is a named pipe" in capsys.readouterr().err


def test_a_socket(w, monkeypatch):
    monkeypatch.chdir(w)  # the path of a socket must be short
    with socket.socket(socket.AF_UNIX) as made:
        made.bind("versions/s")
    _refused(w, "is a socket")


def test_the_workspace_itself_may_be_reached_by_a_link(w, tmp_path, ids):
    (tmp_path / "link").symlink_to(w)
    assert len(Workspace(tmp_path / "link").request(ids_text(ids[4:5])).accepted) == 1
    assert verify(tmp_path / "link").clean


def test_a_file_with_a_second_name_is_not_written_in_place(w, tmp_path, ids):
    os.link(w / "ledger.jsonl", tmp_path / "backup.jsonl")
    before = (tmp_path / "backup.jsonl").read_bytes()
    with pytest.raises(InputError, match=r"has a second name \(a hard link\).*Copy it, and move"):
        Workspace(w).request(ids_text(ids[4:5]))
    assert (tmp_path / "backup.jsonl").read_bytes() == before
    shutil.copy(w / "ledger.jsonl", tmp_path / "copy")
    (tmp_path / "copy").replace(w / "ledger.jsonl")
    assert len(Workspace(w).request(ids_text(ids[4:5])).accepted) == 1
    assert (tmp_path / "backup.jsonl").read_bytes() == before


def test_a_head_left_aside_is_replaced_and_its_second_name_is_not(w, tmp_path, ids):
    (tmp_path / "mine").write_text("keep")
    os.link(tmp_path / "mine", w / ".ledger.head.part")
    assert verify(w).clean and ".ledger.head.part" in verify(w).notes[0]
    Workspace(w).request(ids_text(ids[4:5]))
    assert (tmp_path / "mine").read_text() == "keep" and not verify(w).notes


STRANGE = (
    "notes.txt",
    "versions/notes.txt",
    "versions/0000.bak",
    "versions/.0000.part",
    "versions/.0007.part",
    "versions/00002",
    "versions/2",
    "versions/.DS_Store",
    "audits/notes.txt",
)


def test_only_what_the_service_wrote_is_removed(w):
    (w / "audits").mkdir()
    for name in STRANGE:
        (w / name).write_text("keep")
    left = w / "versions" / ".0002.part"
    (left / "network").mkdir(parents=True)
    (left / "network" / "x").write_text("half")
    assert any("versions/.0002.part" in note for note in verify(w).notes)
    assert Workspace(w).process() == [2] and Workspace(w).purge() == 3
    found = verify(w)
    assert found.clean and len(found.notes) == len(STRANGE) + 1
    for name in STRANGE:
        assert (w / name).read_text() == "keep"
        assert f"{name} is not of the service: it stays" in " ".join(found.notes)
    assert not left.exists()


def test_a_purge_removes_files_by_the_manifest(w):
    Workspace(w).process()
    with pytest.raises(Killed):
        Workspace(w, disk=_DiesAtTheFirstRemoval()).purge()
    strange = [w / "versions" / "0000" / name for name in ("mine.txt", "network/mine.txt")]
    for path in strange:
        path.write_text("keep")
    assert Workspace(w).purge() is None
    left = sorted(path.name for path in (w / "versions" / "0000").rglob("*"))
    assert left == ["manifest.json", "mine.txt", "mine.txt", "network", "record.json"]
    assert [path.read_text() for path in strange] == ["keep", "keep"]
    assert len(verify(w).problems) == 2


class _DiesAtTheFirstRemoval(FailingDisk):
    def step(self, what, path):
        if what == "remove":
            raise Killed


def test_opening(tmp_path):
    plain, link = tmp_path / "a", tmp_path / "b"
    plain.write_bytes(b"abc")
    link.symlink_to(plain)
    assert read_plain(plain) == b"abc"
    os.mkfifo(tmp_path / "pipe")
    for path in (link, tmp_path / "pipe", tmp_path):
        with pytest.raises((InputError, OSError)):
            open_plain(path)
    with pytest.raises(InputError):
        Disk().append(link, 0, b"x")
    assert plain.read_bytes() == b"abc"
    with pytest.raises(InputError, match="b' is a link"):
        check_plain(tmp_path)
    check_plain(tmp_path / "gone")

"""A workspace that could not be made, or whose maker died: no copies of images are left unsaid."""

import os
import shutil
import signal
import subprocess
import sys
import threading

import pytest
from service.toy import bytes_of

from dcmu_jax.cli import main
from dcmu_jax.errors import InputError
from dcmu_jax.files import held
from dcmu_jax.service import Workspace
from dcmu_jax.service.disk import Disk
from dcmu_jax.service.verification import verify


class _At(Disk):
    """Does something once the images of version 0 are written."""

    def __init__(self, act):
        self.act = act

    def step(self, what, path):
        if path.name == "bank.npz" and what == "create":
            self.act(path)


def _left(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, MemoryError, OSError, ValueError])
def test_nothing_is_left_whatever_ends_it(toy_run, tmp_path, error):
    seen = []

    def act(path):
        seen.extend(_left(tmp_path))
        assert (path.parent / "train.npz").exists()
        raise error

    with pytest.raises((error, InputError)):
        Workspace.create(toy_run, tmp_path / "w", disk=_At(act))
    assert len(seen) == 1 and seen[0].startswith(".w.") and _left(tmp_path) == []


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_nothing_is_left_by_a_signal(toy_run, tmp_path, name):
    number = getattr(signal, name)
    outside = signal.signal(number, signal.SIG_DFL)  # nohup ignores SIGHUP
    try:
        _stopped_by(number, toy_run, tmp_path)
    finally:
        signal.signal(number, outside)


def _stopped_by(number, toy_run, tmp_path):
    before = signal.getsignal(number)
    with pytest.raises(SystemExit) as ended:
        Workspace.create(toy_run, tmp_path / "w", disk=_At(lambda _: signal.raise_signal(number)))
    assert ended.value.code == 128 + number and _left(tmp_path) == []
    assert signal.getsignal(number) is before


DIES = """
import os, sys
from pathlib import Path
sys.path[:0] = {path!r}
from service.test_creating import _At
from dcmu_jax.runs.run import Run
from dcmu_jax.service import Workspace
Workspace.create(Run.open(Path({run!r})), {out!r}, disk=_At(lambda _: os.kill(os.getpid(), 9)))
"""


def test_what_a_killed_process_left_is_removed_by_the_next_and_told_of(toy_run, tmp_path, capsys,
                                                                       caplog):  # fmt: skip
    out = tmp_path / "w"
    script = DIES.format(path=sys.path, run=str(toy_run.directory), out=str(out))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    (left,) = tmp_path.iterdir()
    assert (left / "versions" / ".0000.part" / "train.npz").exists()
    other = tmp_path / "other"  # another target leaves it alone
    Workspace.create(toy_run, other)
    assert left.exists() and not Workspace(other).status().notes
    assert main(["workspace", str(toy_run.directory), "--out", str(out), "--quiet"]) == 0
    assert f"{left} was left of interrupted work and is removed" in caplog.text
    assert _left(tmp_path) == ["other", "w"] and verify(out).notes == ()


def _a_leftover(folder, name=".w.123456.1.part"):
    images = folder / name / "versions" / ".0000.part" / "train.npz"
    images.parent.mkdir(parents=True)
    images.write_bytes(b"images")
    return folder / name


def test_a_leftover_beside_a_workspace_is_mentioned(fresh, copied, toy_run, capsys):
    w = copied(fresh)
    _a_leftover(w.parent, f".{w.name}.123456.1.part")
    for said in (verify(w).notes, Workspace(w).status().notes):
        assert any(f".{w.name}.123456.1.part, beside the workspace" in note for note in said)
    for command in ("status", "verify", "purge"):
        assert main([command, str(w)]) == 0
        assert f".{w.name}.123456.1.part, beside the workspace" in capsys.readouterr().out


def test_a_copy_of_a_workspace_is_never_removed(fresh, served, toy_run, tmp_path, caplog):
    whole = ".w.20261130.7.part"
    names = [".w.2024", ".w.20261130", ".w.7", ".w.2024.part", whole]
    for name in names:
        shutil.copytree(served if name == names[0] else fresh, tmp_path / name)
    before = bytes_of(tmp_path)
    Workspace.create(toy_run, tmp_path / "w")
    assert before.items() <= bytes_of(tmp_path).items()
    assert f"{tmp_path / whole} may be left of interrupted work. Remove it if so." in caplog.text
    notes = verify(tmp_path / "w").notes
    assert len(notes) == 1 and notes == Workspace(tmp_path / "w").status().notes
    assert f"{whole}, beside the workspace, may be a copy" in notes[0]


def test_what_is_being_made_or_is_not_known_stays(toy_run, tmp_path, caplog):
    left = _a_leftover(tmp_path)
    with held(left):
        Workspace.create(toy_run, tmp_path / "w")
        assert left.exists() and not verify(tmp_path / "w").notes
    assert len(verify(tmp_path / "w").notes) == 1
    strange = _a_leftover(tmp_path, ".v.123456.1.part")
    (strange / "thesis.txt").write_text("ten years")
    (tmp_path / ".v.1.2.part").symlink_to(strange)
    (tmp_path / ".v.notes.part").mkdir()
    Workspace.create(toy_run, tmp_path / "v")
    assert (strange / "thesis.txt").exists() and (tmp_path / ".v.notes.part").exists()
    assert f"{strange} may be left of interrupted work. Remove it if so." in caplog.text


def test_a_target_that_is_a_dangling_link(toy_run, tmp_path):
    (tmp_path / "w").symlink_to(tmp_path / "nowhere")
    with pytest.raises(InputError, match="exists already"):
        Workspace.create(toy_run, tmp_path / "w")


def test_a_thread_may_make_one(toy_run, tmp_path):
    made = threading.Thread(target=lambda: Workspace.create(toy_run, tmp_path / "w"))
    made.start(), made.join()
    assert verify(tmp_path / "w").clean and os.listdir(tmp_path) == ["w"]

"""Files and folders written aside: what an interrupted process left is known and removed."""

import os
import subprocess
import sys

import pytest
from service.toy import CONFIG

from dcmu_jax.errors import InputError
from dcmu_jax.files import aside_of, held, left_aside, write_json
from dcmu_jax.runs import directory as directory_module
from dcmu_jax.runs.run import Run


@pytest.fixture(scope="module")
def dead():
    """The number of a process that has ended."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    return ended.pid


def test_the_next_write_removes_what_a_killed_one_left(tmp_path, dead):
    left = [f".a.json.{dead}.139.part", f".a.json.{os.getpid()}.1.part"]
    stays = [f".a.json.{os.getppid()}.1.part", f".b.json.{dead}.1.part", f".a.json.{dead}.1",
             f".a.json.{dead}.part", ".a.json.x.part", f".aXjson.{dead}.1.part",
             f".a.json.{dead}.01.part"]  # fmt: skip
    for name in (*left, *stays):
        (tmp_path / name).write_text("{")
    assert [path.name for path in left_aside(tmp_path / "a.json")] == sorted(left)
    write_json(tmp_path / "a.json", {"a": 1})
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*stays, "a.json"])


def test_what_this_thread_writes_is_not_left(tmp_path):
    aside_of(tmp_path / "a").write_text("")
    assert left_aside(tmp_path / "a") == [] and left_aside(tmp_path / "nowhere" / "a") == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_a_run_that_is_interrupted_while_it_is_made_leaves_nothing(tmp_path, monkeypatch, error):
    def interrupted(*_):
        assert len(list(tmp_path.iterdir())) == 1
        raise error

    monkeypatch.setattr(directory_module, "write_json", interrupted)
    with pytest.raises((error, InputError)):
        Run.create(tmp_path / "run", CONFIG)
    assert list(tmp_path.iterdir()) == []


def test_a_run_removes_what_a_killed_one_left(tmp_path, dead, caplog):
    names = (f".run.{dead}.9.part", f".run.{dead}.7.part", f".run.{dead}.8.part",
             f".run2.{dead}.9.part", f".run.{dead}", f".run.{dead}.part")  # fmt: skip
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{")
    (tmp_path / names[2] / "thesis.txt").write_text("ten years")
    with held(tmp_path / names[1]):
        Run.create(tmp_path / "run", CONFIG)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([*names[1:], "run"])
    assert f"{names[0]} was left of interrupted work" in caplog.text
    assert f"{names[2]} may be left of interrupted work" in caplog.text

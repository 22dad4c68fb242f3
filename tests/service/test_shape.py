"""Files where folders must be, the reverse, and what is missing: said, with a remedy that works."""

import re
import shlex
import shutil
import subprocess

import pytest
from service.toy import ids_text

from dcmu_jax.cli import main
from dcmu_jax.errors import InputError
from dcmu_jax.service import Workspace
from dcmu_jax.service.verification import verify


@pytest.fixture
def w(copied, served, ids):
    directory = copied(served)
    Workspace(directory).request(ids_text(ids[3:4]))
    return directory


def _said(w, match):
    """Whatever is asked of it, this is said, and nothing about room or permissions."""
    said = []
    (problem,) = verify(w).problems
    for act in (
        lambda: Workspace(w).request("class:0"),
        lambda: Workspace(w).process(),
        lambda: Workspace(w).purge(),
        lambda: Workspace(w).status(),
        lambda: Workspace(w).certificate(1),
    ):
        with pytest.raises(InputError, match=match) as raised:
            act()
        said.append(str(raised.value))
    for text in (problem, *said):
        assert re.search(match, text) and "room" not in text and "permissions" not in text
    return said[0]


@pytest.mark.parametrize("name", ["ledger.lock", "work.lock", "ledger.head", ".ledger.head.part",
                                  "ledger.jsonl", "test.npz", "audits/0004.json",
                                  "audits/.0001.json.part"])  # fmt: skip
def test_folders_in_the_place_of_files(w, name, tmp_path):
    kept = (w / name).read_bytes() if (w / name).exists() else None
    (w / name).unlink(missing_ok=True)
    (w / name).mkdir(parents=True)
    said = _said(w, rf"{re.escape(name)}' is a folder")
    assert "Move it out of the workspace" in said
    shutil.move(w / name, tmp_path / "away")  # as it says
    if "from a copy" in said and kept is not None:
        (w / name).write_bytes(kept)
    assert verify(w).clean and Workspace(w).process() == [2]


@pytest.mark.parametrize("name", ["audits", "versions"])
def test_files_in_the_place_of_folders(w, name):
    if (w / name).exists():
        shutil.rmtree(w / name)
    (w / name).write_bytes(b"")
    assert "Move it out of the workspace" in _said(w, rf"{name}' is a file")


def test_what_is_missing(w, tmp_path):
    shutil.move(w / "versions", tmp_path / "v")
    assert "Put it back" in _said(w, "versions' is missing")
    shutil.move(tmp_path / "v", w / "versions")
    head = (w / "ledger.head").read_bytes()
    (w / "ledger.head").unlink()
    assert "Put back ledger.jsonl and ledger.head" in _said(w, "ledger.head is missing")
    (w / "ledger.head").write_bytes(head)
    (w / "ledger.jsonl").unlink()
    with pytest.raises(InputError, match=r"ledger\.jsonl is missing.*Put back"):
        Workspace(w)
    with pytest.raises(InputError, match=r"ledger\.jsonl is missing"):
        verify(w)


def test_a_lock_that_is_missing_is_made_again(w):
    for name in ("ledger.lock", "work.lock"):
        (w / name).unlink()
    assert verify(w).clean and Workspace(w).process() == [2]


def test_what_is_no_workspace_says_how_to_make_one(toy_run, tmp_path, capsys):
    for command in (["verify"], ["status"], ["process"], ["request", "ids:1"]):
        nowhere = tmp_path / "nowhere"
        assert main([command[0], str(nowhere), *command[1:]]) == 2
        said = capsys.readouterr().err
        assert "nowhere' is no workspace" in said and "problem" not in said
    made = re.search(r"dcmu (workspace RUN --out DIRECTORY)", said)
    assert made, said
    words = made[1].replace("RUN", str(toy_run.directory)).replace("DIRECTORY", str(nowhere))
    assert main([*words.split(), "--quiet"]) == 0 and main(["verify", str(nowhere)]) == 0


def test_a_file_in_no_manifest_is_moved_away_by_the_command_that_is_said(w, tmp_path):
    (w / "versions" / "0001" / "my notes.txt").write_text("mine")
    with pytest.raises(InputError, match="is in no manifest") as raised:
        Workspace(w).process()
    command = raised.value.remedy.partition("Move it out of the workspace: ")[2]
    words = shlex.split(command.replace("ELSEWHERE", str(tmp_path)))
    subprocess.run(words, check=True)
    assert (tmp_path / "my notes.txt").read_text() == "mine"
    assert Workspace(w).process() == [2] and verify(w).clean


def test_status_names_what_is_missing_of_a_version(w, capsys):
    assert Workspace(w).status().notes == ()
    shutil.rmtree(w / "versions" / "0001" / "network")
    (w / "versions" / "0000" / "bank.npz").unlink()
    network = next((w / "versions" / "0000" / "network").rglob("*.ocdbt"))
    network.unlink()
    assert main(["status", str(w)]) == 0
    out = capsys.readouterr().out
    assert "versions/0001/network is missing: put it back from a copy" in out
    assert "versions/0000/bank.npz is missing" in out
    assert "versions/0000/network is missing (parts of it)" in out


def test_status_names_nothing_that_a_purge_removed(copied, purged):
    assert Workspace(copied(purged)).status().notes == ()

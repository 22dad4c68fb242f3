"""The commands of the deletion service, and their refusals: exit status 2, and no traceback."""

import json
import os
import shutil
import sys
from pathlib import Path

import pytest
from service.conftest import copied, fresh, ids, purged, served, toy_run  # noqa: F401
from service.toy import ids_text
from test_outlets import takes_nothing

from dcmu_jax.cli import main
from dcmu_jax.cli.service import process_defaults
from dcmu_jax.errors import InputError
from dcmu_jax.metrics import telltale
from dcmu_jax.service import Workspace, audits


def _dcmu(*arguments):
    try:
        return main([str(argument) for argument in arguments])
    except SystemExit as stop:
        return stop.code


def test_a_life_of_a_workspace(toy_run, tmp_path, ids, capsys, monkeypatch):  # noqa: F811
    w = tmp_path / "w"
    assert _dcmu("workspace", toy_run.directory, "--out", w, "--quiet") == 0
    assert "36 samples, version 0" in capsys.readouterr().out
    assert _dcmu("request", w, ids_text(ids[:3]), "--reference", "a") == 0
    assert "3 accepted; receipt " in capsys.readouterr().out
    assert _dcmu("request", w, ids_text(ids[:3])) == 0
    assert "3 already pending" in capsys.readouterr().out
    with monkeypatch.context() as patch:
        patch.setattr(telltale, "beside", lambda *_: telltale.Beside(0.0, 92.0, True))
        assert _dcmu("process", w, "--quiet") == 0
    out = capsys.readouterr().out
    assert "Of the forgotten samples 0.0 % are classified correctly, of test images" in out
    assert "Version 1, published" in out and "forgot 3 samples by the method recommended" in out
    assert _dcmu("request", w, ids_text(ids[:2])) == 0
    assert "2 already forgotten" in capsys.readouterr().out
    assert _dcmu("status", w) == 0
    assert "forgotten    3" in capsys.readouterr().out
    assert _dcmu("verify", w) == 0
    assert "The workspace is as the service left it." in capsys.readouterr().out
    assert _dcmu("certificate", w, 1, "--out", tmp_path / "c") == 0
    assert "It is no proof that the network remembers nothing" in capsys.readouterr().out
    audit = {"passed": False, "oracles": 4, "statistics": {}}
    monkeypatch.setattr(audits, "audit_version", lambda *_, **__: json.dumps(audit).encode())
    assert _dcmu("certificate", w, 1, "--audit", 4, "--out", tmp_path / "c") == 0
    assert "The network did not pass the audit, compared with 4 that" in capsys.readouterr().out
    first, second = sorted((tmp_path / "c").glob("*.json"), key=lambda path: len(path.name))
    assert json.loads(first.read_text())["audit"] is None  # what was written before stays
    saved = json.loads(second.read_text())
    assert saved["audit"] == audit
    assert _dcmu("certificate", w, 1, "--out", tmp_path / "c") == 0  # says the same again
    assert second.name in capsys.readouterr().out and len(list((tmp_path / "c").iterdir())) == 4
    assert saved["record"]["forgotten"] == sorted(ids[:3])
    assert "Certificate of version 1" in (tmp_path / "c" / "certificate-0001.html").read_text()
    assert _dcmu("purge", w, "--quiet") == 0
    out = capsys.readouterr().out
    assert "3 images removed; version 2" in out and "What remains elsewhere" in out
    assert _dcmu("purge", w, "--quiet") == 0
    assert "Nothing to purge" in capsys.readouterr().out
    assert _dcmu("process", w, "--quiet") == 0
    assert "Nothing was pending." in capsys.readouterr().out
    assert _dcmu("verify", w) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["request", "W", "ids:999999"], "Unknown id(s): 999999"),
        (["request", "W", "class:9"], "There is no class '9'"),
        (["request", "W", "everything"], "Unknown kind of forget request"),
        (["certificate", "W", "7"], "There is no version 7"),
        (["certificate", "W", "0", "--audit", "4"], "An audit of version 0"),
        (["certificate", "W", "1", "--audit", "2"], "2 oracle"),
        (["certificate", "W", "1", "--out", "/dev/null/c"], "The certificate cannot be written"),
        (["certificate", "W", "1", "--out", "W/versions/c"], "within the workspace"),
        (["certificate", "W", "1", "--out", "W"], "within the workspace"),
        (["workspace", "nowhere", "--out", "W/versions/w"], "within the workspace"),
        (["train", "--out", "W/run", "--quiet"], "within the workspace"),
        (["run", "--out", "W/run", "--quiet"], "within the workspace"),
        (["condensed-model", "--out", "W/versions/0000/run"], "within the workspace"),
        (
            ["gate", "W", "\u0663"],
            "The number '\u0663'. Allowed: numbers in the digits 0 to 9. Write 3",
        ),
        (["certificate", "W", "\u0661"], "Write 1"),
        (["certificate", "W", "1", "--audit=\u0664"], "Write 4"),
        (["train", "--seed", "\u0661\u0662"], "Write 12"),
        (["process", "W", "--accept-accuracy-loss", "\u0663.5"], "Write 3.5"),
        (
            ["process", "W", "--method.online.collecting.real-per-cluster=-1"],
            "real_per_cluster = -1",
        ),
        (["status", "a\0b"], "The argument 'a\\x00b'"),
        (["train", "--dataset", "npz:a\0b"], "The argument 'npz:a\\x00b'"),
        (["workspace", "nowhere", "--out", "\ud800"], "The argument '\\ud800'"),
        (["status", "nowhere"], "is no workspace"),
        (["verify", "nowhere"], "is no workspace"),
        (["workspace", "nowhere", "--out", "W2"], "is no run directory"),
        (["process", "W/versions"], "is no workspace"),
    ],
    ids=range(26),
)
def test_refusals(arguments, message, served, capsys):  # noqa: F811
    given = [str(served) + a[1:] if a[:2] in ("W", "W/") else a for a in arguments]
    assert _dcmu(*given) == 2
    captured = capsys.readouterr()
    assert message in captured.err and captured.err.startswith("dcmu: ")
    assert "Traceback" not in captured.err


def test_a_folder_in_a_workspace_that_is_reached_by_a_link(served, copied, toy_run, tmp_path):  # noqa: F811
    directory = copied(served)
    (tmp_path / "link").symlink_to(directory / "versions")
    with pytest.raises(InputError, match="within the workspace"):
        Workspace.create(toy_run, tmp_path / "link" / "w")
    assert _dcmu("certificate", directory, 1, "--out", tmp_path / "link") == 2
    assert Workspace(directory).verify().clean and not Workspace(directory).verify().notes


def test_a_path_of_other_digits_is_a_path(served, copied, monkeypatch):  # noqa: F811
    directory = copied(served)
    monkeypatch.chdir(directory.parent)
    directory.rename("\u0663")
    assert _dcmu("status", "\u0663") == 0


@pytest.mark.parametrize("order", [["--preset", "condensed", "w"], ["w", "--preset", "condensed"]])
def test_a_folder_called_as_the_value_of_an_option(order, fresh, tmp_path, monkeypatch):  # noqa: F811
    """Its settings are another workspace's."""
    for name in ("w", "condensed"):
        shutil.copytree(fresh, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    config = json.loads((tmp_path / "condensed" / "config.json").read_text())
    config["method"]["online"]["forget_weight"] = 0.25
    (tmp_path / "condensed" / "config.json").write_text(json.dumps(config))
    found = process_defaults(order, None)
    assert found.method.online.forget_weight != 0.25
    other = [{"w": "condensed", "condensed": "condensed"}.get(word, word) for word in order]
    assert process_defaults(other, None).method.online.forget_weight == 0.25
    assert _dcmu("process", *order, "--quiet") == 0


def test_damage_is_a_refusal(served, copied, capsys):  # noqa: F811
    directory = copied(served)
    shutil.rmtree(directory / "versions" / "0000")
    assert _dcmu("verify", directory) == 2
    assert "0000/manifest.json is not as it was published (it is missing)" in (
        capsys.readouterr().err
    )


def test_a_certificate_is_written_as_a_whole_or_not_at_all(served, tmp_path, capsys):  # noqa: F811
    (tmp_path / "certificate-0001.html").mkdir()
    assert _dcmu("certificate", served, 1, "--out", tmp_path) == 2
    assert "certificate-0001.html is a folder" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["certificate-0001.html"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
@pytest.mark.parametrize("how", ["full", "closed"])
def test_a_request_whose_answer_cannot_be_written_is_said_to_be_on_record(
    copied, fresh, ids, monkeypatch, capsys, how  # noqa: F811
):  # fmt: skip
    w = copied(fresh)
    with takes_nothing(how) as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        assert _dcmu("request", w, ids_text(ids[:3])) == 1
        monkeypatch.undo()
    said = capsys.readouterr().err
    assert "The request is on record" in said and "3 accepted; receipt " in said
    assert "What the command did is done all the same" in said
    assert Workspace(w).status().pending == 3


def test_ids_from_what_is_no_plain_file(served, tmp_path, capsys):  # noqa: F811
    os.mkfifo(tmp_path / "pipe")
    assert _dcmu("request", served, f"ids:{tmp_path / 'pipe'}") == 2
    assert "pipe' is no plain file" in capsys.readouterr().err

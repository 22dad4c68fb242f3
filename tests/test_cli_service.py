"""The commands of the deletion service, and their refusals: exit status 2, and no traceback."""

import json
import shutil

import pytest
from service.conftest import copied, fresh, ids, purged, served, toy_run  # noqa: F401
from service.toy import ids_text

from dcmu_jax.cli import main


def _dcmu(*arguments):
    try:
        return main([str(argument) for argument in arguments])
    except SystemExit as stop:
        return stop.code


def test_a_life_of_a_workspace(toy_run, tmp_path, ids, capsys):  # noqa: F811
    w = tmp_path / "w"
    assert _dcmu("workspace", toy_run.directory, "--out", w, "--quiet") == 0
    assert "36 samples, version 0" in capsys.readouterr().out
    assert _dcmu("request", w, ids_text(ids[:3]), "--reference", "a") == 0
    assert "3 accepted; receipt " in capsys.readouterr().out
    assert _dcmu("request", w, ids_text(ids[:3])) == 0
    assert "3 already pending" in capsys.readouterr().out
    assert _dcmu("process", w, "--quiet") == 0
    out = capsys.readouterr().out
    assert "Version 1, published" in out and "forgot 3 samples by the method recommended" in out
    assert _dcmu("request", w, ids_text(ids[:2])) == 0
    assert "2 already forgotten" in capsys.readouterr().out
    assert _dcmu("status", w) == 0
    assert "forgotten    3" in capsys.readouterr().out
    assert _dcmu("verify", w) == 0
    assert "The workspace is as the service left it." in capsys.readouterr().out
    assert _dcmu("certificate", w, 1, "--out", tmp_path / "c") == 0
    assert "It is no proof that the network remembers nothing" in capsys.readouterr().out
    saved = json.loads((tmp_path / "c" / "certificate-0001.json").read_text())
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
        (["certificate", "W", "1", "--out", "W/about.json"], "The certificate cannot be written"),
        (["status", "nowhere"], "is no workspace"),
        (["verify", "nowhere"], "is no workspace"),
        (["workspace", "nowhere", "--out", "W2"], "is no run directory"),
        (["process", "W/versions"], "is no workspace"),
    ],
    ids=range(11),
)
def test_refusals(arguments, message, served, capsys):  # noqa: F811
    given = [str(served) + a[1:] if a[:2] in ("W", "W/") else a for a in arguments]
    assert _dcmu(*given) == 2
    captured = capsys.readouterr()
    assert message in captured.err and captured.err.startswith("dcmu: ")
    assert "Traceback" not in captured.err


def test_damage_is_a_refusal(served, copied, capsys):  # noqa: F811
    directory = copied(served)
    shutil.rmtree(directory / "versions" / "0000")
    assert _dcmu("verify", directory) == 2
    assert "0000/manifest.json is not as it was published (it is missing)" in (
        capsys.readouterr().err
    )

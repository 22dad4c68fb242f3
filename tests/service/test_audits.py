"""Audits interrupted at any point, and audits that the ledger does not know."""

import contextlib
import shlex
import subprocess

import pytest
from service.toy import bytes_of, ids_text

from dcmu_jax.errors import InputError
from dcmu_jax.service import Workspace, audits
from dcmu_jax.service.faults import FailingDisk, Killed
from dcmu_jax.service.verification import verify

LEDGERS = ("ledger.jsonl", "ledger.head")


@pytest.fixture(autouse=True)
def found(monkeypatch):
    """What the audit finds, without any oracles."""
    monkeypatch.setattr(audits, "audit_version", lambda *_, **__: b'{"passed": true}\n')
    return {"passed": True}


def _in_order(w):
    seen = verify(w)
    assert seen.clean and not seen.notes and Workspace(w).remains().unknown == []


def test_an_audit_killed_at_every_operation(copied, served, found):
    disk = FailingDisk()
    whole = copied(served)
    assert Workspace(whole, disk=disk).audit() == 1
    _in_order(whole)
    for at in range(1, len(disk.done) + 1):
        w = copied(served)
        with pytest.raises(Killed):
            Workspace(w, disk=FailingDisk(at, "kill", 0.5)).audit()
        assert verify(w).clean, disk.done[at - 1]
        kept = Workspace(w).certificate(1)["audit"]
        assert kept == (found if 1 in Workspace(w).history().audits else None)
        assert Workspace(w).process() == []
        assert Workspace(w).audit() == 1 and Workspace(w).certificate(1)["audit"] == found
        _in_order(w)


@pytest.mark.parametrize("fault", ["kill", "full"])
def test_what_an_audit_left_is_gone_after_the_next_batch(copied, served, ids, fault):
    w = copied(served)
    at = 1 + _operations(copied(served)).index(("write", ".0001.json.part"))
    with contextlib.suppress(Killed, InputError):
        Workspace(w, disk=FailingDisk(at, fault)).audit()
    assert (w / "audits" / ".0001.json.part").exists()
    assert any("interrupted" in note for note in verify(w).notes)
    Workspace(w).request(ids_text(ids[3:4]))
    assert Workspace(w).process() == [2]
    _in_order(w)


def _operations(w):
    disk = FailingDisk()
    Workspace(w, disk=disk).audit()
    return disk.done


def test_an_audit_that_the_ledger_does_not_know_is_not_written_over(copied, served, tmp_path):
    w = copied(served)
    before = {name: (w / name).read_bytes() for name in LEDGERS}
    Workspace(w).audit()
    for name, data in before.items():
        (w / name).write_bytes(data)
    kept = bytes_of(w)
    with pytest.raises(InputError, match=r"no line of ledger\.jsonl tells of it") as raised:
        Workspace(w).audit()
    assert bytes_of(w) == kept
    for notes in (Workspace(w).status().notes, verify(w).notes):
        assert any("no line of ledger.jsonl tells of it" in note for note in notes)
    command = raised.value.remedy.partition("move it out of the workspace: ")[2]
    subprocess.run(shlex.split(command.replace("ELSEWHERE", str(tmp_path))), check=True)
    assert Workspace(w).audit() == 1
    _in_order(w)

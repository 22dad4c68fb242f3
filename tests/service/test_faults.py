"""Killed, or out of disk, at every operation: nothing acknowledged is lost, and the bits stay."""

import gc
import shutil
import sys

import numpy as np
import pytest
from service.toy import ids_text

from dcmu_jax.errors import InputError
from dcmu_jax.service import Workspace
from dcmu_jax.service.disk import archive
from dcmu_jax.service.faults import FailingDisk, Killed
from dcmu_jax.service.verification import verify

FAULTS = ("kill", "error", "half", "full")


def _survives(directory, disk, act, acknowledged, *, look=True):
    """Do ``act`` once on a failing disk, ``look`` at what is left, and do it again."""
    hit = None
    try:
        act(Workspace(directory, disk=disk), disk.hooks)
    except (Killed, InputError):
        hit = disk.hit
        assert hit is not None
    found = verify(directory) if look else None
    assert found is None or found.clean, (hit, found)
    history = Workspace(directory).history()
    gone = {*history.forgotten.tolist(), *history.waiting.tolist()}
    assert acknowledged <= gone, hit
    act(Workspace(directory), FailingDisk().hooks)
    found = verify(directory) if look else None
    assert found is None or (found.clean and not found.notes), (hit, found)
    return hit


@pytest.mark.parametrize("fault", FAULTS)
def test_a_request_interrupted_at_every_operation(fault, copied, fresh, ids):
    def act(workspace, _):
        assert len(workspace.request(ids_text(ids[3:5])).accepted) in (0, 2)

    first = copied(fresh)
    Workspace(first).request(ids_text(ids[:3]))
    whole = copied(first)
    disk = FailingDisk()
    act(Workspace(whole, disk=disk), None)
    hits = set()
    for at in range(1, len(disk.done) + 1):
        directory = copied(first)
        disk_ = FailingDisk(at, fault, 0.3)
        hits.add(_survives(directory, disk_, act, set(ids[:3]), look=at == 3))
        history, undisturbed = Workspace(directory).history(), Workspace(whole).history()
        assert history.digest() == undisturbed.digest()
        assert len(history.requests) == 2
        shutil.rmtree(directory)
    assert len(hits - {None}) >= 6


def _process(workspace, hooks):
    workspace.process(hooks)


@pytest.fixture
def asked(copied, fresh, ids):
    directory = copied(fresh)
    Workspace(directory).request(ids_text(ids[:3]))
    return directory


def test_a_batch_interrupted_ends_with_the_same_bits(copied, asked, ids):
    """At some of all operations, one fault after the other; all of them are in the experiment."""
    whole, disk = copied(asked), FailingDisk()
    _process(Workspace(whole, disk=disk), disk.hooks)
    end = Workspace(whole).network().fingerprint()
    kinds = list(dict.fromkeys(disk.done))
    assert {what for what, _ in kinds} == {
        "open", "write", "sync", "create", "rename", "epoch", "make", "save",
    }  # fmt: skip
    hits = []
    for number, kind in enumerate(kinds[2::14]):
        directory, at = copied(asked), disk.done.index(kind) + 1
        failing = FailingDisk(at, FAULTS[number % 4], 0.7)
        hits.append(_survives(directory, failing, _process, set(ids[:3])))
        assert Workspace(directory).network().fingerprint() == end, (kind, number % 4)
        shutil.rmtree(directory)
    assert len([hit for hit in hits if hit]) >= 3, hits


def test_a_batch_closed_before_a_crash_takes_no_later_request(copied, asked, ids):
    whole = copied(asked)
    Workspace(whole).process()
    disk = FailingDisk()
    with pytest.raises(Killed):
        dying = FailingDisk(1, "kill")
        dying.step = _at_the_first_epoch  # type: ignore[method-assign]
        Workspace(asked, disk=disk).process(dying.hooks)
    workspace = Workspace(asked)
    assert workspace.status().interrupted == 1
    workspace.request(ids_text(ids[3:6]))
    with pytest.raises(InputError, match="A purge while version 1 is unfinished"):
        workspace.purge()
    assert workspace.process() == [1, 2]
    assert workspace.certificate(1)["record"]["forgotten"] == sorted(ids[:3])
    assert workspace.certificate(2)["record"]["forgotten"] == sorted(ids[3:6])
    parameters = [w.certificate(1)["hashes"]["parameters"] for w in (workspace, Workspace(whole))]
    assert parameters[0] == parameters[1]


def _at_the_first_epoch(what, path):
    raise Killed


class _AtRemoval(FailingDisk):
    """Fails at the removal of that number: how many operations come before it is not the same
    every time, as Orbax does not always write as many files."""

    def __init__(self, number, fault):
        super().__init__(0, fault)
        self.number, self.removals = number, 0

    def step(self, what, path):
        self.removals += what == "remove"
        if what == "remove" and self.removals == self.number:
            self.at = len(self.done) + 1
        super().step(what, path)


def test_a_purge_interrupted_while_it_removes(copied, served):
    whole = copied(served)
    assert Workspace(whole).purge() == 2
    end = Workspace(whole).network().fingerprint()
    for number, fault in ((1, "kill"), (3, "error")):
        directory = copied(served)
        with pytest.raises((Killed, InputError)):
            Workspace(directory, disk=_AtRemoval(number, fault)).purge()
        found = verify(directory)
        assert found.clean and "a purge has still to remove" in found.notes[0]
        assert Workspace(directory).purge() is None  # published already; only removes what is left
        assert not verify(directory).notes
        assert Workspace(directory).network().fingerprint() == end


def test_what_a_failed_write_leaves_is_collected_in_silence(tmp_path, monkeypatch):
    """Python 3.13 reports a buffer that cannot be closed; earlier ones keep that to themselves."""
    reported = []
    monkeypatch.setattr(sys, "unraisablehook", lambda what: reported.append(what.exc_value))

    def write():
        try:
            FailingDisk(2, "error").create(tmp_path / "a.npz", archive({"a": np.zeros(9)}))
        except OSError as error:
            return [error]  # whose traceback holds this frame, and so on in a circle

    left = write()
    left.append(left)
    del left
    gc.collect()
    assert reported == [] and isinstance(archive({}), bytes)

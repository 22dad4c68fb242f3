"""Finished versions that no line published, ledgers that were put back, looks overtaken."""

import shutil

import pytest
from service.toy import bytes_of, ids_text

from dcmu_jax.cli import main
from dcmu_jax.errors import InputError
from dcmu_jax.service import Workspace, contents
from dcmu_jax.service import work as work_module
from dcmu_jax.service import workspace as workspace_module
from dcmu_jax.service.contents import current_network, version_folder
from dcmu_jax.service.faults import FailingDisk, Killed
from dcmu_jax.service.opened import looked_at
from dcmu_jax.service.verification import verify

LEDGERS = ("ledger.jsonl", "ledger.head")


class _DiesAfterTheRename(FailingDisk):
    """When a version has its name and no line publishes it."""

    def step(self, what, path):
        if what == "sync" and path.name == "versions":
            raise Killed


def _kept(w):
    return {name: (w / name).read_bytes() for name in LEDGERS}


def _put_back(w, files):
    for name, data in files.items():
        (w / name).write_bytes(data)


@pytest.mark.parametrize("work", ["process", "purge"])
def test_a_finished_version_is_published_and_not_made_again(copied, served, ids, work, monkeypatch):
    w = copied(served)
    if work == "process":
        Workspace(w).request(ids_text(ids[3:5]))
    with pytest.raises(Killed):
        getattr(Workspace(w, disk=_DiesAfterTheRename()), work)()
    found = verify(w)
    assert found.clean and found.notes[0].startswith("versions/0002 has the name of work that")
    assert Workspace(w).status().version == 1
    before = bytes_of(version_folder(w, 2))
    late = Workspace(w).request(ids_text(ids[5:6]))  # requests are taken meanwhile
    assert len(late.accepted) == 1
    for name in ("forget_batch", "make_bank_again"):
        monkeypatch.setattr(work_module, name, None)
    if work == "purge":
        assert Workspace(w).purge() == 2
    else:
        with pytest.raises(TypeError):  # the batch of the late request, for which nothing is made
            Workspace(w).process()
    assert Workspace(w).status().version == 2
    assert bytes_of(version_folder(w, 2)) == before


def test_a_finished_version_with_a_changed_byte_is_not_published(copied, served):
    w = copied(served)
    with pytest.raises(Killed):
        Workspace(w, disk=_DiesAfterTheRename()).purge()
    bank = version_folder(w, 2) / "bank.npz"
    bank.write_bytes(bank.read_bytes()[:-1])
    before = bytes_of(w)
    with pytest.raises(InputError, match=r"0002/bank\.npz has changed"):
        Workspace(w).purge()
    assert bytes_of(w) == before


@pytest.fixture
def lives(copied, fresh, ids):
    """A workspace through a batch and a purge, and its ledger at every step."""
    w, ledgers = copied(fresh), {}
    ledgers["fresh"] = _kept(w)
    Workspace(w).request(ids_text(ids[:3]), reference="r")
    ledgers["asked"] = _kept(w)
    Workspace(w).process()
    ledgers["processed"] = _kept(w)
    Workspace(w).request(ids_text(ids[3:5]))
    Workspace(w).process()
    ledgers["twice"] = _kept(w)
    Workspace(w).purge()
    return w, ledgers


def test_a_ledger_that_was_put_back_is_a_problem_and_nothing_is_removed(lives, ids, capsys):
    w, ledgers = lives
    last = _kept(w)
    for name in ("fresh", "asked", "processed"):
        _put_back(w, ledgers[name])
        before = bytes_of(w)
        for act in (
            lambda: Workspace(w).process(),
            lambda: Workspace(w).purge(),
            lambda: Workspace(w).status(),
            lambda: Workspace(w).request(ids_text(ids[7:8])),
            lambda: Workspace(w).audit(oracles=4),
            lambda: Workspace(w).set_max_accuracy_loss(7),
            lambda: Workspace(w).network(),
            lambda: Workspace(w).version(),
        ):
            with pytest.raises(
                InputError, match=r"The ledger does not know versions/000\d"
            ) as raised:
                act()
            assert "do not put these back, they hold forgotten images" in str(raised.value)
            assert bytes_of(w) == before
        (problem,) = verify(w).problems  # what a purge removed is not said to be missing
        assert problem.startswith("The ledger does not know") and "forgotten images" in problem
        for command in ("verify", "status", "process"):
            assert main([command, str(w)]) == 2
            said = capsys.readouterr().err
            assert "does not know" in said and "missing" not in said
        assert bytes_of(w) == before
    _put_back(w, last)  # as the message says
    assert verify(w).clean and Workspace(w).request(ids_text(ids[7:8])).accepted.size == 1


def test_the_receipts_that_are_missing_are_named(copied, served, fresh):
    w = copied(served)
    receipt = Workspace(w).history().ledger.hashes[2]
    _put_back(w, _kept(fresh))
    with pytest.raises(InputError, match=f"the ledger lacks requests .* the receipts {receipt}"):
        Workspace(w).process()
    # The other way that the message names: out of the workspace, and kept.
    shutil.move(version_folder(w, 1), w.parent / "kept")
    assert verify(w).clean and Workspace(w).process() == []


def test_a_ledger_put_back_to_before_a_purge_finds_the_purge_again(lives, ids, caplog):
    """What is missing then holds forgotten images: nobody is told to put it back."""
    w, ledgers = lives
    Workspace(w).request(ids_text(ids[8:9]))
    before, last = bytes_of(w / "versions"), _kept(w)
    _put_back(w, ledgers["twice"])
    (problem,) = verify(w).problems
    assert problem in Workspace(w).status().notes
    assert "versions/0003 is a finished purge that the ledger lacks" in problem
    assert not any("missing" in note for note in Workspace(w).status().notes)
    for act in (
        lambda: Workspace(w).network(),
        lambda: Workspace(w).version(),
        lambda: Workspace(w).request(ids_text(ids[:1]), with_copies=True),
    ):
        with pytest.raises(InputError, match="finished purge that the ledger lacks") as raised:
            act()
        assert "Restore" not in str(raised.value)
    _put_back(w, last)  # as it says
    assert verify(w).clean
    _put_back(w, ledgers["twice"])  # and the other way
    assert Workspace(w).process() == [3] and "Version 3 is entered in the ledger" in caplog.text
    assert bytes_of(w / "versions") == before and verify(w).clean


def test_process_after_a_purge_that_was_interrupted_reports_all_that_it_publishes(
    copied, served, ids, capsys
):
    w = copied(served)
    with pytest.raises(Killed):
        Workspace(w, disk=_DiesAfterTheRename()).purge()
    kept = copied(w)
    assert main(["process", str(kept), "--quiet"]) == 0
    assert "Version 2, published" in (out := capsys.readouterr().out) and "Accuracy" not in out
    Workspace(w).request(ids_text(ids[3:5]))
    assert main(["process", str(w), "--quiet"]) == 0
    out = capsys.readouterr().out
    assert "has the network of the version before" in out
    assert "Version 3, published" in out and out.count("Accuracy on") == 1


def _after_the_first_look(monkeypatch, module, name, act):
    """Let ``act`` happen in the middle of the first call of a function."""
    plain, calls = getattr(module, name), []

    def overtaken(*args, **rest):
        calls.append(args)
        if len(calls) == 1:
            act()
        return plain(*args, **rest)

    monkeypatch.setattr(module, name, overtaken)
    return calls


@pytest.mark.parametrize("work", ["process", "purge"])
def test_a_verification_that_is_overtaken_starts_over(copied, served, ids, work, monkeypatch):
    w = copied(served)
    Workspace(w).request(ids_text(ids[3:5]))
    act = getattr(Workspace(w), work)
    calls = _after_the_first_look(monkeypatch, contents, "read_manifest", act)
    found = verify(w)
    assert found.clean and not found.notes
    assert len(calls) > 3 and Workspace(w).status().version == 2


def test_what_is_read_while_a_purge_overtakes_it(copied, served, monkeypatch):
    w = copied(served)
    workspace = Workspace(w)
    calls = _after_the_first_look(monkeypatch, workspace_module, "current_network",
                                  Workspace(w).purge)  # fmt: skip
    found = workspace.network().fingerprint()
    assert len(calls) == 2 and found == Workspace(served).network().fingerprint()


def test_work_without_end_is_said_and_waited_for_no_longer(copied, served, monkeypatch):
    w = copied(served)
    numbers = iter(range(100))
    monkeypatch.setattr("dcmu_jax.service.opened._work_of", lambda history: next(numbers))
    (problem,) = verify(w).problems
    assert "each of the 5 times" in problem
    with pytest.raises(InputError, match="look again"):
        looked_at(w, lambda history: current_network(w, Workspace(w).fixed, history))


def test_a_damaged_network_is_not_to_be_deleted(copied, served):
    w = copied(served)
    path = version_folder(w, 1) / "network" / "final" / "manifest.ocdbt"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match=r"network/final/manifest\.ocdbt has changed") as raised:
        Workspace(w).network()
    assert "Delete" not in str(raised.value)

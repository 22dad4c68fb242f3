"""A workspace: requests answered, batches that add up, versions, purges, certificates."""

import json
import re
import shutil

import numpy as np
import pytest
from service.toy import CONFIG, bytes_of, ids_text

from dcmu_jax.cli import main
from dcmu_jax.condensation.bank import CondensedBank
from dcmu_jax.errors import InputError
from dcmu_jax.locks import locked
from dcmu_jax.runs import stages
from dcmu_jax.service import Workspace, work
from dcmu_jax.service.contents import version_folder
from dcmu_jax.service.faults import FailingDisk
from dcmu_jax.training.divergence import Diverged


def test_a_new_workspace(fresh, toy_run):
    workspace = Workspace(fresh)
    status = workspace.status()
    assert (status.version, status.retained, status.forgotten, status.pending) == (0, 36, 0, 0)
    assert status.interrupted is None and status.network.is_dir()
    assert workspace.network().fingerprint() == toy_run.train().fingerprint()
    assert workspace.verify().clean and not workspace.verify().notes
    version = workspace.version()
    assert version.train.fingerprint() == toy_run.splits.train.fingerprint()
    assert not [path for path in fresh.parent.iterdir() if path.name.startswith(".")]


def test_a_directory_that_is_there_or_none(fresh, toy_run, tmp_path):
    before = bytes_of(fresh)
    with pytest.raises(InputError, match="exists already"):
        Workspace.create(toy_run, fresh)
    assert bytes_of(fresh) == before
    with pytest.raises(InputError, match="is no workspace"):
        Workspace(tmp_path)


def test_a_workspace_that_cannot_be_made_leaves_nothing(toy_run, tmp_path):
    with pytest.raises(InputError, match="No space left on device"):
        Workspace.create(toy_run, tmp_path / "w", disk=FailingDisk(20, "full"))
    assert list(tmp_path.iterdir()) == []


def test_requests_are_answered(copied, fresh, ids, tmp_path):
    workspace = Workspace(copied(fresh))
    (tmp_path / "ids.txt").write_text(f"{ids[0]}\n{ids[1]}\n")
    first = workspace.request(f"ids:{tmp_path / 'ids.txt'}")
    assert first.accepted.tolist() == sorted(ids[:2]) and first.line == 2
    assert first.receipt == workspace.status().head
    again = workspace.request(ids_text(ids[1:3]))
    assert again.accepted.tolist() == [ids[2]] and again.pending.tolist() == [ids[1]]
    before = bytes_of(workspace.directory)
    known = workspace.request(ids_text(ids[:3]))
    assert known.line is None and known.pending.tolist() == sorted(ids[:3])
    assert known.sentence() == "3 already pending"
    assert bytes_of(workspace.directory) == before
    # The ledger does not say in which folder of whose machine the file lay.
    assert workspace.history().requests[2].text == "ids:ids.txt"


def test_a_request_for_what_is_unknown_acknowledges_nothing(copied, fresh, ids):
    workspace = Workspace(copied(fresh))
    before = bytes_of(workspace.directory)
    everything = "class:0+class:1+class:2"
    for text in (f"ids:{ids[0]},999999", "class:7", "ids:nowhere.txt", "all", "", everything):
        with pytest.raises(InputError):
            workspace.request(text)
    workspace.request("class:0")
    with pytest.raises(InputError, match="leaves no sample to train on"):
        workspace.request("class:1+class:2")
    assert len(workspace.history().requests) == 1
    del before["ledger.jsonl"], before["ledger.head"]
    assert before.items() <= bytes_of(workspace.directory).items()


def test_a_reference_makes_a_request_safe_to_repeat(copied, fresh):
    workspace = Workspace(copied(fresh))
    one = workspace.request("random:0.1", reference="ticket 7")
    again = workspace.request("random:0.1", reference="ticket 7")
    assert len(one.accepted) == 3 and again.line == one.line and again.receipt == one.receipt
    assert again.pending.tolist() == one.accepted.tolist() and not len(again.accepted)
    other = workspace.request("random:0.1")
    assert not np.isin(other.accepted, one.accepted).any() and len(other.accepted) == 3
    with pytest.raises(InputError, match="with another request than before"):
        workspace.request("class:1", reference="ticket 7")


def test_a_batch_is_the_online_phase_on_what_is_left(served, fresh, ids):
    workspace, before = Workspace(served), Workspace(fresh)
    record = workspace.certificate(1)["record"]
    assert record["forgotten"] == sorted(ids[:3]) and record["retained"] == 33
    assert workspace.verify().clean
    version = workspace.version()
    assert not np.isin(version.train.ids, ids[:3]).any() and len(version.held) == 36
    assert not np.isin(version.bank.ids, ids[:3]).any()
    # The same by the stages of a run, which know nothing of workspaces.
    history = workspace.history()
    seed = work.seed_of(workspace.fixed.config, 1, history.digest())
    assert record["seed"] == seed
    made = work.forget_batch(before.fixed, before.version(), np.sort(ids[:3]), seed)
    assert made.network.fingerprint() == workspace.network().fingerprint()
    assert workspace.network().fingerprint() != before.network().fingerprint()
    accuracy = 100 * workspace.network().evaluate(version.train).correct.mean()
    assert record["accuracy"]["retained"] == pytest.approx(accuracy, abs=1e-3)


def test_what_is_forgotten_never_returns(purged, ids, monkeypatch, copied):
    """The training set handed to each online phase lacks all that went before."""
    workspace = Workspace(copied(purged))
    assert workspace.request(ids_text(ids[:6])).forgotten.tolist() == sorted(ids[:6])
    seen = []

    class Enough(Exception):
        pass

    def watched(name, config, original, splits, request, **rest):
        seen.append((splits.train.ids, rest["prepared"].bank.ids, request.ids, original))
        raise Enough

    monkeypatch.setattr(stages, "unlearn", watched)
    with pytest.raises(Enough):
        workspace.process()
    ((train, bank, gone, network),) = seen
    assert gone.tolist() == sorted(ids[6:9])
    assert sorted(train.tolist()) == sorted(bank.tolist()) == sorted(ids[6:])
    assert network.fingerprint() == workspace.network().fingerprint()  # the last one, no earlier
    status = workspace.status()
    assert (status.version, status.forgotten, status.retained, status.unpurged) == (3, 6, 30, 0)
    assert status.interrupted == 4 and workspace.verify().clean


def test_the_pixels_of_a_batch_have_no_part_in_the_bank_that_follows(fresh, ids):
    workspace = Workspace(fresh)
    before, gone = workspace.version(), np.sort(ids[:3])
    made = work.forget_batch(workspace.fixed, before, gone, 1)
    untouched = ~np.isin(before.bank.cluster, before.bank.cluster[np.isin(before.bank.ids, gone)])
    kept = before.bank.ids[untouched]
    assert 0 < len(kept) < 33
    equal = 1 / made.bank.sizes[made.bank.cluster]
    start = dict(zip(made.bank.ids.tolist(), made.bank.weights - equal, strict=True))
    old = dict(zip(before.bank.ids.tolist(), before.bank.weights, strict=True))
    assert set(made.bank.ids.tolist()) == set(ids[3:])
    same = dict(zip(made.bank.ids.tolist(), made.bank.weights, strict=True))
    assert all(same[i] == old[i] for i in kept.tolist())
    assert max(abs(v) for v in start.values()) < 0.1  # cold: near to equal weights


def test_a_purge(purged, served, ids):
    """No image, bank or network of before is left, but their numbers are."""
    workspace = Workspace(purged)
    for number in range(3):
        files = sorted(bytes_of(version_folder(purged, number)))
        assert files == ["manifest.json", "record.json"]
    version = workspace.version()
    assert sorted(version.held.ids.tolist()) == sorted(ids[6:])
    assert version.features is version.network or (
        version.features.fingerprint() == version.network.fingerprint()
    )
    images = Workspace(served).version().held
    gone = [images.images[images.positions(np.array([i]))[0]].tobytes() for i in ids[:6]]
    everything = b"".join(bytes_of(purged).values())
    assert not any(image in everything for image in gone)
    record = workspace.certificate(3)["record"]
    assert record["images_removed"] == 5 + 0 + 1 and record["retained"] == 30
    hashes = [workspace.certificate(number)["hashes"]["parameters"] for number in (2, 3)]
    assert hashes[0] == hashes[1]
    assert workspace.verify().clean and not workspace.verify().notes
    assert workspace.certificate(1)["images_purged"]
    copy = CondensedBank.load(version_folder(purged, 3) / "bank.npz")
    assert copy.model_fingerprint == workspace.network().fingerprint()


def test_there_is_nothing_to_purge_twice(copied, purged):
    workspace = Workspace(copied(purged))
    before = bytes_of(workspace.directory)
    assert workspace.purge() is None
    assert bytes_of(workspace.directory) == before


def test_a_purge_that_diverges_says_ways_on_that_can_be_typed(
    copied, served, ids, tmp_path, monkeypatch, capsys
):
    w, run, new = copied(served), str(tmp_path / "run"), str(tmp_path / "new")
    before = bytes_of(w)

    def diverges(*_):
        raise Diverged("condensed images are not finite", "matching.learning_rate", 1e-3)

    with monkeypatch.context() as patch:
        patch.setattr(stages, "_build_bank", diverges)
        assert main(["purge", str(w), "--quiet"]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "Nothing was removed: Condensing diverged" in said and bytes_of(w) == before
    found = re.search(r"workspace \(dcmu (.*)\) of a run with (--\S+) below (\S+),", said)
    assert found
    tiny = ["--training.epochs", "1", "--method.remembrance.per-class", "1", "--quiet"]
    train = ["train", "--dataset", CONFIG.dataset, "--out", run, *tiny]
    assert main([*train, found[2], str(float(found[3]) / 2)]) == 0
    command = found[1].replace("RUN", run).replace("NEW", new).split()
    assert main([*command, "--quiet"]) == 0
    Workspace(w).request(ids_text(ids[3:4]))
    assert Workspace(w).process() == [2] and Workspace(w).purge() == 3


def test_requests_are_taken_while_a_batch_is_worked_on(copied, fresh, ids):
    workspace = Workspace(copied(fresh))
    workspace.request(ids_text(ids[:3]))
    with locked(workspace.directory / "work.lock", wait_s=0.0):
        assert len(workspace.request(ids_text(ids[3:4])).accepted) == 1
        assert workspace.status().pending == 4
        for work_ in (workspace.process, workspace.purge):
            with pytest.raises(InputError, match="Another process is at work"):
                work_()
    assert workspace.status().version == 0


def test_a_certificate(purged, served):
    workspace = Workspace(purged)
    certificate = workspace.certificate(2)
    json.dumps(certificate)
    requests = certificate["record"]["requests"]
    assert [request["reference"] for request in requests] == ["ticket 1", None]
    assert [request["samples"] for request in requests] == [2, 1]
    assert certificate["forgotten_in_all"] == 6
    assert (
        certificate["hashes"]["manifest_before"] == (workspace.certificate(1)["hashes"]["manifest"])
    )
    assert certificate["record"]["settings"]["condensation"]["clusters_per_class"] == 4
    assert certificate["record"]["cost"]["online_s"] > 0 and certificate["audit"] is None
    for number in (-1, 4):
        with pytest.raises(InputError, match="There is no version"):
            workspace.certificate(number)
    assert not Workspace(served).certificate(1)["images_purged"]


def test_changed_files_are_not_worked_with(copied, served, ids):
    directory = copied(served)
    Workspace(directory).request(ids_text(ids[3:6]))
    bank = version_folder(directory, 1) / "bank.npz"
    spoiled = bytearray(bank.read_bytes())
    spoiled[-1] ^= 1
    bank.write_bytes(spoiled)
    before = bytes_of(directory)
    for work_ in (Workspace(directory).process, Workspace(directory).purge):
        with pytest.raises(InputError, match=r"0001/bank.npz has changed"):
            work_()
    assert bytes_of(directory) == before
    shutil.copy(version_folder(served, 1) / "bank.npz", bank)
    assert Workspace(directory).verify().clean

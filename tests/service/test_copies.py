"""The same image under two ids: said at the request, in the certificate; forgotten if asked."""

import dataclasses
import io
import re

import numpy as np
import pytest
from service.toy import CONFIG, ids_text

from dcmu_jax.cli import main
from dcmu_jax.cli import runs as cli_runs
from dcmu_jax.cli.output import Output
from dcmu_jax.data.dataset import Splits
from dcmu_jax.errors import InputError
from dcmu_jax.reporting.certificate import certificate_sentences
from dcmu_jax.runs import stages
from dcmu_jax.runs.run import Run
from dcmu_jax.service import Workspace, certificate


@pytest.fixture(scope="module")
def made(toy_run, tmp_path_factory):
    """A workspace where the image of id A is that of B, of a test and of a remembrance sample."""
    splits = toy_run.splits
    config = dataclasses.replace(
        CONFIG, dataset="synthetic:classes=3,per_class=12,size=8,channels=1"
    )
    images, test = splits.train.images.copy(), splits.test.images.copy()
    remembered = stages.remembrance_of(config, config.preset, splits)
    at = splits.test.positions(remembered.ids)[0]
    other = np.flatnonzero(~np.isin(splits.test.ids, remembered.ids))[0]
    images[1] = images[0]
    test[at] = test[other] = images[0]
    splits = Splits(
        splits.name,
        dataclasses.replace(splits.train, images=images),
        dataclasses.replace(splits.test, images=test),
        splits.class_names,
    )
    folder = tmp_path_factory.mktemp("copies")
    run = Run.create(folder / "run", config, splits=splits)
    Workspace.create(run, folder / "w", max_accuracy_loss=100)
    tests = sorted(splits.test.ids[[at, other]].tolist())
    return folder / "w", run, splits.train.ids[:2].tolist(), tests, int(remembered.ids[0])


def test_copies_are_said_and_stay_where_nobody_asks_for_them(made, copied):
    directory, _, (first, second), tests, remembered = made
    workspace = Workspace(copied(directory))
    answer = workspace.request(ids_text([first]))
    expected = {"train": [second], "test": tests, "remembrance": [remembered]}
    assert answer.copies is not None and answer.copies.plain() == expected
    said = answer.sentence()
    assert f"have the same images and stay: {second}. Ask again with --with-copies" in said
    assert "2 test sample(s) have the same images" in said
    assert workspace.process() == [1]
    certificate = workspace.certificate(1)
    assert certificate["record"]["copies"] == expected
    assert f"and stay: {second}." in " ".join(certificate_sentences(certificate))
    assert second in workspace.version().train.ids


def test_copies_go_with_it_where_they_are_asked_for(made, copied):
    directory, _, (first, second), _, _ = made
    workspace = Workspace(copied(directory))
    answer = workspace.request(ids_text([first]), reference="r", with_copies=True)
    assert answer.accepted.tolist() == sorted([first, second]) and answer.added == 1
    assert "1 of them are copies under other ids" in answer.sentence()
    again = workspace.request(ids_text([first]), reference="r", with_copies=True)
    assert again.receipt == answer.receipt and len(again.pending) == 2
    assert workspace.process() == [1]
    record = workspace.certificate(1)["record"]
    assert record["copies"]["train"] == [] and record["requests"][0]["copies_added"] == 1
    assert workspace.verify().clean


def _receipts(workspace):
    return workspace.history().ledger.hashes


@pytest.mark.parametrize("reference", [None, "r"])
@pytest.mark.parametrize("processed", [False, True])
def test_copies_may_be_asked_for_later(made, copied, reference, processed):
    directory, _, (first, second), _, _ = made
    workspace = Workspace(copied(directory))
    one = workspace.request(ids_text([first]), reference=reference)
    assert "Ask again with --with-copies" in one.sentence()
    if processed:
        workspace.process()
    again = workspace.request(ids_text([first]), reference=reference, with_copies=True)
    assert again.accepted.tolist() == [second] and again.added == 1
    assert again.receipt == _receipts(workspace)[-1] != one.receipt
    assert again.copies is not None and again.copies.plain()["train"] == []
    known = again.forgotten if processed else again.pending
    assert known.tolist() == [first] and "1 of them are copies" in again.sentence()
    lines = len(_receipts(workspace))
    repeated = workspace.request(ids_text([first]), reference=reference, with_copies=True)
    assert len(repeated.accepted) == 0 and len(_receipts(workspace)) == lines
    assert repeated.receipt == (again.receipt if reference else None)
    workspace.process()
    assert second not in workspace.version().train.ids and workspace.verify().clean


def test_a_reference_may_name_its_copies_and_no_other_ids(made, copied):
    directory, _, (first, second), _, _ = made
    workspace = Workspace(copied(directory))
    one = workspace.request(ids_text([first]), reference="r")
    for other in ([second], [first, second, 5], [first, 5]):
        with pytest.raises(InputError, match="with another request than before"):
            workspace.request(ids_text(other), reference="r", with_copies=True)
    both = workspace.request(ids_text([first, second]), reference="r")
    assert both.accepted.tolist() == [second] and both.receipt != one.receipt
    assert workspace.request(ids_text([first, second]), reference="r").receipt == both.receipt
    assert workspace.request(ids_text([first]), reference="r").receipt == one.receipt
    with pytest.raises(InputError, match="with another request than before"):
        workspace.request(ids_text([second]), reference="r")
    assert workspace.verify().clean


def test_copies_of_purged_images_are_not_said_to_be_looked_for(made, copied):
    directory, _, (first, second), _, _ = made
    workspace = Workspace(copied(directory))
    workspace.request(ids_text([first]))
    workspace.process()
    workspace.purge()
    answer = workspace.request(ids_text([first]), with_copies=True)
    assert answer.purged == 1 and len(answer.accepted) == 0
    assert "of 1 of them no copies could be looked for" in answer.sentence().lower()
    text = " ".join(certificate_sentences(workspace.certificate(1)))
    assert f"stay: {second}" in text
    assert "purged from the workspace under the ids that were forgotten, but not the copies" in text
    assert "under the ids that" in " ".join(certificate_sentences(workspace.certificate(2)))
    assert len(workspace.request(ids_text([second])).accepted) == 1  # as the answer says


def test_the_certificate_says_what_became_of_the_copies_by_now(made, copied):
    directory, _, (first, second), _, _ = made
    workspace = Workspace(copied(directory))

    def said():
        found = workspace.certificate(1)
        return found["copies"], " ".join(certificate_sentences(found))

    workspace.request(ids_text([first]))
    workspace.process()
    assert f"and stay: {second}. No request named them." in said()[1]
    workspace.request(ids_text([second]))
    copies, text = said()
    assert copies["waiting"] == [second] and "stay" not in text.split("under other ids")[1]
    assert f"and wait to be forgotten: {second}." in text
    workspace.process()
    for read in (True, False):
        copies, text = said()
        assert (copies["train"], copies["forgotten"]) == ([], [second])
        assert f"are forgotten, too: {second}." in text and copies["images_read"] == read
        assert ("So the version's record says" in text) != read
        if read:
            workspace.purge()


def test_copies_that_the_record_does_not_know(made, copied, monkeypatch):
    """Records of early versions have none, and are looked up in the images while they are there."""
    directory, _, (first, second), tests, _ = made
    workspace = Workspace(copied(directory))
    workspace.request(ids_text([first]))
    workspace.process()
    plain = certificate.read_record

    def read_record(*given):
        return {name: value for name, value in plain(*given).items() if name != "copies"}

    monkeypatch.setattr(certificate, "read_record", read_record)
    found = workspace.certificate(1)["copies"]
    assert (found["train"], found["test"]) == ([second], tests)
    workspace.purge()
    found = workspace.certificate(1)
    assert found["copies"] is None
    assert "were not looked for" in " ".join(certificate_sentences(found))


def test_the_command_adds_copies_when_asked_again(made, copied, capsys):
    directory, _, (first, _), _, _ = made
    w = str(copied(directory))
    assert main(["request", w, ids_text([first]), "--reference", "r"]) == 0
    assert "Ask again with --with-copies" in capsys.readouterr().out
    assert main(["request", w, ids_text([first]), "--reference", "r", "--with-copies"]) == 0
    said = capsys.readouterr().out
    assert "1 accepted, 1 already pending; receipt " in said and "1 of them are copies" in said


def test_a_request_without_copies_says_nothing_of_them(copied, fresh, ids):
    workspace = Workspace(copied(fresh))
    answer = workspace.request(ids_text(ids[:2]), with_copies=True)
    assert not answer.copies and answer.added == 0
    assert answer.sentence() == f"2 accepted; receipt {answer.receipt}"


def test_a_request_is_taken_where_the_images_cannot_be_read(copied, fresh, ids):
    directory = copied(fresh)
    (directory / "versions" / "0000" / "train.npz").write_bytes(b"")
    answer = Workspace(directory).request(ids_text(ids[:2]))
    assert answer.copies is None and len(answer.accepted) == 2
    assert "Copies under other ids were not looked for: " in answer.sentence()
    before = len(_receipts(Workspace(directory)))
    with pytest.raises(InputError, match=r"Copies cannot be looked for: .*train\.npz") as raised:
        Workspace(directory).request(ids_text(ids[2:3]), with_copies=True)
    assert "Nothing was acknowledged" in raised.value.remedy
    assert len(_receipts(Workspace(directory))) == before


def test_no_remembrance_sample_is_a_forgotten_image(made, monkeypatch):
    _, run, (first, _), _, remembered = made
    given = []

    def method(self, task, hooks):
        given.append(task.prepared.remembrance.ids.tolist())
        raise KeyboardInterrupt

    monkeypatch.setattr("dcmu_jax.unlearning.modular.ModularUnlearning.__call__", method)
    for text in (ids_text([first]), "ids:5"):
        with pytest.raises(KeyboardInterrupt):
            run.unlearn(run.request(text))
    assert remembered not in given[0] and remembered in given[1]


def test_a_request_whose_images_are_all_remembrance_samples(made, monkeypatch):
    """It is served unless the schedule trains on them."""
    _, run, *_ = made
    given = []

    def method(self, task, hooks):
        given.append(len(task.prepared.remembrance))
        raise KeyboardInterrupt

    monkeypatch.setattr(stages, "same_images", lambda images, others: np.ones(len(images), bool))
    monkeypatch.setattr("dcmu_jax.unlearning.modular.ModularUnlearning.__call__", method)
    with pytest.raises(KeyboardInterrupt):
        run.unlearn("ids:5")
    assert given == [0]
    monkeypatch.setattr("dcmu_jax.unlearning.modular.ModularUnlearning.remembers", True)
    with pytest.raises(InputError, match=r"every remembrance sample .* Take the preset condensed"):
        run.unlearn("ids:5")
    monkeypatch.setattr(stages, "same_images", lambda images, others: np.arange(len(images)) > 0)
    with pytest.raises(KeyboardInterrupt):
        run.unlearn("ids:5")
    assert given == [0, 1]


def test_a_run_says_it_too(made):
    _, run, (first, second), tests, remembered = made
    found = run.copies(run.request(ids_text([first]))).plain()
    assert found == {"train": [second], "test": tests, "remembrance": [remembered]}


def test_forgetting_prints_accuracies_before_and_after(toy_run, capsys):
    assert main(["forget", str(toy_run.directory), "--forget", "ids:0,1", "--quiet"]) == 0
    out = capsys.readouterr().out
    assert "Accuracy on retained samples" in out and "% before" in out and "% after." in out


def _draws():
    """Requests that draw more and more."""
    return (f"random:{(count + 0.5) / 36}" for count in range(1, 34))


@pytest.mark.parametrize("most", [200, 2])
def test_copies_of_what_a_run_drew_are_added_as_typed(made, monkeypatch, most):
    _, run, *_ = made
    monkeypatch.setattr(cli_runs, "_TYPED_IDS", most)
    requests = (run.request(text) for text in _draws())
    request = next(request for request in requests if len(run.copies(request).train))
    said = io.StringIO()
    cli_runs._say_copies(run, request, Output(file=said, width=1000))
    if most == 200:
        typed = re.search(r"Give --forget (\S+) to forget them, too", said.getvalue())
        assert typed
        again = run.request(typed[1])
    else:
        typed = re.search(r"this one: (asked = .*); (run\.request.*\.train\]\))\.", said.getvalue())
        assert typed
        exec(typed[1], given := {"run": run})
        again = eval(typed[2], given)
    assert set(request.ids) < set(again.ids) and not len(run.copies(again).train)


@pytest.mark.parametrize("reference", [None, "r"])
def test_copies_of_what_was_drawn_are_asked_for_by_id(made, copied, reference):
    directory = made[0]
    for text in _draws():
        workspace = Workspace(copied(directory))
        answer = workspace.request(text, reference=reference)
        if answer.copies is not None and len(answer.copies.train):
            break
    wanted, said = answer.copies.train.tolist(), answer.sentence()
    if reference:
        assert "Ask again with --with-copies" in said
        more = workspace.request(text, reference=reference, with_copies=True)
    else:
        typed = re.search(r"Ask for (\S+) to forget them, too", said)
        assert typed and "Ask again" not in said
        more = workspace.request(typed[1])
    assert more.accepted.tolist() == wanted


def test_what_was_drawn_is_not_asked_for_again_where_images_cannot_be_read(copied, fresh):
    w = copied(fresh)
    (w / "versions" / "0000" / "train.npz").write_bytes(b"")
    said = Workspace(w).request("random:0.1").sentence()
    assert "Ask again for the ids that were drawn, which the line of the ledger" in said
    assert "Ask again when" in Workspace(w).request("random:0.1", reference="r").sentence()

"""What the gate before publication refuses, what is recorded of it, and the ways on."""

import dataclasses
import json
import shlex

import numpy as np
import pytest
from service.toy import ids_text, write_ledger

from dcmu_jax.cli import main
from dcmu_jax.errors import InputError
from dcmu_jax.reporting.certificate import certificate_sentences
from dcmu_jax.runs import stages
from dcmu_jax.runs.config import RunConfig
from dcmu_jax.service import Workspace, work
from dcmu_jax.service.faults import FailingDisk, Killed
from dcmu_jax.service.gate import (
    NotPublished,
    not_published,
    read_settings,
    settings_of,
    too_much,
)
from dcmu_jax.service.history import Batch, Refusal
from dcmu_jax.service.ledger import LEDGER, Refused
from dcmu_jax.training.optimizers import Optimizer
from dcmu_jax.unlearning.modular import ModularUnlearning
from dcmu_jax.unlearning.schedule import Reset, Step


def _schedule(rate):
    """All parts begin afresh, and then take one step at this rate."""
    optimizer = Optimizer(name="sgd", learning_rate=rate)
    return ModularUnlearning(
        resets=tuple(Reset(part=part, keep=0.0) for part in ("beginning", "intermediate", "final")),
        closing_steps=(Step(parts=("final",), batch_size=8, epochs=3, optimizer=optimizer),),
    )


def _settings(workspace, rate):
    given = settings_of(workspace.fixed.config)
    return dataclasses.replace(given, online=_schedule(rate), online_classes=_schedule(rate))


@pytest.fixture
def asked(copied, fresh, ids):
    directory = copied(fresh)
    Workspace(directory).request(ids_text(ids[:3]))
    return directory


def _kinds(directory):
    return [json.loads(line)["kind"] for line in (directory / LEDGER).read_bytes().splitlines()]


def test_a_network_that_is_no_number_is_never_published(asked, ids):
    workspace = Workspace(asked)
    before = workspace.network().fingerprint()
    with pytest.raises(NotPublished, match=r"closing-steps.0.optimizer.learning-rate = 3e\+38"):
        workspace.process(settings=_settings(workspace, 3e38), accept_accuracy_loss=100)
    status = workspace.status()
    assert (status.version, status.pending, status.interrupted) == (0, 3, None)
    assert "diverged" in str(status.refused) and workspace.network().fingerprint() == before
    assert _kinds(asked)[-2:] == ["begin", "refuse"]
    assert workspace.verify().clean and not workspace.verify().notes
    assert workspace.process() == [1]  # with its own settings
    assert workspace.certificate(1)["record"]["forgotten"] == sorted(ids[:3])


def test_a_loss_above_the_limit_keeps_the_batch_pending(asked, ids):
    workspace = Workspace(asked)
    ruin = _settings(workspace, 1e-9)
    with pytest.raises(NotPublished, match="test accuracy on the classes that stay would fall by"):
        workspace.process(settings=ruin)
    assert workspace.status().pending == 3 and workspace.status().version == 0
    lines = len(_kinds(asked))
    with pytest.raises(NotPublished):  # nothing has changed: it is not tried again
        workspace.process(settings=ruin)
    assert len(_kinds(asked)) == lines
    assert workspace.process(settings=ruin, accept_accuracy_loss=100) == [1]
    record = workspace.certificate(1)["record"]
    assert record["gate"]["accepted_for_this_batch"] == 100 and record["other_settings"]
    assert record["settings"]["online"]["closing_steps"][0]["optimizer"]["learning_rate"] == 1e-9
    assert record["gate"]["before"] - record["gate"]["after"] > 5
    (refused,) = record["refused"]
    assert read_settings(refused["settings"]) == ruin
    words = " ".join(certificate_sentences(workspace.certificate(1)))
    assert "other settings" in words and "Refused before" in words and "100 points" in words
    workspace.request(ids_text(ids[3:4]))
    assert workspace.history().refusals == () and workspace.status().refused is None


def test_the_limit_is_a_setting_of_the_workspace(toy_run, asked, tmp_path):
    workspace = Workspace(asked)
    assert workspace.status().max_accuracy_loss == 5
    with pytest.raises(NotPublished):
        workspace.process(settings=_settings(workspace, 1e-9))
    workspace.set_max_accuracy_loss(100)
    workspace.set_max_accuracy_loss(100)
    assert _kinds(asked).count("limit") == 1
    assert workspace.status().max_accuracy_loss == 100
    assert workspace.process(settings=_settings(workspace, 1e-9)) == [1]
    for wrong in (-1, 101, float("nan")):
        with pytest.raises(InputError, match="max_accuracy_loss"):
            workspace.set_max_accuracy_loss(wrong)
        with pytest.raises(InputError, match="accept_accuracy_loss"):
            workspace.process(accept_accuracy_loss=wrong)
    given = Workspace.create(toy_run, tmp_path / "w", max_accuracy_loss=12)
    assert given.status().max_accuracy_loss == 12


def test_a_refused_batch_takes_later_requests_with_it_and_a_purge_may_come_between(
    copied, served, ids
):
    directory = copied(served)
    workspace = Workspace(directory)
    workspace.request(ids_text(ids[3:5]))
    with pytest.raises(NotPublished):
        workspace.process(settings=_settings(workspace, 3e38))
    workspace.request(ids_text(ids[5:6]))
    assert workspace.purge() == 2
    assert workspace.process() == [3]
    record = workspace.certificate(3)["record"]
    assert record["forgotten"] == sorted(ids[3:6]) and len(record["refused"]) == 1
    assert workspace.verify().clean


def test_killed_at_every_point_of_a_refusal(copied, asked):
    """Whatever happens between, the batch is refused once more or is pending, and then served."""
    counted = copied(asked)
    disk = FailingDisk()
    ruin = _settings(Workspace(asked), 1e-9)
    with pytest.raises(NotPublished):
        Workspace(counted, disk=disk).process(disk.hooks, settings=ruin)
    last = len(disk.done)
    for at in range(1, last + 1, 3):
        directory = copied(asked)
        failing = FailingDisk(at, "kill", 0.6)
        with pytest.raises((Killed, InputError)):
            Workspace(directory, disk=failing).process(failing.hooks, settings=ruin)
        workspace = Workspace(directory)
        assert workspace.verify().clean and workspace.status().pending == 3
        assert workspace.process() == [1], at
        assert workspace.verify() == Workspace(directory).verify()
        assert workspace.verify().clean and not workspace.verify().notes


def test_a_ledger_of_before_the_gate_goes_on(copied, served, ids):
    directory = copied(served)
    lines = [json.loads(line) for line in (directory / LEDGER).read_bytes().splitlines()]
    for line in lines:
        for name in ("max_accuracy_loss", "settings", "accepted_loss"):
            line.pop(name, None)
    write_ledger(directory, lines)
    workspace = Workspace(directory)
    assert workspace.status().max_accuracy_loss == 5
    workspace.request(ids_text(ids[3:5]))
    assert workspace.process() == [2] and workspace.verify().clean


def test_the_gate_looks_at_the_classes_that_stay(copied, fresh, monkeypatch):
    workspace = Workspace(copied(fresh))
    workspace.request("class:2")
    fixed, train = workspace.fixed, workspace.version().train
    remembered = stages.remembrance_of(fixed.config, fixed.config.preset, fixed.splits(train))
    measured = []

    def accuracies(network, sets):
        measured.append(sets[stages.TEST_STAYING].ids.tolist())
        return dict.fromkeys(sets, 50.0) | {stages.TEST_STAYING: 70.0 - len(measured)}

    monkeypatch.setattr(work, "_accuracies", accuracies)
    assert workspace.process() == [1]
    test = fixed.test.without(remembered.ids)
    assert measured == [test.ids[test.labels != 2].tolist()] * 2
    gate = workspace.certificate(1)["record"]["gate"]
    assert (gate["before"], gate["after"]) == (69.0, 68.0)


def test_too_much():
    assert too_much(90.0, 85.0, 5.0) is None and too_much(90.0, 95.0, 0.0) is None
    assert "5.10 points, from 90.00 to 84.90 %" in str(too_much(90.0, 84.9, 5.0))
    assert too_much(None, None, 0.0) is None


def test_settings_come_back_from_the_ledger_or_are_refused():
    for name in ("paper", "condensed", "recommended"):
        settings = settings_of(RunConfig(), name)
        assert read_settings(json.loads(json.dumps(settings.to_json()))) == settings
    saved = settings.to_json()
    for broken in ({}, saved | {"more": 1}, saved | {"online": {"rounds": "many"}}):
        with pytest.raises(InputError, match="Settings of a batch"):
            read_settings(broken)


def test_the_remedies_work_as_typed(asked, capsys):
    rate = "--method.online.closing-steps.0.optimizer.learning-rate"
    keep = ["--method.online.closing-steps.0.epochs", "1"]
    assert main(["process", str(asked), "--quiet", rate, "1e30", *keep]) == 2
    error = capsys.readouterr().err
    assert "was not published" in error and rate in error and "--accept-accuracy-loss" not in error
    command = shlex.split(error.split("method (")[1].split(")")[0])
    assert command[:3] == ["dcmu", "process", str(asked)] and command[3] == "--preset"
    assert main([*command[1:], "--quiet", "--accept-accuracy-loss", "100"]) == 0
    out = capsys.readouterr().out
    assert f"by the method {command[4]}" in out
    assert "Accuracy on retained samples" in out and "test images of the classes that stay" in out
    assert main(["gate", str(asked), "20"]) == 0
    assert main(["status", str(asked)]) == 0
    assert "max_accuracy_loss 20" in capsys.readouterr().out
    assert main(["process", str(asked), "--preset", "papre", "--quiet"]) == 2
    assert "Did you mean 'paper'?" in capsys.readouterr().err
    assert np.isfinite(Workspace(asked).network().logits(Workspace(asked).fixed.test.images)).all()


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--preset", "condensed"],
        ["--method.online.closing-steps.0.epochs", "1", "--method.online.collecting.weigh-by-size"],
        ["--method.online.collecting.no-drop-forgotten-classes"],
    ],
    ids=str,
)
def test_what_was_refused_is_what_is_accepted_as_typed(asked, options, monkeypatch, capsys):
    measured = []

    def accuracies(network, sets):
        measured.append(network)
        return dict.fromkeys(sets, 70.0 if len(measured) % 2 else 63.5)

    monkeypatch.setattr(work, "_accuracies", accuracies)
    assert main(["process", str(asked), "--quiet", *options]) == 2
    error = capsys.readouterr().err
    (refusal,) = Workspace(asked).history().refusals
    assert (refusal.batch.settings is None) == (not options)
    command = shlex.split(error.split("accept the loss once (")[1].split(")")[0])
    assert main([*command[1:], "--quiet"]) == 0
    batch = Workspace(asked).history().batches[1]
    assert (batch.settings, batch.accepted_loss) == (refusal.batch.settings, 7)


def test_no_method_is_offered_that_was_refused(asked):
    workspace = Workspace(asked)
    config, history = workspace.fixed.config, workspace.history()
    entry = Refused(
        version=1, reason="r", before=70.0, after=60.0, limit=5.0, previous="", time="t"
    )

    def remedy(*settings):
        batches = [Batch(1, 2, (2,), given and given.to_json()) for given in settings]
        refusals = tuple(Refusal(batch, entry) for batch in batches)
        return not_published(asked, config, dataclasses.replace(history, refusals=refusals)).remedy

    condensed, paper = settings_of(config, "condensed"), settings_of(config, "paper")
    assert "--preset condensed)" in remedy(None) and "--preset condensed)" in remedy(paper, None)
    assert "--preset paper)" in remedy(None, condensed)
    assert remedy(None, condensed, paper).startswith("Process them with other settings (dcmu")
    said = remedy(_settings(workspace, 1e-9))  # with more resets than any option gives
    assert "Workspace.process with the same settings and accept_accuracy_loss=10)" in said

"""Batches that were begun with settings that cannot serve: said, left by a line, begun again."""

import dataclasses
import json
import os

import pytest
from service.test_gate import _settings
from service.toy import ids_text

from dcmu_jax.cli import main
from dcmu_jax.errors import InputError
from dcmu_jax.service import Workspace
from dcmu_jax.service.faults import FailingDisk, Killed
from dcmu_jax.service.gate import described
from dcmu_jax.service.ledger import LEDGER

RATE = "--method.online.closing-steps.0.optimizer.learning-rate"


def _kinds(directory):
    return [json.loads(line)["kind"] for line in (directory / LEDGER).read_bytes().splitlines()]


class _DiesAtTheFirstEpoch(FailingDisk):
    def step(self, what, path):
        if what == "epoch":
            raise Killed


@pytest.fixture
def begun(copied, fresh, ids):
    """A batch was begun with a step from which nothing comes, and its process was killed."""
    directory = copied(fresh)
    workspace = Workspace(directory)
    workspace.request(ids_text(ids[:3]))
    with pytest.raises(Killed):
        workspace.process(_DiesAtTheFirstEpoch().hooks, settings=_settings(workspace, 3e38))
    return directory


def _not_served(monkeypatch):
    """Whoever works on a batch says with which rate."""
    rates = []

    def forget_batch(fixed, before, ids, seed, hooks, settings, tests):
        config = settings.applied(fixed.config) if settings else fixed.config
        rates.append(config.method.online.closing_steps[0].optimizer.learning_rate)
        raise Killed

    monkeypatch.setattr("dcmu_jax.service.work.forget_batch", forget_batch)
    return rates


def test_other_settings_begin_it_again(begun, ids, monkeypatch):
    workspace, told = Workspace(begun), []
    other = _settings(workspace, 1e-9)
    with monkeypatch.context() as patch:
        rates = _not_served(patch)
        with pytest.raises(Killed):
            workspace.process(settings=other, notify=told.append)
    assert rates == [1e-9]  # what was begun before is not even tried
    assert _kinds(begun)[-3:] == ["begin", "leave", "begin"]
    assert told[0].startswith("Begun again with what is given now: the batch of version 1")
    assert workspace.verify().clean and workspace.status().pending == 3
    workspace.request(ids_text(ids[3:4]))
    assert workspace.process(settings=other, accept_accuracy_loss=100) == [1]
    assert _kinds(begun).count("leave") == 2  # the accepted loss is another, too
    assert workspace.certificate(1)["record"]["forgotten"] == sorted(ids[:4])
    assert workspace.verify().clean and not workspace.verify().notes


def test_the_same_settings_or_none_go_on_and_say_with_which(begun, monkeypatch):
    workspace, told = Workspace(begun), []
    rates = _not_served(monkeypatch)
    for settings in (None, _settings(workspace, 3e38)):
        with pytest.raises(Killed):
            workspace.process(settings=settings, notify=told.append)
    assert rates[0] == rates[1] > 1e38 and "leave" not in _kinds(begun)
    assert "Going on with the batch of version 1, begun with --preset recommended" in told[0]
    assert f"{RATE} 3e+38" in told[0] and "give dcmu process a --preset" in told[0]


def test_a_refusal_of_what_was_interrupted_is_told_of(begun):
    told = []
    assert Workspace(begun).process(notify=told.append) == [1]
    assert told[0].startswith("Going on with") and len(told) == 2
    assert told[1].startswith("The batch of 3 samples was not published: ")
    assert "Restarted with --preset recommended and the settings of the workspace." in told[1]


@pytest.mark.parametrize(
    ("options", "left"),
    [([], False), (["--preset", "recommended"], True), ([f"{RATE}=0.02"], True),
     (["--accept-accuracy-loss", "7"], True)],
    ids=str,
)  # fmt: skip
def test_the_command_tells_what_is_given(begun, options, left, monkeypatch, capsys):
    _not_served(monkeypatch)
    with pytest.raises(Killed):
        main(["process", str(begun), *options, "--quiet"])
    assert ("leave" in _kinds(begun)) == left
    assert ("Going on with the batch" in capsys.readouterr().out) != left


def test_what_is_said_of_a_batch_can_be_typed(copied, fresh, ids, monkeypatch, capsys):
    """The words of the message give the settings of the batch."""
    w = copied(fresh)
    Workspace(w).request(ids_text(ids[:3]))
    _not_served(monkeypatch)
    steps = ["--method.online.closing-steps.0.parts", "final", "--method.online.tail", "0"]
    with pytest.raises(Killed):
        main(["process", str(w), "--quiet", f"{RATE}=0.02", *steps])
    opened, config = Workspace(w).history().open, Workspace(w).fixed.config
    assert opened is not None
    words = described(config, opened).split()
    assert f"{RATE} 0.02" in " ".join(words) and len(words) < 8
    with pytest.raises(Killed):
        main(["process", str(w), "--quiet", *words])
    assert "leave" not in _kinds(w)
    assert "Going on with the batch" in capsys.readouterr().out


@pytest.mark.parametrize("at", range(1, 12, 2))
def test_killed_while_it_is_left(begun, at, monkeypatch):
    workspace = Workspace(begun, disk=FailingDisk(at, "kill", 0.6))
    other = _settings(workspace, 1e-9)
    rates = _not_served(monkeypatch)
    with pytest.raises(Killed):
        workspace.process(settings=other)
    workspace = Workspace(begun)
    assert workspace.verify().clean and workspace.status().pending == 3
    with pytest.raises(Killed):
        workspace.process(settings=other)
    assert rates[-1] == 1e-9 and os.path.getsize(begun / LEDGER)


def test_an_error_of_settings_says_how_to_leave_them(begun, monkeypatch):
    def forget_batch(*_):
        raise InputError("a", "b", "c")

    monkeypatch.setattr("dcmu_jax.service.work.forget_batch", forget_batch)
    with pytest.raises(InputError, match="dcmu process with other settings begins this batch"):
        Workspace(begun).process()


def test_what_costs_more_than_retraining_says_so_before(copied, fresh, ids):
    workspace, told = Workspace(copied(fresh)), []
    workspace.request(ids_text(ids[:3]))
    assert workspace.process(notify=told.append) == [1] and told == []
    workspace.request(ids_text(ids[3:4]))
    with pytest.raises(Killed):
        settings = _costly(workspace)
        workspace.process(_DiesAtTheFirstEpoch().hooks, settings=settings, notify=told.append)
    # 8 passes of batches of 8, where retraining has 2 of batches of 12, the last ones padded.
    assert "will cost about 3.56 retrainings" in told[0] and "for this batch" in told[0]


def _costly(workspace):
    given = _settings(workspace, 1e-9)
    (step,) = given.online.closing_steps
    parts = ("beginning", "intermediate", "final")
    step = dataclasses.replace(step, parts=parts, epochs=8, on="retain")
    return dataclasses.replace(
        given, online=dataclasses.replace(given.online, closing_steps=(step,))
    )

"""What is given from Python is of the right kind, or refused: never a traceback, never taken."""

import jaxtyping
import pytest
from service.toy import bytes_of, ids_text

from dcmu_jax.errors import InputError
from dcmu_jax.runs.config import RunConfig
from dcmu_jax.service import Workspace
from dcmu_jax.service.verification import verify


@pytest.fixture(autouse=True)
def _unchecked():
    """As users have it, whose types nobody checks before."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(scope="module")
def workspace(fresh):
    return Workspace(fresh)


ACTS = {
    "directory": [lambda w, bad=bad: Workspace(bad) for bad in (5, None, b"x", "a\0b")],
    "verify": [lambda w, bad=bad: verify(bad) for bad in (5, None, b"x", "a\0b")],
    "model": [
        lambda w: Workspace(w.directory, model="mlp"),
        lambda w: verify(w.directory, model="mlp"),
        lambda w: Workspace(w.directory, disk="x"),
    ],
    "gate": [
        lambda w, bad=bad: w.set_max_accuracy_loss(bad) for bad in ("8", None, [1], True, 1j, "x")
    ],
    "accepted": [
        lambda w, bad=bad: w.process(accept_accuracy_loss=bad) for bad in ("8", [1], True)
    ],
    "settings": [
        lambda w, bad=bad: w.process(settings=bad) for bad in ("condensed", {}, RunConfig(), 0)
    ],
    "hooks": [
        lambda w: w.process(notify="x"),
        lambda w: w.process(hooks="x"),
        lambda w: w.purge("x"),
        lambda w: w.audit(notify="x"),
    ],
    "certificate": [lambda w, bad=bad: w.certificate(bad) for bad in ("1", None, 1.0, True, 1, -1)],
    "audit": [lambda w, bad=bad: w.audit(oracles=bad) for bad in ("4", 4.5, None, 10**9, True, 3)],
    "copies": [
        lambda w, bad=bad: w.request(ids_text([0]), with_copies=bad) for bad in ("no", 1, None)
    ],
}


@pytest.mark.parametrize("what", ACTS)
def test_other_kinds_are_refused(workspace, what):
    before = bytes_of(workspace.directory)
    for act in ACTS[what]:
        with pytest.raises(InputError):
            act(workspace)
    assert bytes_of(workspace.directory) == before


def test_other_kinds_are_refused_before_a_workspace_is_made(toy_run, tmp_path):
    for bad in (5, None, b"x", "a\0b"):
        with pytest.raises(InputError, match="A workspace given as"):
            Workspace.create(toy_run, bad)
    for bad in ("5", None, True):
        with pytest.raises(InputError, match="points of accuracy"):
            Workspace.create(toy_run, tmp_path / "w", max_accuracy_loss=bad)
    with pytest.raises(InputError, match="run = "):
        Workspace.create(str(toy_run.directory), tmp_path / "w")
    assert not (tmp_path / "w").exists()


def test_a_listener_that_fails_is_no_fault_of_the_disk(copied, fresh, ids, monkeypatch, caplog):
    monkeypatch.setattr("dcmu_jax.service.publishing.cost_warning", lambda *_, **__: "It is dear")
    workspace = Workspace(copied(fresh))
    workspace.request(ids_text(ids[:3]))

    def gone(said):
        raise BrokenPipeError(32, "Broken pipe")

    assert workspace.process(notify=gone) == [1]
    assert "Broken pipe" in caplog.text and "It is dear" in caplog.text

"""The order in which workers take the steps of a sweep, and that they take them."""

import os

import pytest

from dcmu_jax.sweeps.pool import Step, _shares, next_step, run_in_pool


def _steps(*names: str) -> list[Step]:
    """What a group shares, then two requests, for groups such as ``cnn-1`` of a network."""
    found = []
    for name in names:
        network = name.split("-")[0]
        found.append(Step(name, print, programs=(network, "shared")))
        for request in ("random", "class"):
            own = (name, request)
            found.append(Step(own, print, after=(name,), programs=(network, "requests")))
    return found


def _taken(waiting: list[Step], workers: int) -> list[list[Step]]:
    """What is running at each moment, where every step takes as long."""
    waiting, done, moments = list(waiting), [], []
    while waiting:
        running: list[Step] = []
        while len(running) < workers and (step := next_step(waiting, running, done)):
            waiting.remove(step)
            running.append(step)
        moments.append(running)
        done += running
    return moments


def test_every_step_is_taken_once_and_after_what_it_needs():
    steps = _steps("cnn-1", "cnn-2", "mlp-1")
    done: list = []
    for running in _taken(steps, workers=3):
        assert all(set(step.after) <= set(done) for step in running)
        done += [step.name for step in running]
    assert sorted(map(str, done)) == sorted(str(step.name) for step in steps)


def test_programs_are_compiled_by_one_worker_while_there_is_other_work():
    moments = _taken(_steps("cnn-1", "cnn-2", "mlp-1", "mlp-2"), workers=2)
    compiled: set = set()
    for running in moments:
        fresh = [step.programs for step in running if step.programs not in compiled]
        assert len(fresh) == len(set(fresh))
        compiled |= set(fresh)
    assert len(moments) == 6  # no worker was ever idle


def test_no_worker_waits_for_another_to_have_compiled():
    assert [len(running) for running in _taken(_steps("cnn-1", "cnn-2"), workers=2)] == [2, 2, 2]


def test_nothing_is_taken_that_cannot_begin():
    only = _steps("cnn-1")
    assert next_step(only, running=[], done=[]) == only[0]
    assert next_step(only[1:], running=only[:1], done=[]) is None


def _write(path, text, needs=None):
    if needs is not None:
        text += needs.read_text()
    path.write_text(text)


def test_cores_are_shared_out(monkeypatch):
    if not hasattr(os, "sched_getaffinity"):
        pytest.skip("cores cannot be shared out on this system")
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 2, 3, 5, 7})
    assert _shares(2) == [{0, 3, 7}, {2, 5}]
    assert _shares(6) == [set()] * 6


def test_steps_run_in_processes_and_a_failure_is_raised(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    steps = [
        Step("second", _write, (second, "2", first), after=("first",)),
        Step("first", _write, (first, "1")),
    ]
    run_in_pool(steps, 2)
    assert second.read_text() == "21"
    failing = [Step("failing", _write, (second, "2", tmp_path / "nothing"))]
    with pytest.raises(FileNotFoundError):
        run_in_pool(failing, 1)
    with pytest.raises(ValueError, match="wait for none"):
        run_in_pool([Step("late", print, after=("never",))], 1)

"""The order in which workers take the cells of a table."""

from experiments.grid import Group
from experiments.run_all import Step, next_step


def _steps(*names: str) -> list[Step]:
    return [
        Step(Group(dataset="npz:d.npz", model=model, seed=int(seed)), request)
        for model, seed in (name.split("-") for name in names)
        for request in (None, "random:0.1", "class")
    ]


def _served(waiting: list[Step], workers: int) -> list[list[Step]]:
    """What is running at each moment, where every step takes as long."""
    waiting, done, moments = list(waiting), set(), []
    while waiting:
        running: list[Step] = []
        while len(running) < workers and (step := next_step(waiting, running, done)):
            waiting.remove(step)
            running.append(step)
        moments.append(running)
        done |= set(running)
    return moments


def test_every_step_is_taken_once_and_requests_after_what_they_share():
    steps = _steps("cnn-1", "cnn-2", "mlp-1")
    done: set[Step] = set()
    for running in _served(steps, workers=3):
        assert all(s.request is None or Step(s.group, None) in done for s in running)
        done |= set(running)
    assert done == set(steps)


def test_programs_are_compiled_by_one_worker_while_there_is_other_work():
    moments = _served(_steps("cnn-1", "cnn-2", "mlp-1", "mlp-2"), workers=2)
    compiled: set[tuple] = set()
    for running in moments:
        fresh = [s.programs for s in running if s.programs not in compiled]
        assert len(fresh) == len(set(fresh))
        compiled |= set(fresh)
    assert len(moments) == 6  # no worker was ever idle


def test_no_worker_waits_for_another_to_have_compiled():
    assert [len(running) for running in _served(_steps("cnn-1", "cnn-2"), workers=2)] == [2, 2, 2]


def test_nothing_is_taken_that_cannot_begin():
    only = _steps("cnn-1")
    assert next_step(only, running=[], done=set()) == only[0]
    assert next_step(only[1:], running=only[:1], done=set()) is None

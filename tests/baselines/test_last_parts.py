"""CF-k and EU-k: what lies below the last k parts keeps its bits, what is above is trained."""

import dataclasses

import jax
import pytest
from baselines.setting import FAST, accuracy, make_task
from toys import Noisy, part_of, same_bits

from dcmu_jax.baselines.fine_tuning import CatastrophicForgettingLast, ExactUnlearningLast
from dcmu_jax.errors import InputError
from dcmu_jax.networks.partition import PARTS
from dcmu_jax.unlearning.task import Hooks

LAST = {1: ("final",), 2: ("intermediate", "final")}
METHODS = (CatastrophicForgettingLast, ExactUnlearningLast)
SHORT = {"epochs": 4, "batch_size": 16, "optimizer": FAST}


@pytest.fixture(scope="module")
def task():
    return make_task(model=Noisy())


def _shaken(task, part):
    """The same task with other parameters and statistics in ``part`` of the original."""
    variables = {
        name: {**trees, part: jax.tree.map(lambda x: x + 0.5, trees[part])}
        for name, trees in task.original.variables.items()
    }
    return dataclasses.replace(
        task, original=dataclasses.replace(task.original, variables=variables)
    )


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("k", [1, 2])
def test_parts_below_keep_their_bits_and_those_above_train(task, method, k):
    new = method(k=k, **SHORT)(task, Hooks()).classifier
    for part in PARTS:
        kept = same_bits(part_of(task.original, part), part_of(new, part))
        assert kept == (part not in LAST[k])
    assert accuracy(new, task.retain()) >= 90


@pytest.mark.parametrize("k", [1, 2])
def test_what_the_originals_last_parts_were_has_no_part_in_eu_k(task, k):
    """And has in CF-k, which goes on from them; what lies below counts for both."""
    for method in METHODS:
        result = method(k=k, **SHORT)(task, Hooks()).classifier
        for part in PARTS:
            other = method(k=k, **SHORT)(_shaken(task, part), Hooks()).classifier
            alike = all(same_bits(part_of(result, p), part_of(other, p)) for p in LAST[k])
            assert alike == (method is ExactUnlearningLast and part in LAST[k])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("k", [0, 3, -1])
def test_other_numbers_of_parts_are_refused(task, method, k):
    with pytest.raises(InputError, match=f"k = {k} last parts"):
        method(k=k)(task, Hooks())

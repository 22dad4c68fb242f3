"""Distillation and bad teaching: the losses they start from, by hand, and who is taught what."""

import dataclasses

import numpy as np
import pytest
from baselines.setting import FAST, make_task
from baselines.watching import cross_entropy, divergence, watched
from toys import fresh, same_bits

from dcmu_jax.baselines.teachers import BadTeaching, DistillationUnlearning
from dcmu_jax.errors import InputError
from dcmu_jax.networks.partition import initialise
from dcmu_jax.training.keys import named_key, named_seed
from dcmu_jax.unlearning.task import Hooks

WHOLE = {"epochs": 1, "batch_size": 1000, "optimizer": FAST}
"""One batch of everything: the loss that is reported is that before the only step."""


@pytest.fixture(scope="module")
def task():
    return make_task()


def test_a_fresh_student_starts_from_the_loss_by_hand(task):
    method = DistillationUnlearning(cross_entropy=0.7, divergence=0.2, temperature=3.0, **WHOLE)
    _, [(_, _, [loss])] = watched(method, task)
    retain = task.retain()
    student = fresh(task.original.model, retain, named_seed(task.seed, "distillation"))
    assert not same_bits(student.normalisation, task.original.normalisation)
    ours, teachers = student.logits(retain.images), task.original.logits(retain.images)
    expected = 0.7 * cross_entropy(ours, retain.labels) + 0.2 * 9 * divergence(teachers, ours, 3)
    np.testing.assert_allclose(loss, expected.mean(), rtol=1e-5)


def test_the_students_normalisation_may_be_the_given_one(task):
    given = dataclasses.replace(task, statistics="given")
    result, _ = watched(DistillationUnlearning(**WHOLE), given)
    assert same_bits(result.classifier.normalisation, task.original.normalisation)


@pytest.mark.parametrize("scale", [1.0, 0.1])
def test_bad_teaching_starts_from_the_divergence_on_the_forget_set_alone(task, scale):
    """The student is the good teacher at first, so nothing is to be learned from it."""
    method = BadTeaching(share=0.5, loss_scale=scale, **WHOLE)
    result, [(_, _, [loss])] = watched(method, task)
    forget, original = task.forget(), task.original
    key = named_key(named_seed(task.seed, "bad_teaching"), "bad teacher")
    random = initialise(original.model, key, (8, 8, 1))
    bad = dataclasses.replace(original, variables=random).logits(forget.images)
    total = divergence(bad, original.logits(forget.images), 4).sum()
    np.testing.assert_allclose(loss, scale * total / len(result.trained_ids), rtol=1e-5)


@pytest.mark.parametrize(("share", "count"), [(0.25, 12), (1.0, 48), (1e-6, 1)])
def test_bad_teaching_trains_on_the_forget_set_and_a_share_of_the_rest(task, share, count):
    ids = BadTeaching(share=share, **WHOLE)(task, Hooks()).trained_ids
    assert np.isin(task.forget_ids, ids).all()
    kept = ids[~np.isin(ids, task.forget_ids)]
    assert len(kept) == len(set(kept.tolist())) == count


def test_another_seed_draws_another_share(task):
    other = dataclasses.replace(task, seed=7)
    drawn = [set(BadTeaching(**WHOLE)(t, Hooks()).trained_ids.tolist()) for t in (task, other)]
    assert drawn[0] != drawn[1]


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (BadTeaching(share=0.0), r"share = 0\.0"),
        (BadTeaching(share=1.1), r"share = 1\.1"),
        (BadTeaching(temperature=0.0), r"temperature = 0\.0"),
        (BadTeaching(loss_scale=-1.0), r"loss_scale = -1\.0"),
        (DistillationUnlearning(temperature=0.0), r"temperature = 0\.0"),
    ],
)
def test_settings_without_sense_are_refused(task, method, message):
    with pytest.raises(InputError, match=message):
        method(task, Hooks())

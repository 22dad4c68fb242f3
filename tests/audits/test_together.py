"""Methods on all originals at once: the networks that they make of each original alone."""

import dataclasses

import numpy as np
import pytest
from toys import Plain, toy_splits

from dcmu_jax.audits.building import Rearing, unlearned_population
from dcmu_jax.audits.together import PLAIN, together
from dcmu_jax.baselines.fine_tuning import CatastrophicForgetting
from dcmu_jax.baselines.registry import build_method
from dcmu_jax.errors import InputError
from dcmu_jax.unlearning.task import Hooks, Training, UnlearningTask

SPLITS = toy_splits()
TRAIN = SPLITS.train
FORGET = TRAIN.ids[[1, 4, 7]]
REARING = Rearing(model=Plain(), splits=SPLITS, training=Training(epochs=2, batch_size=8), group=2)
FINE_TUNING = CatastrophicForgetting(epochs=3, batch_size=8)


def alone(name):
    method = FINE_TUNING if name == "catastrophic_forgetting" else build_method(name, None)

    def serve(original, seed):
        task = UnlearningTask(
            original=original,
            train=TRAIN,
            forget_ids=FORGET,
            seed=seed,
            training=REARING.training,
        )
        return method(task, Hooks()).classifier

    return serve


def test_each_network_is_the_one_made_alone():
    at_once = {name: together(name, REARING, FORGET, FINE_TUNING) for name in PLAIN}
    one_by_one = {f"{name} alone": alone(name) for name in PLAIN}
    population = unlearned_population(REARING, FORGET, 2, {**at_once, **one_by_one})
    for name in PLAIN:
        mine, single = population.of(name), population.of(f"{name} alone")
        np.testing.assert_allclose(mine.margins, single.margins, atol=5e-4)
        np.testing.assert_array_equal(mine.forgotten, single.forgotten)
        assert abs(mine.margins - population.of("original").margins).max() > 0.01
        assert abs(mine.margins[0] - mine.margins[1]).max() > 0.01


def test_others_are_refused():
    with pytest.raises(InputError, match="method for many networks at once 'scrub'"):
        together("scrub", REARING, FORGET)


def test_a_folder_knows_them_by_their_settings(tmp_path):
    kept = dataclasses.replace(REARING, folder=tmp_path / "kept")

    def population(epochs):
        method = dataclasses.replace(FINE_TUNING, epochs=epochs)
        methods = {name: together(name, kept, FORGET, method) for name in PLAIN}
        return unlearned_population(kept, FORGET, 2, methods)

    assert (population(1).margins == population(1).margins).all()
    with pytest.raises(InputError, match="differs in settings"):
        population(30)

"""Fast retraining: retraining, by another recipe, in batches small enough for a small set."""

import dataclasses

import pytest
from baselines.setting import TRAINING, make_task
from toys import same_bits

from dcmu_jax.baselines.registry import build_method
from dcmu_jax.baselines.retraining import FastRetraining, Retraining
from dcmu_jax.training.keys import named_seed
from dcmu_jax.unlearning.task import Hooks, Training

RECIPE = dataclasses.replace(
    TRAINING, epochs=4, batch_size=48, alternating_flip=True, crop=1, label_smoothing=0.2
)


@pytest.fixture(scope="module")
def task():
    return make_task()


@pytest.mark.parametrize(("min_steps", "batch_size"), [(0, 48), (8, 24), (100, 24)])
def test_is_retraining_by_its_recipe(task, min_steps, batch_size):
    """Of 48 samples: one step of 48 an epoch, or two of 24, which cannot be halved again."""
    fast = FastRetraining(training=RECIPE, min_steps=min_steps)(task, Hooks())
    same = dataclasses.replace(RECIPE, batch_size=batch_size)
    seed = named_seed(task.seed, "fast_retraining")
    plain = Retraining()(dataclasses.replace(task, training=same, seed=seed), Hooks())
    assert same_bits(fast.classifier.variables, plain.classifier.variables)
    assert fast.reduction == 1.0


@pytest.mark.parametrize("field", ["alternating_flip", "crop", "label_smoothing"])
def test_every_ingredient_is_used(task, field):
    without = dataclasses.replace(RECIPE, **{field: getattr(Training(), field)})
    results = [
        FastRetraining(training=recipe, min_steps=0)(task, Hooks()) for recipe in (RECIPE, without)
    ]
    assert not same_bits(*(result.classifier.variables for result in results))


def test_settings_of_the_recipe_by_name():
    method = build_method("fast_retraining", {"training": {"epochs": 3, "optimizer": {"l1": 0.1}}})
    assert (method.training.epochs, method.training.optimizer.l1) == (3, 0.1)
    assert method.training.label_smoothing == FastRetraining().training.label_smoothing

"""What unlearning will cost is said before it starts, and a class has steps enough."""

import dataclasses

from dcmu_jax.data.requests import parse_request
from dcmu_jax.data.sources import load
from dcmu_jax.pipeline import stages
from dcmu_jax.pipeline.config import RunConfig, preset
from dcmu_jax.unlearning.schedule import batch_size_for
from dcmu_jax.unlearning.task import Training


def test_a_schedule_dearer_than_retraining_is_said():
    splits = load("digits")
    short = RunConfig(training=Training(epochs=6))
    request = parse_request("random:0.1", splits.train, 0)
    retained = len(splits.train) - len(request)
    times = stages.retrainings_to_expect(short, splits, request)
    assert times == 10 * len(splits.train) / (6 * retained)
    assert "about 1.85 retrainings" in stages.cost_warning(short, splits, request)
    assert stages.cost_warning(RunConfig(), splits, request) == ""
    whole = parse_request("class:3", splits.train, 0)  # `final` alone, on features
    assert stages.cost_warning(short, splits, whole) == ""
    cnn = dataclasses.replace(short, model="cnn")
    assert stages.retrainings_to_expect(cnn, splits, request) == 0


def test_a_class_has_steps_enough_and_the_small_experiments_are_as_they_were():
    for model in ("mlp", "cnn", "mine"):
        (step,) = preset("recommended", model).online_classes.closing_steps
        size = batch_size_for(step.epochs, step.batch_size, step.min_steps, 1293)
        assert step.epochs * -(-1293 // size) >= 500
        assert batch_size_for(step.epochs, step.batch_size, step.min_steps, 4500) == 128

"""What unlearning will cost is said before it starts, and a class has steps enough."""

import dataclasses

import pytest
from toys import Plain, toy_splits

from dcmu_jax.data.requests import parse_request
from dcmu_jax.data.sources import load
from dcmu_jax.models.partition import PARTS
from dcmu_jax.pipeline import stages
from dcmu_jax.pipeline.config import RunConfig
from dcmu_jax.pipeline.cost import CostWarning, cost_warning, retrainings_to_expect
from dcmu_jax.pipeline.options import RemembranceOptions
from dcmu_jax.pipeline.presets import preset
from dcmu_jax.pipeline.run import Run
from dcmu_jax.unlearning.modular import ModularUnlearning
from dcmu_jax.unlearning.schedule import Step, batch_size_for
from dcmu_jax.unlearning.task import Training


def test_a_schedule_dearer_than_retraining_is_said():
    splits = load("digits")
    short = RunConfig(training=Training(epochs=6))
    request = parse_request("random:0.1", splits.train, 0)
    retained = len(splits.train) - len(request)
    times = retrainings_to_expect(short, splits, request)
    assert times == 10 * len(splits.train) / (6 * retained)
    assert "about 1.85 retrainings" in cost_warning(short, splits, request)
    assert cost_warning(RunConfig(), splits, request) == ""
    whole = parse_request("class:3", splits.train, 0)  # `final` alone, on features
    assert cost_warning(short, splits, whole) == ""
    cnn = dataclasses.replace(short, model="cnn")
    assert retrainings_to_expect(cnn, splits, request) == 0


def test_python_is_warned_before_it_begins_and_of_any_schedule(tmp_path, monkeypatch):
    steps = tuple(Step(parts=PARTS, on="retain", epochs=e, batch_size=64) for e in (1, 3))
    method = dataclasses.replace(
        preset("recommended", "mine"),
        remembrance=RemembranceOptions(per_class=1),
        online=ModularUnlearning(closing_steps=steps),
    )
    config = RunConfig(model="mine", method=method, training=Training(epochs=2), rivals=())
    splits = toy_splits(per_class=24)
    run = Run.create(tmp_path / "run", config, model=Plain(), splits=splits)
    begun = []
    monkeypatch.setattr(stages, "unlearn", lambda *a, **k: begun.append(a) or 1 / 0)
    says = r"by recommended will cost about 2\.00 retrainings.*closing-steps\.1\.epochs"
    with pytest.warns(CostWarning, match=says) as caught, pytest.raises(ZeroDivisionError):
        run.unlearn("random:0.1")
    assert begun and len(caught) == 1
    with pytest.raises(ZeroDivisionError):
        run.unlearn("class:1")  # `final` alone: pytest turns a warning into an error


def test_a_rival_preset_is_warned_of_by_its_own_settings():
    splits = load("digits")
    request = parse_request("random:0.1", splits.train, 0)
    config = RunConfig(preset="paper", rivals=("recommended",), training=Training(epochs=6))
    assert cost_warning(config, splits, request) == ""
    said = cost_warning(config, splits, request, name="recommended")
    assert "lower recommended.online.closing-steps.0.epochs" in said
    assert cost_warning(config, splits, request, name="scrub") == ""


def test_a_class_has_steps_enough_and_the_small_experiments_are_as_they_were():
    for model in ("mlp", "cnn", "mine"):
        (step,) = preset("recommended", model).online_classes.closing_steps
        size = batch_size_for(step.epochs, step.batch_size, step.min_steps, 1293)
        assert step.epochs * -(-1293 // size) >= 500
        assert batch_size_for(step.epochs, step.batch_size, step.min_steps, 4500) == 128

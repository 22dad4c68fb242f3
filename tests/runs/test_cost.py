"""What unlearning will cost is said before it starts, and a class has steps enough."""

import dataclasses

import pytest
from toys import Plain, toy_splits

from dcmu_jax.data.requests import parse_request
from dcmu_jax.data.sources import load
from dcmu_jax.networks.partition import PARTS
from dcmu_jax.runs import cost, stages
from dcmu_jax.runs.config import RunConfig
from dcmu_jax.runs.cost import CostWarning, cost_warning
from dcmu_jax.runs.options import CondensationOptions, MethodOptions, RemembranceOptions
from dcmu_jax.runs.presets import preset
from dcmu_jax.runs.run import Run
from dcmu_jax.unlearning.modular import Collecting, ModularUnlearning
from dcmu_jax.unlearning.schedule import Step, batch_size_for
from dcmu_jax.unlearning.task import Training


def _retrainings(config, splits, request, model=None):
    return sum(cost._costs(config, splits, request, config.preset, model).values())


def test_a_schedule_dearer_than_retraining_is_said():
    splits = load("digits")
    short = RunConfig(training=Training(epochs=6))
    request = parse_request("random:0.1", splits.train, 0)
    # 1,438 images in batches of 64, 1,295 in batches of 256: the last of each is padded.
    assert (len(splits.train), len(request)) == (1438, 143)
    times = _retrainings(short, splits, request)
    assert times == pytest.approx(10 * (23 * 64) / (6 * (6 * 256)))
    assert "about 1.60 retrainings" in cost_warning(short, splits, request)
    assert cost_warning(RunConfig(), splits, request) == ""
    whole = parse_request("class:3", splits.train, 0)  # `final` alone, on features
    assert 0 < _retrainings(short, splits, whole) < 1
    assert cost_warning(short, splits, whole) == ""


@pytest.mark.parametrize(
    ("name", "model", "lower"),
    [
        ("recommended", "cnn", "--method.online.closing-steps.0.epochs"),
        ("paper", "mlp", "--method.online.rounds"),
        ("condensed", "mlp", "--method.online.closing-steps.0.epochs"),
    ],
)
def test_of_every_preset_and_network(name, model, lower):
    """Each would cost less than a retraining of 30 epochs, and more than one of six."""
    small = "synthetic:classes=4,per_class=60,size=16,channels=1"
    splits = load("digits" if model == "mlp" else small)
    request = parse_request("random:0.1", splits.train, 0)
    long = RunConfig(preset=name, model=model)
    short = dataclasses.replace(long, training=Training(epochs=6))
    assert cost_warning(long, splits, request) == ""
    assert f"or lower {lower} in a new run" in cost_warning(short, splits, request)


SCHEDULES = {
    "all parts, what goes seen again": ModularUnlearning(
        closing_steps=(Step(parts=PARTS, on="retain", epochs=2, batch_size=0),), forget_weight=0.3
    ),
    "on features": ModularUnlearning(
        closing_steps=(Step(parts=("intermediate", "final"), on="retain", epochs=9, batch_size=0),)
    ),
    "rounds": ModularUnlearning(
        collecting=Collecting(real_per_cluster=1),
        rounds=4,
        tail=1,
        round_steps=(
            Step(parts=("beginning",), batch_size=0),
            Step(parts=("final",), on="remembrance", epochs=9, batch_size=0),
        ),
        closing_steps=(Step(parts=("intermediate",), epochs=2, batch_size=0),),
    ),
}


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("forget", ["random:0.2", "class:1"])
@pytest.mark.filterwarnings("ignore::dcmu_jax.runs.cost.CostWarning")
def test_what_is_expected_is_what_is_spent(name, forget, tmp_path):
    method = MethodOptions(
        remembrance=RemembranceOptions(per_class=3),
        condensation=CondensationOptions(cluster_size=4.0, clustering="balanced"),
        online=SCHEDULES[name],
        online_classes=SCHEDULES[name],
    )
    training = Training(epochs=2, batch_size=256)
    config = RunConfig(model="mine", method=method, training=training, baselines=())
    splits = toy_splits(per_class=100)
    run = Run.create(tmp_path / "run", config, model=Plain(), splits=splits)
    spent = [run.unlearn(forget, by).unlearned.flops for by in ("recommended", "retrain")]
    expected = _retrainings(config, splits, run.request(forget), Plain())
    assert expected == pytest.approx(spent[0] / spent[1], rel=0.15)


def test_python_is_warned_before_it_begins_and_of_any_schedule(tmp_path, monkeypatch):
    steps = tuple(Step(parts=PARTS, on="retain", epochs=e, batch_size=64) for e in (1, 3))
    method = dataclasses.replace(
        preset("recommended", "mine"),
        remembrance=RemembranceOptions(per_class=1),
        online=ModularUnlearning(closing_steps=steps),
    )
    config = RunConfig(model="mine", method=method, training=Training(epochs=2), baselines=())
    splits = toy_splits(per_class=24)
    run = Run.create(tmp_path / "run", config, model=Plain(), splits=splits)
    begun = []
    monkeypatch.setattr(stages, "unlearn", lambda *a, **k: begun.append(a) or 1 / 0)
    # 65 images stay: two batches of 64 a pass, where retraining has one of 65.
    says = r"by recommended will cost about 3\.94 retrainings.*closing-steps\.1\.epochs"
    with pytest.warns(CostWarning, match=says) as caught, pytest.raises(ZeroDivisionError):
        run.unlearn("random:0.1")
    assert begun and len(caught) == 1
    with pytest.raises(ZeroDivisionError):
        run.unlearn("class:1")  # `final` alone: pytest turns a warning into an error


def test_a_baseline_preset_is_warned_of_by_its_own_settings():
    splits = load("digits")
    request = parse_request("random:0.1", splits.train, 0)
    config = RunConfig(preset="paper", baselines=("recommended",), training=Training(epochs=6))
    assert "lower --method.online.rounds in" in cost_warning(config, splits, request)
    said = cost_warning(config, splits, request, name="recommended")
    assert "lower recommended.online.closing-steps.0.epochs" in said
    assert cost_warning(config, splits, request, name="scrub") == ""


def test_a_class_has_steps_enough_and_the_small_experiments_are_as_they_were():
    for model in ("mlp", "cnn", "mine"):
        (step,) = preset("recommended", model).online_classes.closing_steps
        size = batch_size_for(step.epochs, step.batch_size, step.min_steps, 1293)
        assert step.epochs * -(-1293 // size) >= 500
        assert batch_size_for(step.epochs, step.batch_size, step.min_steps, 4500) == 128
        # Where fewer than 530 stay, batches cannot shrink so far; more epochs, as the guide says.
        for count, epochs, enough in ((530, 15, True), (200, 15, False), (200, 8000 // 200, True)):
            size = batch_size_for(epochs, step.batch_size, step.min_steps, count)
            assert (epochs * -(-count // size) >= 500) == enough

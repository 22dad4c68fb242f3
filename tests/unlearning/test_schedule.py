"""Modular training: which part trains when, on what, and what is reset."""

import dataclasses

import jax
import numpy as np
import pytest
from baselines.setting import FAST, SPLITS, make_task, scaled
from toys import Noisy, Plain, assert_close, examples_of, fresh, part_of, same_bits, toy_splits

from dcmu_jax.errors import InputError
from dcmu_jax.networks.partition import PARTS, initialise
from dcmu_jax.training.classifier import Classifier
from dcmu_jax.training.keys import named_key
from dcmu_jax.training.loop import fit
from dcmu_jax.training.optimizers import Optimizer
from dcmu_jax.unlearning import modular, schedule
from dcmu_jax.unlearning.modular import Collecting, ModularUnlearning, Offline, train_offline
from dcmu_jax.unlearning.schedule import Reset, Step, batch_size_for, reset_parts, train_step
from dcmu_jax.unlearning.task import Hooks


@pytest.fixture(scope="module")
def task():
    return make_task(model=Noisy())


@pytest.fixture
def steps(monkeypatch):
    """Notes every step: its parts, its set, the labels there, and the network before and after."""
    noted = []

    def noting(step, classifier, examples, **options):
        fitted = train_step(step, classifier, examples, **options)
        key = tuple(np.asarray(jax.random.key_data(options["key"])).tolist())
        state = options.get("opt_state")
        noted.append((step, set(examples.labels.tolist()), classifier, fitted, key, state))
        return fitted

    monkeypatch.setattr(modular, "train_step", noting)
    return noted


def _unchanged(before, after):
    return {part for part in PARTS if same_bits(part_of(before, part), part_of(after, part))}


def test_paper_schedule_in_its_order(task, steps):
    method = scaled("paper")  # S = 4, tau = 2
    result = method(task, Hooks())
    first, second, last = ("beginning",), ("final",), ("intermediate",)
    assert [step.parts for step, *_ in steps] == [first, second] * 2 + [first] * 2 + [last]
    assert [step.on for step, *_ in steps] == ["reduced", "remembrance"] * 2 + ["reduced"] * 3
    network = task.prepared.classifier
    for step, _, before, fitted, _, _ in steps:
        assert before is network
        network = fitted.classifier
        assert _unchanged(before, network) == set(PARTS) - set(step.parts)
    assert network is result.classifier


def test_optimizers_live_on_through_the_rounds_and_draws_differ(task, steps):
    scaled("paper")(task, Hooks())
    latest = {}
    for step, _, _, fitted, _, state in steps:
        assert state is latest.get(step.parts)  # none in the first round
        latest[step.parts] = fitted.opt_state
    assert len({key for *_, key, _ in steps}) == len(steps)


def test_what_no_step_trains_keeps_its_bits(task):
    method = ModularUnlearning(closing_steps=(Step(parts=("final",), optimizer=FAST),))
    result = method(task, Hooks())
    assert _unchanged(task.original, result.classifier) == {"beginning", "intermediate"}


@pytest.mark.parametrize("drop", [True, False])
def test_remembrance_of_a_wholly_forgotten_class(task, steps, drop):
    method = dataclasses.replace(
        scaled("paper"), collecting=Collecting(drop_forgotten_classes=drop)
    )
    method(task, Hooks())
    remembered = [labels for step, labels, *_ in steps if step.on == "remembrance"]
    assert remembered == [{0, 1} if drop else {0, 1, 2}] * 2
    assert [labels for step, labels, *_ in steps if step.on == "reduced"] == [{0, 1}] * 5


def test_remembrance_keeps_a_class_that_is_not_forgotten_whole(steps):
    task = make_task(model=Noisy(), request="random:0.1")
    scaled("paper")(task, Hooks())
    assert all(labels == {0, 1, 2} for step, labels, *_ in steps if step.on == "remembrance")


def _misnamed(value, **names):
    """``value`` with names that the type checker of the tests would not let pass, but users may."""
    value = dataclasses.replace(value)
    for name, wrong in names.items():
        object.__setattr__(value, name, wrong)
    return value


COSINE = Optimizer(schedule="cosine")
_REMEMBER = Step(parts=("final",), on="remembrance")

BAD_SCHEDULES = {
    "no tail": ({"rounds": 3, "tail": 0, "round_steps": (_REMEMBER,)}, r"tail = 0 with rounds = 3"),
    "all tail": ({"rounds": 3, "tail": 3, "round_steps": (_REMEMBER,)}, r"tail = 3 with.*1 and 2"),
    "nothing": ({"rounds": 3, "tail": 1}, r"A schedule that trains nothing"),
    "rounds": ({"rounds": -1}, r"rounds = -1"),
    "no part": ({"closing_steps": (Step(parts=()),)}, r"trains no part"),
    "part": (
        {"closing_steps": (_misnamed(_REMEMBER, parts=("last",)),)},
        r"part of a model 'last'",
    ),
    "set": (
        {"closing_steps": (_misnamed(_REMEMBER, on="reducd"),)},
        r"set to train on 'reducd'.*'reduced'",
    ),
    "epochs": ({"closing_steps": (Step(parts=("final",), epochs=0),)}, r"epochs = 0"),
    "batch": ({"closing_steps": (Step(parts=("final",), batch_size=-1),)}, r"batch_size = -1"),
    "rate": (
        {"closing_steps": (Step(parts=("final",), optimizer=Optimizer(learning_rate=-1.0)),)},
        r"learning_rate = -1",
    ),
    "keep": ({"resets": (Reset(part="final", keep=1.5),)}, r"keep = 1\.5"),
    "reset twice": (
        {"resets": (Reset(part="final"), Reset(part="final", keep=0.5))},
        r"'final' is reset twice",
    ),
    "cosine rounds": (
        {
            "rounds": 2,
            "round_steps": (Step(parts=("final",), optimizer=Optimizer(schedule="cosine")),),
        },
        r"[Ss]chedule 'cosine' in a step of 2 rounds",
    ),
}


@pytest.mark.parametrize("kind", BAD_SCHEDULES)
def test_schedules_without_sense_are_refused(task, kind):
    options, message = BAD_SCHEDULES[kind]
    with pytest.raises(InputError, match=message):
        ModularUnlearning(**options)(task, Hooks())


def test_rounds_without_remembrance_need_no_tail():
    ModularUnlearning(rounds=2, tail=0, round_steps=(Step(parts=("final",)),)).check()


def test_offline_of_no_rounds_is_the_original(task):
    remembrance = task.prepared.remembrance
    left = train_offline(task.original, task.train, remembrance, Offline(rounds=0), seed=0)
    assert left is task.original


def test_offline_rounds(task, steps):
    config = Offline(
        rounds=3,
        final_epochs=2,
        final_optimizer=FAST,
        intermediate_epochs=1,
        intermediate_optimizer=FAST,
    )
    left = train_offline(task.original, task.train, task.prepared.remembrance, config, seed=0)
    assert [step.parts for step, *_ in steps] == [("final",), ("intermediate",)] * 3
    assert [step.epochs for step, *_ in steps] == [2, 1] * 3
    finals = [before for step, _, before, *_ in steps if step.parts == ("final",)]
    for number, before in enumerate(finals):  # reset each round; intermediate goes on
        same = {"beginning", "final"} | ({"intermediate"} if number == 0 else set())
        assert _unchanged(task.original, before) == same
    assert _unchanged(task.original, left) == {"beginning"}
    again = train_offline(task.original, task.train, task.prepared.remembrance, config, seed=0)
    assert same_bits(left.variables, again.variables)


def test_reset_of_nothing_and_to_the_start():
    classifier = fresh(Noisy(), SPLITS.train, seed=5)
    key = named_key(0, "reset")
    kept = reset_parts(classifier, (Reset(part="final", keep=1.0),), key)
    assert same_bits(kept.variables, classifier.variables)
    assert reset_parts(classifier, (), key) is classifier
    anew = reset_parts(classifier, (Reset(part="intermediate", keep=0.0),), key)
    start = initialise(classifier.model, key, classifier.image_shape)
    assert _unchanged(classifier, anew) == {"beginning", "final"}
    for name in ("params", "batch_stats"):
        assert same_bits(anew.variables[name]["intermediate"], start[name]["intermediate"])
    other = reset_parts(classifier, (Reset(part="intermediate"),), named_key(1, "reset"))
    assert not same_bits(anew.variables, other.variables)


def test_reset_half_way():
    classifier = fresh(Noisy(), SPLITS.train, seed=5)
    key = named_key(0, "reset")
    half = reset_parts(classifier, (Reset(part="final", keep=0.25),), key)
    start = initialise(classifier.model, key, classifier.image_shape)["params"]["final"]
    old = classifier.variables["params"]["final"]
    expected = jax.tree.map(lambda a, b: 0.25 * a + 0.75 * b, old, start)
    assert_close(half.variables["params"]["final"], expected, atol=1e-7)


@pytest.mark.parametrize("parts", [("final",), ("intermediate",), ("intermediate", "final")])
def test_a_step_from_cached_features_is_the_step(parts):
    train = SPLITS.train
    classifier = fresh(Noisy(), train)
    options = {"key": named_key(0, "step"), "optimizer": FAST, "batch_size": 16}
    step = Step(parts=parts, epochs=2, batch_size=16, optimizer=FAST)
    cached = train_step(step, classifier, examples_of(train), key=options["key"])
    whole = fit(classifier, examples_of(train), epochs=2, parts=parts, **options)
    assert_close(cached.classifier.variables, whole.classifier.variables, atol=1e-4, rtol=1e-3)


def test_inputs_that_stay_the_same_are_made_once_and_on_the_device(monkeypatch):
    train = SPLITS.train
    network, offline = fresh(Noisy(), train), Offline(rounds=2, final_epochs=1)
    offline = dataclasses.replace(offline, intermediate_epochs=1)
    made = []
    inputs_of = Classifier.inputs_of

    def noting(classifier, part, pixels, *, on_device=False):
        made.append(part)
        inputs = inputs_of(classifier, part, pixels, on_device=on_device)
        assert isinstance(inputs, jax.Array if on_device else np.ndarray)
        return inputs

    monkeypatch.setattr(Classifier, "inputs_of", noting)

    def trained():
        made.clear()
        return train_offline(network, train, train.take(range(8)), offline, seed=0).variables

    once = trained()
    assert made == ["final", "intermediate", "final"]  # the final part's inputs are new every time
    monkeypatch.setattr(schedule, "on_cpu", lambda: False)
    assert same_bits(once, trained())
    monkeypatch.setattr(schedule, "device_budget", lambda: 1)
    assert same_bits(once, trained())
    monkeypatch.setattr(schedule.CachedInputs, "__init__", lambda self: None)
    monkeypatch.setattr(schedule.CachedInputs, "_kept", property(lambda _: {}), raising=False)
    assert same_bits(once, trained()) and made == ["final", "intermediate"] * 2


@pytest.mark.parametrize(
    ("count", "devices", "size"),
    [
        (4000, 1, 128),  # 10 epochs of 32 steps: enough
        (1000, 1, 32),  # 128 and 64 would make 80 and 160 steps
        (1000, 4, 32),
        (1000, 64, 64),  # each device must have its share
        (50, 1, 16),  # too small for 200 steps: no less than 16 examples in a batch
    ],
)
def test_small_sets_get_as_many_steps_by_smaller_batches(count, devices, size):
    assert batch_size_for(10, 128, 200, count, devices) == size
    assert batch_size_for(10, 128, 0, count, devices) == 128
    assert batch_size_for(10, 0, 200, count, devices) == 0


def test_the_smaller_batches_are_those_that_train():
    train = toy_splits(per_class=20).train
    network = fresh(Plain(), train)
    key = named_key(0, "step")
    step = Step(parts=("final",), epochs=2, batch_size=32, min_steps=8, optimizer=FAST)
    assert batch_size_for(2, 32, 8, 60) == 16
    same = dataclasses.replace(step, batch_size=16, min_steps=0)
    results = [train_step(s, network, examples_of(train), key=key) for s in (step, same)]
    assert same_bits(*(fitted.classifier.variables for fitted in results))

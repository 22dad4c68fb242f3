"""Settings of the wrong type are refused where they are made, and said as they are typed."""

import dataclasses
import json
import re
from pathlib import Path

import jaxtyping
import numpy as np
import optax
import pytest
from toys import Plain, toy_splits

from dcmu_jax.data.dataset import Dataset
from dcmu_jax.data.requests import as_request, parse_request
from dcmu_jax.errors import InputError
from dcmu_jax.runs.config import RunConfig
from dcmu_jax.runs.config_json import from_json, to_json
from dcmu_jax.runs.options import DataOptions, MethodOptions, NetworkOptions
from dcmu_jax.runs.presets import preset
from dcmu_jax.runs.run import Run
from dcmu_jax.training.classifier import fresh_classifier
from dcmu_jax.training.optimizers import Optimizer
from dcmu_jax.unlearning.modular import ModularUnlearning
from dcmu_jax.unlearning.schedule import Step
from dcmu_jax.unlearning.task import Training

SPLITS = toy_splits(per_class=60)


@pytest.fixture(autouse=True)
def as_users_have_it():
    """Without the checks of annotations, which the tests alone have (``conftest``)."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


STEP = Step(parts=("final",))
OWN = Step(parts=("final",), optimizer=optax.adam(1e-3))

WRONG = {
    "a preset for the method": (lambda: {"method": "paper"}, r"Give preset='paper'"),
    "a method for the preset": (
        lambda: {"preset": MethodOptions()},
        r"recommended, condensed, paper. Give it as method",
    ),
    "None for the preset": (lambda: {"preset": None}, r"preset = None.*Give 'recommended'"),
    "a number for the preset": (lambda: {"preset": 3}, r"preset = 3.*Give 'recommended'"),
    "a dictionary": (lambda: {"training": {"epochs": 2}}, r"Give Training\(epochs=2\)"),
    "a dictionary of others": (
        lambda: {"training": {"epoch": 2}},
        r"an? Training. Give Training\(\)",
    ),
    "None": (lambda: {"network": None}, r"network = None.*Give NetworkOptions\(\)"),
    "a name": (
        lambda: {"training": Training(optimizer="sgd")},
        r"an Optimizer.*Optimizer\(name='sgd'\)",
    ),
    "an archive": (lambda: {"dataset": Path("mine.npz")}, r"Give 'npz:mine\.npz'"),
    "a folder": (lambda: {"dataset": Path("mine")}, r"Give 'npy:mine'"),
    "data": (lambda: {"dataset": SPLITS}, r"dataset given as a Splits.*splits="),
    "a module": (lambda: {"model": Plain()}, r"model given as the module Plain.*model=module"),
    "a module's class": (lambda: {"model": Plain}, r"model given as the module Plain"),
    "no baselines": (lambda: {"baselines": None}, r"Give \(\) for none"),
    "a number for baselines": (lambda: {"baselines": 3}, r"Names given as 3"),
    "numbers for baselines": (lambda: {"baselines": [3]}, r"baselines\.0 = 3\. Allowed: a text"),
    "ids": (lambda: {"forget": [3, 17]}, r"Give 'ids:3,17'"),
    "ids in an array": (lambda: {"forget": np.arange(2)}, r"Give 'ids:0,1'"),
    "a mask": (lambda: {"forget": np.ones(4, bool)}, r"Run\.request takes arrays"),
    "a share": (lambda: {"forget": 0.1}, r"Give 'random:0\.1'"),
    "a class": (lambda: {"forget": 3}, r"'class:3' or 'ids:3'"),
    "whole in a float": (
        lambda: {"training": Training(epochs=2.0)},
        r"training\.epochs = 2\.0.*Give 2$",
    ),
    "whole in a text": (lambda: {"seed": "1"}, r"seed = '1'. Allowed: a whole number. Give 1$"),
    "a fraction": (lambda: {"seed": 1.5}, r"Give a whole number as seed"),
    "a truth": (lambda: {"seed": True}, r"seed = True"),
    "a number for a truth": (lambda: {"training": Training(flip=1)}, r"True or False. Give True"),
    "a number in a text": (
        lambda: {"network": NetworkOptions(width="2")},
        r"width = '2'.*Give 2\.0",
    ),
    "no word of a list": (
        lambda: {"network": NetworkOptions(norm="Batch")},
        r"norm 'Batch'.*'batch'",
    ),
    "one number for many": (
        lambda: {"data": DataOptions(mean=0.5)},
        r"mean = 0\.5.*Give \(0\.5,\)",
    ),
    "a path for a text": (
        lambda: {"data": DataOptions(directory=Path("x"))},
        r"directory.*Give 'x'",
    ),
    "one step for many": (
        lambda: {"method": MethodOptions(online=ModularUnlearning(closing_steps=STEP))},
        r"method\.online\.closing_steps = .*Give \(Step\(",
    ),
    "deep inside": (
        lambda: {"method": MethodOptions(online=ModularUnlearning(closing_steps=(STEP, 3)))},
        r"method\.online\.closing_steps\.1 = 3",
    ),
    "an array in settings": (
        lambda: {"settings": {"scrub": {"a": np.ones(2)}}},
        r"Give \[1\.0, 1\.0\]",
    ),
    "a transformation": (
        lambda: {"training": Training(optimizer=optax.adam(1e-3))},
        r"training\.optimizer = Gradient.*an Optimizer\. Give an Optimizer .* Run\.adopt",
    ),
    "a transformation deep inside": (
        lambda: {"method": MethodOptions(online=ModularUnlearning(closing_steps=(OWN,)))},
        r"method\.online\.closing_steps\.0\.optimizer = Gradient.*dcmu\.unlearn",
    ),
    "a function of the rate": (
        lambda: {"training": Training(optimizer=optax.adam)},
        r"training\.optimizer = <function.*an Optimizer\. Give an Optimizer .* Run\.adopt",
    ),
    "a function by name": (
        lambda: {"training": Training(optimizer=Optimizer(name=optax.lion))},
        r"training\.optimizer\.name = <function.*'adam' or .* Run\.adopt",
    ),
    "a number for settings": (lambda: {"settings": {"scrub": 3}}, r"settings\.scrub = 3"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_type_is_refused_where_the_settings_are_made(kind):
    given, message = WRONG[kind]
    with pytest.raises(InputError, match=message):
        RunConfig(**given())


@pytest.mark.parametrize(
    ("given", "remedy"),
    [
        ({"scrub": {"epochs": 3}}, "baselines=('scrub',), settings={'scrub': {'epochs': 3}}"),
        ({"scrub", "cf_k"}, "('cf_k', 'scrub')"),
        (frozenset({"scrub"}), "('scrub',)"),
        (iter(["scrub"]), "('scrub',)"),
    ],
    ids=lambda given: type(given).__name__,
)
def test_baselines_that_are_no_tuple_of_names(given, remedy):
    with pytest.raises(InputError) as caught:
        RunConfig(baselines=given)
    assert caught.value.remedy == f"Give {remedy}"
    typed = remedy if "=" in remedy else f"baselines={remedy}"
    eval(f"RunConfig({typed})", {"RunConfig": RunConfig}).check()


@pytest.mark.parametrize("given", [float("nan"), float("inf"), True])
def test_no_remedy_gives_what_is_refused_again(given):
    with pytest.raises(InputError) as caught:
        RunConfig(data=DataOptions(mean=given))
    assert caught.value.remedy == "Give a tuple of numbers as data.mean"
    with pytest.raises(InputError) as caught:
        RunConfig(data=DataOptions(mean=0.5))
    assert caught.value.remedy == "Give (0.5,)"


def test_numbers_of_numpy_become_those_that_a_file_holds():
    config = RunConfig(
        seed=np.int64(3),
        baselines=["scrub"],
        settings={"scrub": {"epochs": np.int32(2), "names": ("a", "b")}},
        data=DataOptions(mean=np.array([0.5]), std=[1], download=np.bool_(True)),
        training=Training(epochs=np.int32(4), optimizer=Optimizer(learning_rate=1)),
    )
    assert json.loads(to_json(config))["settings"] == {"scrub": {"epochs": 2, "names": ["a", "b"]}}
    assert (config.seed, config.data.mean, config.data.std) == (3, (0.5,), (1.0,))
    assert type(config.training.optimizer.learning_rate) is float
    assert type(config.seed) is type(config.training.epochs) is int
    assert from_json(to_json(config), "here") == config
    assert repr(from_json(to_json(config), "here")) == repr(config)


def test_settings_of_the_right_types_are_left_as_they_are():
    method = dataclasses.replace(preset("paper", "cnn"), control="same_class")
    training = Training(epochs=3)
    config = RunConfig(method=method, training=training)
    assert config.method is method and config.training is training


GIVEN = {
    "settings in a dictionary": ({"seed": 3}, None, r"config = .*Give RunConfig\(seed=3\)"),
    "a file of settings": (Path("config.json"), None, r"Allowed: a RunConfig"),
    "two arrays": (RunConfig(), (1, 2), r"splits given as a tuple.*\(\*splits\)"),
    "one set": (RunConfig(), SPLITS.train, r"splits given as a Dataset"),
    "a text of no file": (
        RunConfig(dataset="\udc80", forget="class:1"),
        SPLITS,
        r"config\.json cannot hold",
    ),
}


ASKED = {
    "an id": (5000, r"given as 5000.*Give 'class:5000' or 'ids:5000'"),
    "an id of NumPy": (np.int64(3), r"Give 'class:3' or 'ids:3'"),
    "None": (None, r"given as None.*Say what to forget"),
    "a share": (0.1, r"Give 'random:0\.1'"),
    "a path": (Path("gone.txt"), r"Give 'ids:gone\.txt'"),
    "bytes": (b"class:1", r"Give 'class:1'"),
    "a dictionary": ({"class": 1}, r"given as \{'class': 1\}"),
}


@pytest.mark.parametrize("kind", ASKED)
def test_what_is_no_request(kind):
    asked, message = ASKED[kind]
    with pytest.raises(InputError, match=message):
        as_request(asked, SPLITS.train)


OFFERED = [
    (2, ["class:2", "ids:2"]),
    (2.0, ["class:2", "ids:2"]),
    (np.array(2), ["class:2", "ids:2"]),
    (10**12, ["ids:1000000000000"]),
    (10**20, []),
    (-1, []),
    (np.float32(0.1), ["random:0.1"]),
    (0.99999999, ["random:0.99999999"]),
    (1.5, []),
    (float("nan"), []),
    (float("inf"), []),
    (True, []),
    (b"class:2", ["class:2"]),
    (bytearray(b"class:2"), ["class:2"]),
    (b"\xff", []),
    (Path("few.txt"), ["ids:few.txt"]),
    ([2, 1], ["ids:2,1"]),
    ([2, 2], []),
    ([-1], []),
    ([[1, 2], [3]], []),
    ([2**63, -1], []),
    ({2: True}, []),
    (["class:2"], []),
]


@pytest.mark.parametrize(("given", "texts"), OFFERED, ids=lambda case: repr(case)[:30])
def test_what_is_offered_in_place_of_a_request_is_read(given, texts, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("few.txt").write_text("1,2")
    labels, ids = np.arange(3, dtype=np.int32), np.array([1, 2, 10**12])
    train = Dataset(SPLITS.train.images[:3], labels, ids, 3)
    with pytest.raises(InputError) as caught:
        RunConfig(forget=given)
    said = [caught.value]
    if not isinstance(given, list):
        with pytest.raises(InputError) as caught:
            as_request(given, train)
        said.append(caught.value)
    for error in said:
        assert error.remedy
        found = re.findall(r"'(\w+:[^']*)'", error.remedy)
        assert [text for text in found if text != "ids:FILE"] == texts
    for text in texts:
        data = SPLITS.train if text.startswith("random") else train
        assert RunConfig(forget=text).forget == text and len(parse_request(text, data, 0))


SAID = {
    "smoothing": ({"training": Training(label_smoothing=1.5)}, r"label_smoothing = 1\.5"),
    "names in one text": (
        {"baselines": "scrub,Paper"},
        r"apart: \('scrub', 'paper'\).*: scrub paper",
    ),
    "another case": ({"baselines": "Scrub"}, r"baseline method 'Scrub'.*Did you mean 'scrub'"),
    "a preset in another case": ({"baselines": "PAPR"}, r"Allowed: .*paper.*Did you mean 'paper'"),
    "settings of no baseline": (
        {"settings": {"paper": {}}},
        r"not among the baselines.*Give baselines=\('catastrophic_forgetting', 'paper'\)",
    ),
}


@pytest.mark.parametrize("kind", SAID)
def test_settings_are_said_as_they_are_typed(tmp_path, kind):
    given, message = SAID[kind]
    config = RunConfig(forget="class:1", **given)
    with pytest.raises(InputError, match=message):
        Run.create(tmp_path / "run", config, splits=SPLITS, model=Plain())
    assert not list(tmp_path.iterdir())


def test_a_directory_of_a_run_and_of_none(tmp_path):
    config = RunConfig(forget="class:1")
    for wrong in (None, 3):
        for call in (Run.create, Run.create_or_open, lambda d, c: Run.open(d)):
            with pytest.raises(InputError, match=rf"directory given as {wrong}"):
                call(wrong, config)
    run = Run.create(tmp_path / "run", config, splits=SPLITS)
    with pytest.raises(InputError, match=r"exists already.*--resume, in Python Run\.open"):
        Run.create(tmp_path / "run", config, splits=SPLITS)
    for call in (run.prepare, lambda name: run.unlearn("class:1", name)):
        with pytest.raises(InputError, match=r"'Papr'.*paper.*Did you mean 'paper'"):
            call("Papr")


@pytest.mark.parametrize("seed", ["7", 7.0])
def test_a_seed_that_is_one_in_another_type(seed):
    with pytest.raises(InputError, match=r"such as 7$"):
        fresh_classifier(Plain(), SPLITS.train, seed=seed)


@pytest.mark.parametrize("kind", GIVEN)
def test_what_a_run_is_given(tmp_path, kind):
    config, splits, message = GIVEN[kind]
    with pytest.raises(InputError, match=message):
        Run.create(tmp_path / "run", config, splits=splits, model=Plain())
    assert not list(tmp_path.iterdir())

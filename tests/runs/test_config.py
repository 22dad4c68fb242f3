"""Settings as values: to JSON and back, checked at the door, presets without privileges."""

import ast
import dataclasses
import json
import pickle
from pathlib import Path

import pytest

import dcmu_jax
from dcmu_jax.errors import InputError
from dcmu_jax.fast.matching import MatchingConfig
from dcmu_jax.networks import MODELS
from dcmu_jax.networks.partition import PARTS
from dcmu_jax.runs.config import RunConfig
from dcmu_jax.runs.config_json import from_json, to_file, to_json
from dcmu_jax.runs.options import (
    CondensationOptions,
    DataOptions,
    MethodOptions,
    RemembranceOptions,
    clusters_per_class,
)
from dcmu_jax.runs.presets import PRESETS, preset
from dcmu_jax.theory import best_clusters_per_class
from dcmu_jax.training.optimizers import Optimizer
from dcmu_jax.unlearning.modular import ModularUnlearning, Offline
from dcmu_jax.unlearning.schedule import Step
from dcmu_jax.unlearning.task import Training

PACKAGE = Path(dcmu_jax.__file__).parent

CONFIGS = {
    "default": RunConfig(),
    "paper": RunConfig(model="vgg16", preset="paper", method=preset("paper", "vgg16")),
    "all else": RunConfig(
        baselines=("catastrophic_forgetting", "paper"),
        data=DataOptions(mean=(0.1, 0.2, 0.3), std=(1.0, 2.0, 3.0), directory="somewhere"),
        training=Training(epochs=3, optimizer=Optimizer(name="sgd", learning_rate=1e-5), flip=True),
        method=MethodOptions(
            condensation=CondensationOptions(
                clusters_per_class=3, matching=MatchingConfig(tolerance=1e-3, chunk=7)
            )
        ),
    ),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_json_round_trip(name):
    config = CONFIGS[name]
    text = to_json(config)
    assert from_json(text, "config.json") == config
    assert to_json(from_json(text, "config.json")) == text


def test_rivals_are_baselines_under_their_old_name():
    config = CONFIGS["all else"]
    assert dataclasses.replace(config, rivals="scrub").baselines == ("scrub",)
    assert RunConfig(rivals=("scrub",)).rivals == RunConfig(baselines="scrub").baselines
    before = to_file(config).replace('"baselines"', '"rivals"')
    assert '"rivals"' in before and from_json(before, "config.json") == config
    both = before.replace("{", '{"baselines": [],', 1)
    with pytest.raises(InputError, match="rivals: no such setting"):
        from_json(both, "config.json")


DAMAGED = {
    "empty": "",
    "no object": "[]",
    "cut off": to_json(RunConfig())[:-40],
    "unknown field": to_json(RunConfig()).replace('"model"', '"modle"', 1),
    "text for a number": to_json(RunConfig()).replace('"seed": 0', '"seed": "0"', 1),
    "unknown value": to_json(RunConfig()).replace('"choice": "random"', '"choice": "best"', 1),
    "bad number": to_json(RunConfig()).replace('"steps": 3', '"steps": -1', 1),
    "binary": "\ufffd\x00\x01",
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_damaged_json_is_refused(kind):
    assert DAMAGED[kind] != to_json(RunConfig())
    message = r"'x/config\.json' cannot be read as the settings of a run \(.*Restore the file"
    with pytest.raises(InputError, match=message):
        from_json(DAMAGED[kind], "x/config.json")


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("model", [*MODELS, "a module of one's own"])
def test_presets_are_plain_values(name, model):
    options = preset(name, model)
    assert type(options) is MethodOptions and type(options.online) is ModularUnlearning
    assert options == preset(name, model)
    RunConfig(preset=name, method=options).check()


FOLLOWING = {
    "preset": (lambda: RunConfig(preset="paper"), "paper", "mlp"),
    "model": (lambda: RunConfig(model="cnn"), "recommended", "cnn"),
    "both": (lambda: RunConfig(preset="paper", model="resnet18"), "paper", "resnet18"),
    "copy": (lambda: dataclasses.replace(RunConfig(), model="cnn"), "recommended", "cnn"),
    "copy of a copy": (
        lambda: dataclasses.replace(
            dataclasses.replace(RunConfig(), seed=3), preset="condensed", model="convnet"
        ),
        "condensed",
        "convnet",
    ),
    "back": (
        lambda: dataclasses.replace(dataclasses.replace(RunConfig(), model="cnn"), model="mlp"),
        "recommended",
        "mlp",
    ),
    "saved": (
        lambda: dataclasses.replace(from_json(to_json(RunConfig()), "x"), model="cnn"),
        "recommended",
        "cnn",
    ),
    "sent": (
        lambda: dataclasses.replace(pickle.loads(pickle.dumps(RunConfig())), model="cnn"),
        "recommended",
        "cnn",
    ),
    "said": (
        lambda: dataclasses.replace(RunConfig(method=preset("recommended", "mlp")), preset="paper"),
        "paper",
        "mlp",
    ),
}


@pytest.mark.parametrize("way", FOLLOWING)
def test_the_method_follows_from_preset_and_model(way):
    make, name, model = FOLLOWING[way]
    config = make()
    assert (config.preset, config.model) == (name, model)
    assert config.method == preset(name, model)
    assert (
        json.loads(to_json(config))["method"]["online"]
        == json.loads(to_json(RunConfig(preset=name, model=model, method=preset(name, model))))[
            "method"
        ]["online"]
    )
    assert from_json(to_json(config), "config.json") == config


def test_a_method_that_is_given_stays():
    given = dataclasses.replace(preset("recommended", "mlp"), control="all")
    changed = dataclasses.replace(RunConfig().method, control="all")
    for method in (given, changed, preset("condensed", "cnn")):
        config = RunConfig(method=method)
        assert config.method == method
        other = dataclasses.replace(config, model="cnn", preset="paper")
        assert other.method == method
        assert dataclasses.replace(from_json(to_json(config), "x"), model="vgg16").method == method


def _edited(config, **changes):
    return json.dumps(json.loads(to_file(config)) | changes)


GIVEN = dataclasses.replace(preset("recommended", "mlp"), control="all")


@pytest.mark.parametrize("config", [RunConfig(), RunConfig(method=GIVEN)], ids=["own", "given"])
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"preset": "paper"}, "preset = 'paper', whose .* of preset = 'recommended'.*--preset pap"),
        ({"model": "cnn"}, "model = 'cnn', whose .* of model = 'mlp'.*dcmu train --model cnn --ou"),
        ({"preset": "paper", "model": "cnn"}, "'paper' and model = 'cnn', .*--preset paper --mode"),
        ({"method_of": "paper"}, "method_of = 'paper'"),
    ],
    ids=str,
)
def test_a_file_whose_method_is_of_another_preset_or_model(config, changes, message):
    assert from_json(to_file(config), "x") == config
    with pytest.raises(InputError, match=message):
        from_json(_edited(config, **changes), "x")


def test_a_file_with_a_method_of_its_own_or_of_no_one():
    paper = json.loads(to_json(RunConfig(preset="paper")))
    config = from_json(_edited(RunConfig(), preset="paper", method=paper["method"]), "x")
    assert config == RunConfig(preset="paper")
    # What the message advises, a name that has the same preset, and a file that does not say.
    config = from_json(_edited(RunConfig(), preset="paper", method_of="paper for mlp"), "x")
    assert config.method == RunConfig().method
    assert from_json(_edited(RunConfig(model="mine"), model="yours"), "x").model == "yours"
    old = json.loads(to_json(RunConfig())) | {"preset": "paper"}
    assert from_json(json.dumps(old), "x").method == RunConfig().method


def test_an_unknown_preset():
    with pytest.raises(InputError, match=r"preset 'recomended'.*Did you mean 'recommended'"):
        preset("recomended", "mlp")


def _compared_constants(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            for part in ast.walk(node):
                if isinstance(part, ast.Constant):
                    yield part.value
        if isinstance(node, ast.MatchValue) and isinstance(node.value, ast.Constant):
            yield node.value.value


def test_no_code_asks_which_preset_it_is_in():
    for file in sorted(PACKAGE.rglob("*.py")):
        compared = set(_compared_constants(ast.parse(file.read_text())))
        assert not compared & set(PRESETS), file


def _with(**changes):
    return dataclasses.replace(RunConfig(), **changes)


def _condensation(**changes):
    return _with(method=MethodOptions(condensation=CondensationOptions(**changes)))


BAD = {
    "preset": (_with(preset="papr"), r"preset 'papr'.*Did you mean 'paper'"),
    "epochs": (_with(training=Training(epochs=0)), r"training\.epochs = 0"),
    "batch": (_with(training=Training(batch_size=0)), r"training\.batch_size = 0"),
    "rate": (_with(training=Training(optimizer=Optimizer(learning_rate=-1.0))), r"learning_rate ="),
    "test fraction": (_with(data=DataOptions(test_fraction=1.0)), r"data\.test_fraction = 1"),
    "mean alone": (_with(data=DataOptions(mean=(0.5,))), r"Only one of data\.mean and data\.std"),
    "devices": (_with(devices=0), r"devices = 0"),
    "fraction": (_condensation(expected_fraction=0.0), r"expected_fraction = 0"),
    "K": (_condensation(clusters_per_class=0), r"clusters_per_class = 0"),
    "size": (_condensation(cluster_size=0.5), r"cluster_size = 0\.5"),
    "M": (
        _with(method=MethodOptions(remembrance=RemembranceOptions(per_class=0))),
        r"remembrance\.per_class = 0",
    ),
    "rounds": (_with(method=MethodOptions(online=ModularUnlearning(rounds=-1))), r"rounds = -1"),
}


@pytest.mark.parametrize("kind", BAD)
def test_settings_without_sense_are_refused(kind):
    config, message = BAD[kind]
    with pytest.raises(InputError, match=message):
        config.check()


def test_clusters_per_class_by_the_first_way_that_is_set():
    both = CondensationOptions(clusters_per_class=7, cluster_size=10.0)
    assert clusters_per_class(both, 1000.0) == 7
    assert clusters_per_class(CondensationOptions(cluster_size=10.0), 1004.0) == 100
    assert clusters_per_class(CondensationOptions(cluster_size=10.0), 3.0) == 1
    left_open = CondensationOptions(expected_fraction=0.05)
    assert clusters_per_class(left_open, 500.7) == best_clusters_per_class(500, 0.05)
    # The paper's 450 clusters of 5,000 images, and in proportion.
    assert clusters_per_class(preset("paper", "cnn").condensation, 5000.0) == 450


def test_every_batch_that_trains_is_held_against_the_devices():
    step = Step(parts=PARTS, on="retain", batch_size=258)
    schedule = ModularUnlearning(closing_steps=(step,))
    method = dataclasses.replace(
        preset("recommended", "mlp"), online=schedule, online_classes=schedule
    )
    config = RunConfig(devices=3, method=method, training=Training(batch_size=258), baselines=())

    def check(saved=False, serving=False, **changes):
        dataclasses.replace(config, **changes).check_batches(saved=saved, serving=serving)

    check()
    baseline = ("catastrophic_forgetting",)
    says = (
        r"A batch of 256 over 3 devices \(batch-size of catastrophic_forgetting\).*"
        r"Set --devices to 2, leave catastrophic_forgetting out of --baselines, or set it to 258"
    )
    with pytest.raises(InputError, match=says):
        check(baselines=baseline)
    check(baselines=baseline, devices=2)
    check(baselines=baseline, settings={baseline[0]: {"batch_size": 258}})
    check(baselines=("ntk_scrubbing",))  # its batches are no part of a training
    with pytest.raises(InputError, match=r"512 over 3 devices \(training\.batch-size of fast"):
        check(baselines=("fast_retraining",))
    offline = dataclasses.replace(method, offline=Offline(rounds=1, final_batch_size=33))
    with pytest.raises(InputError, match=r"\(--method\.offline\.intermediate-batch-size\).*to 258"):
        check(method=offline)
    check(method=offline, baselines=baseline, serving=True)
    with pytest.raises(InputError, match=r"multiples of devices\. Set --devices to 1$"):
        check(training=Training(batch_size=257), saved=True)


def test_a_clean_bank_of_a_baseline_is_condensed_by_matching_or_refused():
    clean = {"condensation": {"lineage": "clean", "condenser": "mine.py:medoid"}}
    config = RunConfig(baselines=("condensed",), settings={"condensed": clean})
    with pytest.raises(
        InputError, match=r"A clean bank by mine\.py:medoid \(condenser of condensed"
    ):
        config.check()
    clean = {"condensation": {"lineage": "clean"}}
    RunConfig(baselines=("condensed",), settings={"condensed": clean}).check()

"""A run on disk: made whole or not at all, each stage once, resumed to the same bits."""

import dataclasses
import json
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import flax.linen as nn
import numpy as np
import pytest
from toys import Plain, fresh, same_bits, toy_splits

from dcmu_jax.errors import InputError
from dcmu_jax.fast.matching import MatchingConfig
from dcmu_jax.metrics import accuracy, telltale
from dcmu_jax.networks.partition import check_parts
from dcmu_jax.reporting.comparison import compare
from dcmu_jax.runs import stages
from dcmu_jax.runs.config import RunConfig
from dcmu_jax.runs.config_json import from_json, to_json
from dcmu_jax.runs.cost import short_classes
from dcmu_jax.runs.options import (
    CondensationOptions,
    DataOptions,
    MethodOptions,
    NetworkOptions,
    RemembranceOptions,
)
from dcmu_jax.runs.run import Run
from dcmu_jax.training.classifier import Classifier
from dcmu_jax.training.optimizers import Optimizer
from dcmu_jax.unlearning.modular import ModularUnlearning, Offline
from dcmu_jax.unlearning.schedule import Reset, Step
from dcmu_jax.unlearning.task import Training

FAST = Optimizer(learning_rate=1e-2)
ONLINE = ModularUnlearning(
    closing_steps=(Step(parts=("intermediate", "final"), epochs=4, optimizer=FAST),)
)
CONFIG = RunConfig(
    dataset="synthetic:classes=3,per_class=24,size=8,channels=1",
    forget="class:2",
    baselines=(),
    training=Training(epochs=6, batch_size=24, optimizer=FAST),
    method=MethodOptions(
        remembrance=RemembranceOptions(per_class=2),
        condensation=CondensationOptions(clusters_per_class=6, matching=MatchingConfig(steps=3)),
        offline=Offline(rounds=1, final_epochs=1, intermediate_epochs=1),
        online=ONLINE,
        online_classes=ONLINE,
    ),
)


def _files(directory):
    """Path -> time of writing, of every file below; the log apart."""
    return {
        str(path.relative_to(directory)): path.stat().st_mtime_ns
        for path in directory.rglob("*")
        if path.is_file() and path.name != "metrics.jsonl"
    }


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """A finished run of a network of the user's own."""
    directory = tmp_path_factory.mktemp("runs") / "first"
    run = Run.create(directory, CONFIG, model=Plain())
    compare(run, run.request(CONFIG.forget))
    return directory


def _open(directory, **rest):
    return Run.open(directory, model=Plain(), **rest)


def test_everything_is_there(directory):
    for name in (
        "config.json",
        "data.json",
        "metrics.jsonl",
        "table.csv",
        "report.html",
        "figures/clusters.png",
        "figures/trajectories.png",
        "figures/losses.png",
        "original/beginning",
        "original/intermediate",
        "original/final",
        "prepared/recommended/bank.npz",
        "prepared/recommended/network/final",
        "requests/class-2/request.json",
        "requests/class-2/retrain/result.json",
        "requests/class-2/recommended/network/final",
    ):
        assert (directory / name).exists(), name
    assert not list(directory.rglob("*.part")) and not list(directory.rglob("*.unfinished"))
    assert [path.name for path in directory.parent.iterdir()] == ["first"]
    request = json.loads((directory / "requests/class-2/request.json").read_text())
    assert request["text"] == "class:2" and len(request["ids"]) == 24


def test_the_log_has_every_stage_and_epoch(directory):
    lines = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    stages_seen = {line["stage"] for line in lines}
    assert {"train", "prepare recommended", "forget class-2 retrain"} <= stages_seen
    assert [line["epoch"] for line in lines if line["stage"] == "train" and "epoch" in line] == [
        *range(1, 7)
    ]
    compared = [line for line in lines if line["stage"] == "compare class-2"]
    assert [line["method"] for line in compared][:3] == ["original", "retrain", "recommended"]


def test_finished_stages_are_not_repeated(directory, monkeypatch):
    def repeated(*_args, **_kwargs):
        raise AssertionError("a finished stage was run again")

    for stage in ("train_original", "prepare", "unlearn"):
        monkeypatch.setattr(stages, stage, repeated)
    before = _files(directory)
    run = _open(directory)
    request = run.request(CONFIG.forget)
    first, prepared = run.train(), run.prepare()
    assert not same_bits(first.variables, prepared.classifier.variables)  # offline round kept
    served = run.unlearn(request)
    assert served.unlearned.online_s > 0 and served.trajectory.method == "recommended"
    assert not np.isin(served.unlearned.trained_ids, request.ids).any()
    compare(run, request)
    after = _files(directory)
    rewritten = {name for name in before if after[name] != before[name]}
    assert rewritten == {
        "table.csv",
        "report.html",
        *(f"figures/{n}.png" for n in ("clusters", "trajectories", "losses")),
    }


def test_an_interrupted_original_resumes_to_the_same_bits(directory, tmp_path):
    class PowerCut(Exception):
        pass

    def cut(name, epochs):
        class Shown:
            def __enter__(self):
                return self

            def __exit__(self, *_):
                return None

            def __call__(self, epoch, loss, accuracy):
                if epoch == 4:
                    raise PowerCut

        return Shown()

    config = CONFIG
    run = Run.create(tmp_path / "run", config, model=Plain(), progress=cut)
    with pytest.raises(PowerCut):
        run.train()
    assert (tmp_path / "run" / "original.unfinished").is_dir()
    assert not (tmp_path / "run" / "original").exists()
    resumed = _open(tmp_path / "run").train()
    assert same_bits(resumed.variables, _open(directory).train().variables)
    assert not (tmp_path / "run" / "original.unfinished").exists()
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    epochs = [json.loads(line).get("epoch") for line in lines]
    assert epochs == [1, 2, 3, 4, 5, 6, None]  # the fourth, not saved, once before and once after


def test_other_data_is_refused(directory):
    with pytest.raises(InputError, match=r"The data of 'synthetic.*is not what the run"):
        _open(directory, splits=toy_splits(classes=3, per_class=24, seed=1))


def _same_settings(act):
    class Mine(nn.Module):
        def setup(self):
            self.beginning = nn.Sequential([lambda x: x.reshape(len(x), -1), nn.Dense(5), act])
            self.intermediate, self.final = nn.Dense(5), nn.Dense(3)

    return Mine()


def test_a_run_is_of_what_its_module_computes(tmp_path):
    out, relu, tanh = tmp_path / "run", _same_settings(nn.relu), _same_settings(nn.tanh)
    assert repr(relu) == repr(tanh)
    Run.create(out, CONFIG, model=relu)
    for again in (Run.open, lambda *a, **k: Run.create_or_open(*a, CONFIG, **k)):
        again(out, model=_same_settings(nn.relu))
        with pytest.raises(InputError, match=r"computes something else.*\(.*intermediate.*Restore"):
            again(out, model=tanh)
    run = Run.open(out, model=relu)
    with pytest.raises(InputError, match=r"is of a module that computes something else"):
        run.adopt(fresh(tanh, run.splits.train))
    assert not run.has_original()


def test_a_run_of_an_earlier_version_is_opened(tmp_path):
    out = tmp_path / "run"
    print_of_data = Run.create(out, CONFIG, model=Plain()).data
    (out / "data.json").write_text(
        json.dumps({"fingerprint": print_of_data.train + print_of_data.test})
    )
    assert Run.open(out, model=Plain()).config == CONFIG
    Run.open(out)  # of the catalogue, for all that it says


def test_a_run_is_opened_with_what_came_from_python(tmp_path):
    out, splits = tmp_path / "run", toy_splits(per_class=24)
    for named in ("mine", "digits"):  # a name that is a source's as well
        config = dataclasses.replace(CONFIG, dataset=named, model=named.replace("digits", "mlp"))
        Run.create(out, config, model=Plain(), splits=splits)
        for rest in ({"model": Plain()}, {}):
            with pytest.raises(InputError, match=rf"without its data.*'{named}'.*splits=splits"):
                Run.open(out, **rest)
        with pytest.raises(InputError, match=r"without its module.*model=model"):
            Run.open(out, splits=splits)
        Run.open(out, model=Plain(), splits=splits)
        shutil.rmtree(out)
    Run.create(out, CONFIG)
    with pytest.raises(InputError, match=r"A module for the run .*'mlp' of the catalogue"):
        Run.open(out, model=Plain())


def test_remembrance_is_never_evaluated(directory, monkeypatch):
    run = _open(directory)
    remembrance = run.prepare().remembrance
    usable = run.usable_tests()
    assert len(remembrance) == 6
    np.testing.assert_array_equal(~usable, np.isin(run.splits.test.ids, remembrance.ids))
    assert not np.isin(remembrance.ids, run.splits.train.ids).any()
    # What reaches the metrics: exactly the usable ones, whatever the others hold.
    masks = []
    measure = accuracy.measure

    def noting(*args, **options):
        masks.append(options["usable"])
        return measure(*args, **options)

    monkeypatch.setattr("dcmu_jax.metrics.network.measure", noting)
    compare(run, run.request(CONFIG.forget))
    assert len(masks) == 3
    assert all(np.array_equal(mask, usable) for mask in masks)


def test_baseline_presets_remember_too():
    config = dataclasses.replace(CONFIG, baselines=("paper",))
    splits = toy_splits(classes=3, per_class=60)  # 15 test images per class, the paper takes 10
    usable = stages.usable_tests(config, splits, ("recommended", "paper"))
    for name in ("recommended", "paper"):
        ids = stages.remembrance_of(config, name, splits).ids
        assert not usable[np.isin(splits.test.ids, ids)].any()
    assert usable.sum() >= 45 - 6 - 30


def test_presets_that_together_remember_everything_are_refused(monkeypatch):
    splits = toy_splits(classes=3, per_class=24)  # 6 test images per class
    halves = iter([splits.test.take(np.arange(18) % 2 == i) for i in (0, 1)])
    monkeypatch.setattr(stages, "remembrance_of", lambda *_: next(halves))
    with pytest.raises(InputError, match=r"recommended and paper.*all test samples of class"):
        stages.usable_tests(CONFIG, splits, ("recommended", "paper"))


BAD_RUNS = {
    "request": (dataclasses.replace(CONFIG, forget="class:9"), r"There is no class '9'"),
    "data": (dataclasses.replace(CONFIG, dataset="digit"), r"source 'digit'"),
    "model": (dataclasses.replace(CONFIG, model="cnm"), r"model 'cnm'.*Did you mean 'cnn'"),
    "small images": (
        dataclasses.replace(CONFIG, model="vgg16"),
        r"8x8 pixels for the model 'vgg16'",
    ),
    "baseline": (dataclasses.replace(CONFIG, baselines=("retrian",)), r"'retrian'.*'retrain'"),
    "modular": (
        dataclasses.replace(CONFIG, baselines=("modular",)),
        r"baseline method 'modular', whose sch",
    ),
    "devices": (dataclasses.replace(CONFIG, devices=99), r"devices = 99"),
    "remembrance": (
        dataclasses.replace(
            CONFIG,
            method=dataclasses.replace(CONFIG.method, remembrance=RemembranceOptions(per_class=6)),
        ),
        r"6 remembrance samples per class",
    ),
}


@pytest.mark.parametrize("kind", BAD_RUNS)
def test_a_bad_run_leaves_nothing(tmp_path, kind):
    config, message = BAD_RUNS[kind]
    with pytest.raises(InputError, match=message):
        Run.create(tmp_path / "run", config)
    assert not list(tmp_path.iterdir())


def test_a_directory_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot be made.*Choose another --out"):
        Run.create(tmp_path / "file" / "run", CONFIG)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_an_existing_directory_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("kept")
    with pytest.raises(InputError, match=r"exists already.*: there is no run in it"):
        Run.create(tmp_path, CONFIG)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_what_is_no_run_is_not_opened(tmp_path):
    with pytest.raises(InputError, match=r"is no run directory"):
        Run.open(tmp_path / "none")
    (tmp_path / "config.json").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match=r"cannot be read as the settings of a run"):
        Run.open(tmp_path)


def test_other_ids_under_the_same_name_are_another_request(directory, tmp_path):
    run = _open(directory)
    file = tmp_path / "ids.txt"
    folders = []
    for ids in ("1 2 3", "1 2 4", "3 2 1"):
        file.write_text(ids)
        folders.append(run.request_directory(run.request(f"ids:{file}")))
    assert folders[0] != folders[1] and folders[0] == folders[2]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"trajectory": 3}'])
def test_a_damaged_result_is_refused(directory, text):
    file = directory / "requests/class-2/retrain/result.json"
    whole = file.read_text()
    file.write_text(text)
    run = _open(directory)
    try:
        with pytest.raises(InputError, match=r"result\.json' cannot be read.*run the stage again"):
            run.unlearn(run.request("class:2"), "retrain")
    finally:
        file.write_text(whole)


def test_whole_classes_have_a_schedule_of_their_own(directory, monkeypatch):
    used = []
    run = _open(directory)
    answer = run.unlearn(run.request("class:2")).unlearned

    def noting(self, task, hooks):
        used.append(self)
        return answer

    monkeypatch.setattr(ModularUnlearning, "__call__", noting)
    other = dataclasses.replace(ONLINE, resets=(Reset(part="final"),))
    config = dataclasses.replace(
        CONFIG, method=dataclasses.replace(CONFIG.method, online_classes=other)
    )
    for text in ("class:2", "random:0.1", "class:2+random:0.1"):
        request = run.request(text)
        stages.unlearn("recommended", config, run.train(), run.splits, request)
    assert used == [other, ONLINE, ONLINE]


def test_short_classes_are_named():
    labels = np.repeat([0, 1, 2], [24, 24, 4])
    splits = toy_splits(classes=3, per_class=24)
    order = np.argsort(splits.train.labels, kind="stable")
    train = splits.train.take(order[: len(labels)])
    train = dataclasses.replace(train, labels=labels.astype(np.int32))
    short = dataclasses.replace(splits, train=train)
    notice = short_classes(CONFIG, "recommended", short)
    assert (
        notice is not None and "1 class(es)" in notice and "6 clusters per class: 2 (4)" in notice
    )
    assert short_classes(CONFIG, "recommended", splits) is None
    original = stages.train_original(CONFIG, Plain(), short).classifier
    assert isinstance(original, Classifier)
    bank = stages.prepare(CONFIG, original, short).bank
    assert bank.sizes[bank.labels == 2].tolist() == [1, 1, 1, 1]


def test_clusters_are_condensed_by_the_original_not_by_what_offline_training_left():
    splits = toy_splits(classes=3, per_class=24)
    original = stages.train_original(CONFIG, Plain(), splits).classifier
    banks, networks = [], []
    for rounds in (0, 1):
        offline = dataclasses.replace(
            CONFIG.method.offline, rounds=rounds, intermediate_epochs=1, final_epochs=1
        )
        method = dataclasses.replace(CONFIG.method, offline=offline)
        prepared = stages.prepare(dataclasses.replace(CONFIG, method=method), original, splits)
        banks.append(prepared.bank.to_bytes())
        networks.append(prepared.classifier.variables)
    assert not same_bits(*networks)
    assert banks[0] == banks[1]


def test_two_threads_do_a_stage_once(directory, tmp_path, monkeypatch):
    shutil.copytree(directory, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "original")
    trained, of_stage = [], stages.train_original

    def slowly(*args, **rest):
        trained.append(threading.get_ident())
        time.sleep(0.2)
        return of_stage(*args, **rest)

    monkeypatch.setattr(stages, "train_original", slowly)
    runs = [_open(tmp_path / "run") for _ in range(2)]
    with ThreadPoolExecutor(2) as threads:
        one, other = threads.map(lambda run: run.train(), runs)
    assert len(trained) == 1 and same_bits(one.variables, other.variables)
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert all(json.loads(line)["time"] for line in lines)


def test_two_threads_make_one_run(tmp_path):
    def start(_):
        return Run.create_or_open(tmp_path / "run", CONFIG, model=Plain())

    with ThreadPoolExecutor(2) as threads:
        assert len(list(threads.map(start, range(2)))) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_whole_numbers_fit_64_bits():
    for number in (2**70, -(2**63) - 1, 10**5000):
        with pytest.raises(InputError, match=r"seed = a number of \d+ bits"):
            dataclasses.replace(CONFIG, seed=number).check()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_numbers_are_finite(value):
    for config, name in (
        (dataclasses.replace(CONFIG, data=DataOptions(mean=(value,), std=(1.0,))), "data.mean"),
        (
            dataclasses.replace(CONFIG, network=NetworkOptions(width=value)),
            "network.width",
        ),
        (dataclasses.replace(CONFIG, settings={"scrub": {"a": [value]}}), "settings.scrub.a"),
    ):
        with pytest.raises(InputError, match=f"{name} = "):
            config.check()


def test_texts_for_paths_and_ids_for_requests(directory, monkeypatch):
    run = Run.open(str(directory), model=Plain())
    train = run.splits.train
    served = run.unlearn("class:2")
    gone = train.labels == 2
    for asked in (train.ids[gone], train.ids[gone].tolist(), set(train.ids[gone].tolist()), gone):
        assert run.request(asked).ids.tolist() == run.request("class:2").ids.tolist()
        run.check_comparable(asked)
        assert "ids-" in run.request_directory(asked).name
    again = run.unlearn(run.request("class:2"))
    monkeypatch.setattr(telltale, "beside", lambda *_: telltale.Beside(0.0, 92.0, True))
    with pytest.warns(telltale.TelltaleWarning, match=r"forgotten samples 0\.0 %.*92\.0 %") as told:
        run.unlearn("class:2")
    assert len(told) == 1
    assert again.unlearned.classifier.fingerprint() == served.unlearned.classifier.fingerprint()
    assert compare(run, "class:2").directory == directory
    for wrong in ([0, 0], [10**6], gone[:-1], [], "nothing"):
        with pytest.raises(InputError):
            run.unlearn(wrong)


def test_one_name_for_several(tmp_path):
    config = dataclasses.replace(CONFIG, baselines="scrub")
    assert config.baselines == ("scrub",)
    assert Run(str(tmp_path / "run"), config).methods == ("retrain", "scrub", "recommended")
    assert from_json(to_json(config), "here").baselines == ("scrub",)
    assert check_parts("final") == {"final"}

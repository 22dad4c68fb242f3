"""Stages are found by what they were made of: nothing stale is reused, and nothing is lost."""

import dataclasses
import gc
import json
import os
import re
import shlex
import shutil

import numpy as np
import pytest
from cli.test_cli import TINY
from test_run import CONFIG
from toys import Plain, fresh, same_bits, toy_splits

from dcmu_jax.cli import main
from dcmu_jax.data.requests import request_for_ids
from dcmu_jax.errors import InputError
from dcmu_jax.fast.matching import MatchingConfig
from dcmu_jax.reporting.comparison import compare
from dcmu_jax.reporting.defending import DefenceOptions, defend_run
from dcmu_jax.runs.auditing import audit_run
from dcmu_jax.runs.config import RunConfig
from dcmu_jax.runs.config_json import from_json, to_json
from dcmu_jax.runs.run import Run
from dcmu_jax.runs.store import IDENTITY, find_stage, making

SMALL = dataclasses.replace(
    CONFIG, training=dataclasses.replace(CONFIG.training, epochs=2), forget="random:0.2"
)


@pytest.fixture
def directory(tmp_path, made):
    """A run with its original, bank, and one request served, to be spoilt."""
    shutil.copytree(made, tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    directory = tmp_path_factory.mktemp("runs") / "run"
    run = Run.create(directory, SMALL, model=Plain())
    run.unlearn(run.request(SMALL.forget))
    run.unlearn(run.request(SMALL.forget), "retrain")
    return directory


def _open(directory):
    return Run.open(directory, model=Plain())


def _edit(directory, *path_and_value):
    """Change one setting in config.json, as a user does."""
    *path, value = path_and_value
    settings = json.loads((directory / "config.json").read_text())
    inner = settings
    for name in path[:-1]:
        inner = inner[name]
    assert inner[path[-1]] != value
    inner[path[-1]] = value
    (directory / "config.json").write_text(json.dumps(settings))


def _bytes(directory):
    return {
        path: path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file() and path.name not in ("config.json", "metrics.jsonl")
    }


def _fresh_run(tmp_path, config):
    """The same settings in a run that never had others."""
    return Run.create(tmp_path / "other", config, model=Plain())


EDITS = {
    "seed": ("seed", 7),
    "unlearning seed": ("unlearning_seed", 7),
    "forget seed": ("forget_seed", 7),
    "epochs": ("training", "epochs", 3),
    "rate": ("training", "optimizer", "learning_rate", 0.003),
    "mean": ("data", "statistics", "given"),
    "matching": ("method", "condensation", "matching", "steps", 2),
    "offline": ("method", "offline", "rounds", 0),
    "online": ("method", "online", "closing_steps", 0, "epochs", 1),
    "remembrance": ("method", "remembrance", "per_class", 1),
}


@pytest.mark.parametrize("edit", EDITS)
def test_an_edited_setting_reuses_no_stale_stage(directory, tmp_path, edit):
    before = _bytes(directory)
    _edit(directory, *EDITS[edit])
    run = _open(directory)
    served = {name: run.unlearn(run.request(SMALL.forget), name) for name in (None, "retrain")}
    other = _fresh_run(tmp_path, run.config)
    assert same_bits(run.train().variables, other.train().variables)
    np.testing.assert_array_equal(run.prepare().bank.images, other.prepare().bank.images)
    for name, found in served.items():
        asked = other.unlearn(other.request(SMALL.forget), name)
        assert same_bits(found.unlearned.classifier.variables, asked.unlearned.classifier.variables)
        assert found.trajectory.test[-1] == asked.trajectory.test[-1]
        np.testing.assert_array_equal(found.unlearned.trained_ids, asked.unlearned.trained_ids)
    after = _bytes(directory)
    assert {path: after[path] for path in before} == before  # nothing that was there is lost


def test_what_an_edit_does_not_touch_is_found(directory, monkeypatch):
    before = _bytes(directory)
    for edit in (("baselines", ["scrub"]), ("devices", 2), ("forget", "class:1")):
        _edit(directory, *edit)
    run = _open(directory)
    assert run.config.devices == 2
    run.unlearn(run.request(SMALL.forget))
    run.unlearn(run.request(SMALL.forget), "retrain")
    assert _bytes(directory) == before


def test_settings_that_come_back_find_their_stages(directory):
    first = _open(directory).train().fingerprint()
    _edit(directory, "seed", 3)
    assert _open(directory).train().fingerprint() != first
    _edit(directory, "seed", 0)
    before = _bytes(directory)
    assert _open(directory).train().fingerprint() == first
    assert _bytes(directory) == before


def test_one_text_of_other_seeds_is_another_request(directory):
    run = _open(directory)
    asked = run.request("random:0.2")
    other = dataclasses.replace(run.config, forget_seed=9)
    (directory / "config.json").write_text(to_json(other))
    again = _open(directory)
    ids = again.request("random:0.2")
    assert not np.array_equal(ids.ids, asked.ids)
    assert again.request_directory(ids) != run.request_directory(asked)
    assert np.isin(again.unlearn(ids).unlearned.trained_ids, ids.ids).sum() == 0
    # The same ids by another name are served once more, or found; never another's network.
    named = run.request("ids:" + ",".join(map(str, asked.ids)))
    assert not np.isin(run.unlearn(named).unlearned.trained_ids, asked.ids).any()


def test_long_names_that_begin_alike_are_apart(directory):
    run = _open(directory)
    texts = ["+".join([*["random:0.02"] * 8, f"random:{x}"]) for x in ("0.1", "0.2")]
    folders = {run.request_directory(run.request(text)) for text in texts}
    assert len(folders) == 2


def test_a_request_folder_of_other_ids_is_refused(directory):
    run = _open(directory)
    request = run.request(SMALL.forget)
    file = run.request_directory(request) / "request.json"
    told = json.loads(file.read_text())
    file.write_text(json.dumps(told | {"ids": told["ids"][1:]}))
    with pytest.raises(InputError, match=r"names other ids.*Move the folder .* out of the run"):
        run.unlearn(request)


STAGES = ("original", "prepared/recommended", "requests/random-0.2-*/recommended")


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_of_an_older_version_is_refused_and_the_remedy_works(directory, tmp_path, stage):
    (folder,) = directory.glob(stage)
    (folder / IDENTITY).unlink()
    run = _open(directory)
    before = _bytes(directory)
    with pytest.raises(InputError, match=r"does not say what it was made of.*Move that folder"):
        run.unlearn(run.request(SMALL.forget))
    assert _bytes(directory) == before
    shutil.move(folder, tmp_path / "kept")
    assert _open(directory).unlearn(run.request(SMALL.forget)).unlearned.online_s > 0
    assert folder.is_dir()


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("edit", ["made of", "text", "list"])
def test_an_identity_that_was_edited_is_refused(directory, stage, edit):
    (folder,) = directory.glob(stage)
    file = folder / IDENTITY
    found = json.loads(file.read_text())
    found["made_of"]["data"] = "another"
    file.write_text({"made of": json.dumps(found), "text": "{", "list": "[]"}[edit])
    run = _open(directory)
    with pytest.raises(InputError, match=r"identity\.json' cannot be read.*Move the folder"):
        run.unlearn(run.request(SMALL.forget))


def test_a_bank_whose_numbers_changed_is_refused(directory):
    run = _open(directory)
    bank = run.prepare().bank
    dataclasses.replace(bank, images=bank.images + 1).save(
        directory / "prepared" / "recommended" / "bank.npz"
    )
    with pytest.raises(InputError, match=r"bank\.npz' cannot be read.*fingerprint"):
        run.prepare()


def test_a_bank_of_another_original_is_made_again(directory, tmp_path):
    """Two runs of the same settings on two machines may differ in the last bit."""
    run = _fresh_run(tmp_path, SMALL)
    run.adopt(fresh(Plain(), run.splits.train))
    shutil.rmtree(directory / "original")
    shutil.copytree(tmp_path / "other" / "original", directory / "original")
    mixed = _open(directory)
    assert mixed.train().fingerprint() == run.train().fingerprint()
    assert mixed.prepare().bank.model_fingerprint == run.train().fingerprint()
    assert len(list((directory / "prepared").iterdir())) == 2


def test_a_network_of_ones_own_is_the_original_once(tmp_path):
    run = _fresh_run(tmp_path, SMALL)
    brought = fresh(Plain(), run.splits.train)
    with pytest.raises(InputError, match=r"of shape \(9,\) for the module Plain"):
        run.adopt(fresh(Plain(width=9), run.splits.train))
    assert not (tmp_path / "other" / "original").exists()
    run.adopt(brought)
    assert run.train().fingerprint() == brought.fingerprint()
    assert _open(tmp_path / "other").train().fingerprint() == brought.fingerprint()
    with pytest.raises(InputError, match=r"whose original is there.*Create another run"):
        run.adopt(brought)


def test_an_unfinished_training_of_other_settings_is_left_where_it_is(directory, tmp_path):
    class Stop(Exception):
        pass

    def stopping(name, epochs):
        class Shown:
            def __enter__(self):
                return self

            def __exit__(self, *_):
                return None

            def __call__(self, epoch, loss, accuracy):
                if epoch == 2:
                    raise Stop

        return Shown()

    config = dataclasses.replace(SMALL, training=dataclasses.replace(SMALL.training, epochs=4))
    run = Run.create(tmp_path / "other", config, model=Plain(), progress=stopping)
    with pytest.raises(Stop):
        run.train()
    unfinished = tmp_path / "other" / "original.unfinished"
    assert unfinished.is_dir()
    for name, value in (
        ("seed", 4),
        ("data", {**json.loads(to_json(config))["data"], "mean": [0.5], "std": [0.25]}),
    ):
        _edit(tmp_path / "other", name, value)
        edited = _open(tmp_path / "other")
        clean = Run.create(tmp_path / name, edited.config, model=Plain())
        assert same_bits(edited.train().variables, clean.train().variables)
        assert unfinished.is_dir()


def test_a_stage_is_whole_or_not_there(tmp_path):
    stage = find_stage(tmp_path, "stage", {"seed": 1, "method": MatchingConfig()})
    with pytest.raises(KeyError), making(stage) as folder:
        (folder / "half").write_text("x")
        raise KeyError
    assert not list(tmp_path.iterdir())
    killed = tmp_path / ".stage.part"
    killed.mkdir()
    (killed / "half").write_text("x")
    with making(stage, devices=2) as folder:
        assert not list(folder.iterdir())
        (folder / "whole").write_text("x")
    assert [path.name for path in tmp_path.iterdir()] == ["stage"]
    identity = json.loads((tmp_path / "stage" / IDENTITY).read_text())
    assert identity["made_with"] == {"devices": 2} and identity["made_of"]["seed"] == 1
    assert find_stage(tmp_path, "stage", {"method": MatchingConfig(), "seed": 1}).there
    other = find_stage(tmp_path, "stage", {"seed": 2, "method": MatchingConfig()})
    assert not other.there and other.path.name.startswith("stage-")


def test_audits_and_defences_are_of_the_networks_that_are_there(directory):
    run = _open(directory)
    request = run.request(SMALL.forget)
    first = audit_run(run, request, oracles=4)
    compare(run, request, first)
    assert "Audit</h2>" in (directory / "report.html").read_text()
    options = DefenceOptions(rule="quantile", share=0.25, epochs=2)
    defended = defend_run(run, options)
    before = _bytes(directory / "requests") | _bytes(directory / "defence")
    _edit(directory, "seed", 5)
    edited = _open(directory)
    compare(edited, request)
    page = (directory / "report.html").read_text()
    assert "Audit</h2>" not in page and "Defence against" not in page
    second = audit_run(edited, request, oracles=4)
    assert second.directory != first.directory
    assert not np.array_equal(second.targets.margins, first.targets.margins)
    again = defend_run(edited, options)
    assert again.directory != defended.directory
    after = _bytes(directory / "requests") | _bytes(directory / "defence")
    assert {path: after[path] for path in before} == before


def test_devices_are_recorded_and_do_not_matter(directory):
    run = Run.open(directory, devices=2, model=Plain())
    assert run.config.devices == 2
    found = run.unlearn(run.request(SMALL.forget))
    assert json.loads((found.directory / IDENTITY).read_text())["made_with"] == {"devices": 1}
    made = run.unlearn(request_for_ids(run.splits.train.ids[:9], run.splits.train), "retrain")
    assert json.loads((made.directory / IDENTITY).read_text())["made_with"] == {"devices": 2}
    alone = Run.open(directory, devices=1, model=Plain())
    before = _bytes(directory)
    alone.unlearn(request_for_ids(run.splits.train.ids[:9], run.splits.train), "retrain")
    assert _bytes(directory) == before
    assert from_json((directory / "config.json").read_text(), "x").devices == 1


def test_a_run_made_on_two_devices_goes_on_on_one(tmp_path):
    config = dataclasses.replace(SMALL, devices=2)
    run = Run.create(tmp_path / "two", config, model=Plain())
    network = run.train()
    alone = Run.create_or_open(tmp_path / "two", SMALL, model=Plain())
    assert alone.config.devices == 1
    assert alone.train().fingerprint() == network.fingerprint()


def test_a_damaged_run_says_so(directory):
    assert isinstance(_open(directory).config, RunConfig)
    (directory / "data.json").write_text("{")
    with pytest.raises(InputError, match=r"data\.json' cannot be read.*Restore the file"):
        _open(directory)


def test_other_data_never_finds_a_stage(directory):
    (directory / "data.json").unlink()
    other = toy_splits(classes=3, per_class=24, seed=3)
    data = Run(directory, SMALL, model=Plain(), splits=other).data
    (directory / "data.json").write_text(json.dumps({"fingerprint": data.train + data.test}))
    run = Run.open(directory, model=Plain(), splits=other)
    (served,) = directory.glob("requests/*/recommended/identity.json")
    first = json.loads(served.read_text())["made_of"]["original"]
    assert run.train().fingerprint() != first
    assert run.prepare().bank.data_fingerprint == other.train.fingerprint()


@pytest.mark.parametrize("what", ["file", "pipe", "link"])
@pytest.mark.parametrize("place", ["original", "prepared", "prepared/*", "requests", "requests/*"])
def test_what_is_no_folder_in_the_place_of_a_stage(directory, place, what):
    [path] = directory.glob(place)
    shutil.rmtree(path, ignore_errors=True)
    if what == "file":
        path.write_text("")
    elif what == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("nowhere")
    run = _open(directory)
    with pytest.raises(InputError, match=rf"{re.escape(str(path))}' is no folder.*Move it out of"):
        run.unlearn(run.request(SMALL.forget))
    path.rename(directory.parent / "moved out")
    run.unlearn(run.request(SMALL.forget))


@pytest.mark.parametrize("how", ["damaged", "folder", "pipe"])
def test_the_remedy_of_a_bank_that_cannot_be_read(directory, how):
    [file] = directory.glob("prepared/*/bank.npz")
    data = file.read_bytes()
    file.unlink()
    if how == "damaged":
        file.write_bytes(data[:400])
    elif how == "folder":
        file.mkdir()
    else:
        os.mkfifo(file)
    shutil.rmtree(directory / "requests")
    remedy = f"Move the folder {str(file.parent)!r} out of the run and run the stage again"
    run = _open(directory)
    with pytest.raises(InputError, match=re.escape(remedy)):
        run.unlearn(run.request(SMALL.forget))
    file.parent.rename(directory.parent / "moved out")
    run.unlearn(run.request(SMALL.forget))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of Orbax
@pytest.mark.parametrize("how", ["cut", "gone"])
@pytest.mark.parametrize("network", ["original", "prepared/*/network", "requests/*/*/network"])
def test_the_remedy_of_a_network_that_cannot_be_read(directory, network, how):
    """Whatever it says to move takes identity.json with it, so that the stage is made again."""
    path = sorted(directory.glob(network))[0]
    stage = path if network == "original" else path.parent
    if how == "cut":
        for file in (path / "final").rglob("*"):
            if file.is_file():
                file.write_bytes(file.read_bytes()[:3])
    else:
        shutil.rmtree(path / "final" if network == "original" else path)

    def work():
        run = _open(directory)
        return [run.unlearn(run.request(SMALL.forget), name) for name in (None, "retrain")]

    remedy = f"Move the folder {str(stage)!r} out of the run and run the stage again"
    with pytest.raises(InputError, match=re.escape(remedy)):
        work()
    stage.rename(directory.parent / "moved out")
    assert len(work()) == 2
    gc.collect()


def test_a_disk_without_room_and_the_way_on(tmp_path, capsys, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    words = ["train", "--dataset", SMALL.dataset, *TINY, "--out", str(tmp_path / "run")]
    with monkeypatch.context() as patch:
        patch.setattr("dcmu_jax.runs.store.write_json", full)
        assert main(words) == 2
    said = capsys.readouterr().err
    assert "No space left on device" in said and "Make room" in said
    assert main(shlex.split(said.partition("Go on with dcmu ")[2])) == 0
    assert (tmp_path / "run" / "original" / IDENTITY).is_file()


@pytest.mark.parametrize("name", ["x" * 300, "a/" * 3000])
def test_a_name_that_no_folder_has(name):
    with pytest.raises(InputError, match="is no run directory"):
        Run.open(name)


def test_a_folder_that_nobody_may_look_into(tmp_path, monkeypatch):
    def refuse(path, **_):
        raise PermissionError(13, "Permission denied", str(path))

    with monkeypatch.context() as patch:
        patch.setattr("dcmu_jax.reading.os.stat", refuse)
        with pytest.raises(InputError, match=r"Permission denied.*Mend its permissions"):
            Run.open(tmp_path / "run")

"""Settings are chosen on cells that no table reports; budgets that differ are told."""

import itertools
import json
import re
from pathlib import Path

import pytest

import experiments.tuning as tuning
from dcmu_jax.sweeps import Bench, Group
from experiments import ablation, main_job, table1

DATASETS = ("npz:cifar10.npz", "npz:svhn.npz")
ROOT = Path(__file__).parents[2]


def cells(groups, requests):
    """Original seed, request, seed of its draw, unlearning seed."""
    for group, request in itertools.product(groups, requests):
        config = group.config()
        yield config.seed, request, config.forget_seed, config.unlearning_seed


def reported():
    for scale, dataset in itertools.product(table1.SCALES.values(), DATASETS):
        requests = [table1.request_of(text, dataset) for text in scale.requests]
        yield from cells(table1.groups(scale, (dataset,)), requests)
    job = main_job.Settings(dataset=DATASETS[0])
    groups = [Group(dataset=DATASETS[0], model=job.model, seed=seed) for seed in job.seeds]
    yield from cells(groups, job.requests)


def chosen_on():
    for scale, dataset in itertools.product(table1.SCALES, DATASETS):
        options = tuning.Options(dataset=dataset, scale=scale)
        yield from cells(tuning.groups(options), tuning.requests(options))
    options = ablation.Options(dataset=DATASETS[0])
    groups = [Group(dataset=DATASETS[0], model="cnn", seed=seed) for seed in options.seeds]
    yield from cells(groups, ablation.REQUESTS.values())


def test_no_setting_is_chosen_on_what_a_table_reports():
    tables, trials = set(reported()), set(chosen_on())
    assert tables and trials
    for at in (0, 2, 3):  # not by halves either: no original, draw or unlearning of a table
        assert not {cell[at] for cell in tables} & {cell[at] for cell in trials}
    assert not {cell[0] for cell in trials} & {cell[3] for cell in tables}
    classes = [{c[1] for c in cells if "class" in c[1]} for cells in (tables, trials)]
    assert all(classes) and not classes[0] & classes[1]


def test_the_main_job_has_the_seeds_of_its_group(monkeypatch, tmp_path):
    """What ``reported`` takes for granted."""

    def stop(directory, config, **rest):
        raise RuntimeError(config.seed, config.forget_seed, config.unlearning_seed)

    monkeypatch.setattr(main_job.Run, "create", stop)
    settings = main_job.Settings(dataset="digits", out=tmp_path)
    config = Group(dataset="digits", model="cnn", seed=2).config()
    with pytest.raises(RuntimeError) as found:
        main_job.run_cell(settings, 2, "class:2")
    assert found.value.args == (config.seed, config.forget_seed, config.unlearning_seed)


def test_budgets_that_differ_are_told_wherever_fairness_is_described():
    texts = [tuning.__doc__, table1.__doc__, (ROOT / "docs/results.md").read_text()]
    budgets = {
        (settings["samples"], settings.get("iterations"))
        for tried in tuning.CANDIDATES.values()
        for settings in tried
        if "samples" in settings
    }
    assert budgets
    for text, (samples, iterations) in itertools.product(texts, budgets):
        assert text is not None
        text = re.sub(r"\s+", " ", text)
        assert f"{samples} samples" in text
        assert iterations is None or f"{samples} samples by {iterations} iterations" in text


def test_trials_go_on_where_they_were_stopped_and_by_several_workers(tmp_path, monkeypatch):
    monkeypatch.setattr(tuning.record, "RESULTS", tmp_path)
    monkeypatch.setattr(tuning, "CANDIDATES", {"cf_k": ({"epochs": 1}, {"epochs": 2})})
    monkeypatch.setattr(tuning, "check_candidates", lambda: None)
    small = table1.Scale(networks=(("mlp", 0.05),))
    monkeypatch.setitem(table1.SCALES, "small", small)
    written, measured = [], []
    monkeypatch.setattr(tuning, "write", lambda *arguments: written.append(arguments))
    measure = Bench._measure

    def counting(self, request, name, *rest):
        measured.append((request.text, name))
        return measure(self, request, name, *rest)

    monkeypatch.setattr(Bench, "_measure", counting)
    monkeypatch.setattr(
        tuning, "run_in_pool", lambda steps, *rest: [s.call(*s.arguments) for s in steps]
    )
    options = tuning.Options(dataset="digits", methods=("cf_k",), workers=2, out=tmp_path / "out")
    monkeypatch.setattr(tuning, "parse", lambda *a: options)
    tuning.main()
    assert sorted(measured) == sorted(
        (request, name)
        for request in ("random:0.1", "class:7")
        for name in ("retrain", "cf_k", "cf_k")
    )
    tuning.main()
    assert len(measured) == 6  # nothing again
    (_, found), again = written
    assert found == again[1] and found["networks"]["mlp"].keys() == {"random", "class"}
    trials = found["networks"]["mlp"]["class"]["cf_k"]
    assert (
        trials["chosen"]
        in [t["settings"] for t in trials["trials"]]
        == [
            {"epochs": 1},
            {"epochs": 2},
        ]
    )
    # A cell of another setting under the same name is not taken for one of these.
    monkeypatch.setattr(tuning, "CANDIDATES", {"cf_k": ({"epochs": 3}, {"epochs": 2})})
    tuning.main()
    assert len(measured) == 8
    cells = (tmp_path / "out").rglob("class-7*--cf_k.0*.json")
    settings = [json.loads(json.loads(path.read_text())["settings"]) for path in cells]
    assert sorted(s["epochs"] for s in settings) == [1, 3]

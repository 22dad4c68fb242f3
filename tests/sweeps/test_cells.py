"""Cells of the tables: measured once, kept, scored against the retrained network of their own."""

import dataclasses
import json
import math

import jax
import pytest

from dcmu_jax.sweeps import Bench, Group, cells, scored_cells
from dcmu_jax.sweeps.cells import train_originals_together

GROUP = Group(dataset="digits", model="mlp", seed=3, width=0.05, epochs=1)


def test_originals_trained_together_are_those_trained_alone(tmp_path):
    groups = [dataclasses.replace(GROUP, seed=seed) for seed in (3, 4)]
    train_originals_together(groups, tmp_path / "together", 2)
    for group in groups:
        together = Bench(group, tmp_path / "together").run
        assert (together.directory / "original").is_dir()
        alone = Bench(group, tmp_path / "alone").run.train()
        images = together.splits.test.images
        assert together.train().logits(images) == pytest.approx(alone.logits(images), abs=1e-3)


def test_a_cell_is_measured_once(tmp_path, monkeypatch):
    bench = Bench(GROUP, tmp_path)
    row = bench.cell("class:3", "retrain")
    monkeypatch.setattr(cells.stages, "unlearn", None)  # would be called by a second measurement
    assert Bench(GROUP, tmp_path).cell("class:3", "retrain") == json.loads(json.dumps(row))
    with pytest.raises(TypeError):
        bench.cell("class:3", "cf_k")


def test_a_cell_is_found_by_its_settings_and_not_by_its_name(tmp_path, monkeypatch):
    bench = Bench(GROUP, tmp_path)
    monkeypatch.setattr(Bench, "_measure", lambda *args: {"made": repr(args[1:])})
    rows = [
        bench.cell("class:3", "row", settings, method="cf_k")["made"]
        for settings in ({}, {"epochs": 1}, {"epochs": 2}, {"epochs": 1})
    ]
    assert rows[1] == rows[3] and len(set(rows)) == 3
    assert bench.cell("class:3", "cf_k") != bench.cell("class:4", "cf_k")
    other = dataclasses.replace(GROUP, dataset="synthetic:classes=3,size=8,channels=1", model="mlp")
    names = {each.name for each in (GROUP, other, dataclasses.replace(GROUP, epochs=2))}
    assert len(names) == 3
    folders = ("npz:one/mine.npz", "npz:two/mine.npz")
    assert len({dataclasses.replace(GROUP, dataset=folder).name for folder in folders}) == 2


def test_rows_are_scored_against_the_retrained_network_of_their_cell(tmp_path):
    bench = Bench(GROUP, tmp_path)
    rows = [bench.cell("class:3", name) for name in ("retrain", "original")]
    elsewhere = [dict(row, seed=5, retain_accuracy=row["retain_accuracy"] / 2) for row in rows]
    found = scored_cells([*rows, *elsewhere])
    for retrained, original in (found[:2], found[2:]):
        assert retrained["gap"] == 0 and retrained["time_over_retraining"] == 1
        names = ("retain_accuracy", "forget_accuracy", "test_accuracy", "mia")
        gap = sum(abs(original[n] - retrained[n]) for n in names) / 4
        assert original["gap"] == pytest.approx(gap)


def test_a_group_that_computes_in_bfloat16_keeps_its_weights_and_measures_in_float32(tmp_path):
    group = dataclasses.replace(GROUP, dtype="bfloat16")
    assert group.name != GROUP.name
    bench = Bench(group, tmp_path)
    row = bench.cell("class:3", "recommended")
    assert row["dtype"] == "bfloat16" and math.isfinite(row["unlearning_metric"])
    network = bench.run.train()
    assert network.model.dtype == "bfloat16"
    assert {leaf.dtype.name for leaf in jax.tree.leaves(network.variables)} == {"float32"}
    assert network.logits(bench.run.splits.test.images[:2]).dtype.name == "float32"

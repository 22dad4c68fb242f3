"""Tables of several runs in one frame, with the settings that each was made with."""

import json

import numpy as np
import pytest

import dcmu_jax as dcmu
from dcmu_jax.errors import InputError
from dcmu_jax.files import write_json, write_rows
from dcmu_jax.runs.config import RunConfig
from dcmu_jax.runs.config_json import to_file
from dcmu_jax.unlearning.task import Training

ROWS = [{"method": "retrain", "gap": 0.0, "width": None}, {"method": "paper", "gap": 1 / 3}]


@pytest.fixture
def runs(tmp_path):
    """Two runs, the second with a request beside its own."""
    found = []
    for seed in (3, 4):
        folder = tmp_path / f"run{seed}"
        config = RunConfig(seed=seed, forget="class:1", training=Training(epochs=7))
        write_rows(folder / "table.csv", ROWS)
        (folder / "config.json").write_text(to_file(config))
        found.append(folder)
    asked = found[1] / "requests" / "class-2"
    write_rows(asked / "table.csv", ROWS[1:])
    write_json(asked / "request.json", {"text": "class:2", "ids": [1]})
    return found


def test_every_row_has_the_settings_of_its_run(runs):
    found = dcmu.read_results(runs)
    assert found["method"].tolist() == ["retrain", "paper"] * 2 + ["paper"]
    assert found["gap"].tolist() == [0.0, 1 / 3] * 2 + [1 / 3]
    assert found["seed"].tolist() == [3, 3, 4, 4, 4]
    assert found["forget"].tolist() == ["class:1"] * 4 + ["class:2"]
    assert set(found["training.epochs"]) == {7}
    assert json.loads(found["baselines"][0]) == list(RunConfig().baselines)
    assert found["path"][4] == str(runs[1] / "requests" / "class-2" / "table.csv")
    assert found.groupby("seed")["gap"].mean().tolist() == pytest.approx([1 / 6, 2 / 9])
    alone = dcmu.read_results(runs[0] / "table.csv")
    assert alone.equals(found[:2][alone.columns]) and np.isnan(alone["width"]).all()


def test_tables_in_json(tmp_path):
    for name, text in (
        ("rows.json", json.dumps(ROWS)),
        ("object.json", json.dumps({"command": "c", "rows": ROWS})),
        ("lines.jsonl", "".join(json.dumps(row) + "\n" for row in ROWS)),
    ):
        (tmp_path / name).write_text(text)
    found = dcmu.read_results(tmp_path.glob("*.json*"))
    assert found["method"].tolist() == ["retrain", "paper"] * 3 and len(set(found["path"])) == 3


@pytest.mark.parametrize("text", ["3", "[3]", '{"row": []}', "[", '{"rows": {}}'])
def test_what_holds_no_rows_is_refused(tmp_path, text):
    (tmp_path / "table.json").write_text(text)
    with pytest.raises(InputError, match=r"table\.json"):
        dcmu.read_results(tmp_path / "table.json")


def test_no_table_is_refused(tmp_path, runs):
    with pytest.raises(InputError, match="No table in"):
        dcmu.read_results([runs[0], tmp_path])
    with pytest.raises(InputError, match="No path"):
        dcmu.read_results([])
    (runs[0] / "config.json").write_text("{}}")
    with pytest.raises(InputError, match=r"config\.json"):
        dcmu.read_results(runs[0])

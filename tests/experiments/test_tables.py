"""Tables on disk: figures as they were measured, ranks of methods alone, r pooled and within."""

import ast
import json
from pathlib import Path

import numpy as np
import pytest

from dcmu_jax.files import write_rows
from dcmu_jax.sweeps import AGAIN, mean_and_interval
from experiments import table1
from experiments.benchmarks import record
from experiments.benchmarks.record import RESULTS
from experiments.fig2_metrics_over_epochs import METRICS, correlations, over_seeds
from experiments.writing import read_rows

EXPERIMENTS = Path(table1.__file__).parent


def test_means_are_not_rounded_before_they_are_shown():
    # 0.96349.. is .963; by way of four decimals, .9635, it would become .964.
    found = mean_and_interval([0.963499, 0.963498])
    assert found["mean"] == pytest.approx(0.9634985, abs=1e-12)
    assert f"{found['mean']:.3f}" == "0.963"
    assert found["ci95"] == pytest.approx(12.706204736 * 0.5e-6, rel=1e-6)


def _rounding(file):
    """Lines that call ``round(x, digits)`` or ``x.round(digits)`` outside ``print``."""
    tree = ast.parse(file.read_text())
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    shown = {
        id(inside)
        for call in calls
        if ast.unparse(call.func) == "print"
        for inside in ast.walk(call)
    }
    for call in calls:
        name = ast.unparse(call.func)
        digits = len(call.args) - (not name.endswith(".round") or name == "np.round")
        if (name == "round" or name.endswith(".round")) and digits > 0 and id(call) not in shown:
            yield f"{file.name}:{call.lineno}"


def test_no_experiment_rounds_what_it_writes(tmp_path):
    bad = tmp_path / "bad.py"
    bad.write_text("a = round(x, 3)\nb = x.round(3)\nc = np.round(x, 2)\n")
    assert list(_rounding(bad)) == ["bad.py:1", "bad.py:2", "bad.py:3"]
    fine = tmp_path / "fine.py"
    fine.write_text("print(round(x, 3))\na = round(x)\nb = np.round(x)\nc = x.round()\n")
    assert not list(_rounding(fine))
    # The memory of the machine in ``record`` is no figure.
    files = [file for file in EXPERIMENTS.rglob("*.py") if file.name != "record.py"]
    assert len(files) > 30
    assert not [line for file in files for line in _rounding(file)]


def test_rows_come_back_as_they_were_and_may_differ_in_columns(tmp_path, monkeypatch):
    monkeypatch.setattr(record, "RESULTS", tmp_path)
    rows = [{"method": "a", "gap": 1 / 3}, {"method": "b", "gap": 2.0, "zrf": 0.1 + 0.2}]
    write_rows(tmp_path / "rows.csv", rows)
    found = read_rows("rows", words=("method",))
    assert found == [{"method": "a", "gap": 1 / 3, "zrf": None}, rows[1]]


def test_a_name_that_is_no_unicode_is_escaped(tmp_path):
    write_rows(tmp_path / "rows.csv", [{"dataset": "npz:caf\udce9.npz", "gap": None}])
    assert (tmp_path / "rows.csv").read_text("utf-8") == "dataset,gap\nnpz:caf\\udce9.npz,\n"


def _cells(gaps):
    """Rows of a random request over some seeds, ``gaps`` of each method by seed."""
    return [
        {
            "dataset": "d",
            "model": "mlp",
            "width": 1.0,
            "request": "random:0.1",
            "seed": seed,
            "method": method,
            "gap": gap,
        }
        for method, values in gaps.items()
        for seed, gap in enumerate(values)
    ]


def test_only_methods_have_ranks():
    methods = {"scrub": [1.0, 3.0, 1.0], "eu_k": [2.0, 2.0, 2.0], "paper": [3.5, 4.0, 5.0]}
    beside = {"original": [1.5, 2.5, 0.5], "retrain": [0.0] * 3, AGAIN: [0.1] * 3}
    found = table1.ranks_by_gap(_cells(methods | beside), "random")
    assert found is not None
    assert found["mean_ranks"] == {"scrub": 4 / 3, "eu_k": 5 / 3, "paper": 3.0}
    assert found == table1.ranks_by_gap(_cells(methods), "random")
    assert table1.ranks_by_gap(_cells({"scrub": [1.0, 3.0], **beside}), "random") is None


def test_r_within_methods_is_that_of_what_is_left_of_each_mean():
    # Within each method MIA falls as FA rises; from one method to the other both rise.
    pairs = {"a": [(50.0, 10.0), (49.0, 11.0)], "b": [(70.0, 90.0), (69.0, 91.0)]}
    rows = [
        {"seed": 1, "method": method, "mia": mia, **dict.fromkeys(METRICS, fa)}
        for method, points in pairs.items()
        for mia, fa in points
    ]
    found = correlations(rows)["forget_accuracy"]
    assert found["within methods"] == pytest.approx(-1)
    pooled = np.corrcoef([50, 49, 70, 69], [10, 11, 90, 91])[0, 1]
    assert found["pooled"] == pytest.approx(pooled) and pooled > 0.99


def test_figure_2_says_what_its_rows_say():
    name = "fig2_metrics_over_epochs"
    rows = read_rows(name, words=("method",))
    figures = json.loads((RESULTS / f"{name}.json").read_text())["figures"]
    assert figures["seeds"] == len({row["seed"] for row in rows})
    expected = over_seeds(rows)
    assert figures["correlation_with_mia"].keys() == expected.keys()
    text = " ".join((EXPERIMENTS.parent / "docs/results.md").read_text().split())
    sentence = text[text.index("over the first epochs of four methods") :].split(" Layer by layer")[
        0
    ]
    for metric, numbers in expected.items():
        assert figures["correlation_with_mia"][metric] == {
            key: pytest.approx(value) for key, value in numbers.items()
        }
        for key in ("pooled", "within methods"):
            shown = f"{numbers[key]['mean']:.2f}".replace("0.", ".")
            assert shown in sentence, (metric, key)


def test_documents_cite_the_table_as_it_is():
    """Of one figure in each document, once rounded from the rows themselves."""
    with (RESULTS / "fig3_dp_competitor_cifar10_small.json").open() as file:
        row = json.load(file)["figures"]["defences"]["dp_adam"]["values"]["test_accuracy"]
    shown = f"{np.mean(row):.1f} ± "
    root = EXPERIMENTS.parent
    assert f"DP-Adam, ε = 8 | {shown}" in (root / "docs/results.md").read_text()
    guarantees = (root / "docs/guides/guarantees.md").read_text()
    assert f"test accuracy of {shown}" in guarantees

import dataclasses
import io
import math
import re

import pytest
from rich.console import Console

import dcmu_jax as dcmu
from dcmu_jax.errors import InputError
from dcmu_jax.files import write_rows, written_aside
from dcmu_jax.metrics.frames import FIELDS, frame_of, measurements_of
from dcmu_jax.metrics.measurement import METRICS, Measurement
from dcmu_jax.reporting import cost_table, terminal_table
from dcmu_jax.reporting.cells import COST_METRICS, cell
from dcmu_jax.reporting.tables import own_table

BY_NAME = {metric.name: metric for metric in METRICS}


def printed(table, width=100):
    console = Console(file=io.StringIO(), width=width)
    console.print(table)
    return console.file.getvalue()


def write(measurements, path):
    write_rows(path, [m.row() for m in measurements], FIELDS)


def row(text, method):
    return next(line for line in text.splitlines() if line.strip().startswith(method))


def test_numbers_stand_beside_those_of_the_retrained_model(measurements):
    text = printed(terminal_table(measurements, "digits"))
    assert re.search(r"97\.3 +\(-1\.2\) +1\.5 +\(\+0\.5\)", row(text, "recommended"))
    assert "(" not in row(text, "retrain")
    assert "98.5" in row(text, "retrain")
    cost = printed(cost_table(measurements, "digits"))
    assert "2.00 (0.25x)" in row(cost, "recommended")
    assert "250 G (0.20x)" in row(cost, "recommended")
    assert "1.25 T" in row(cost, "retrain")
    assert row(cost, "original").split() == ["original", "-", "-", "-", "-", "-"]


def test_headings_show_the_better_direction(measurements):
    lines = printed(terminal_table(measurements, "t")).splitlines()
    heading = next(n for n, line in enumerate(lines) if "RA (%)" in line)
    assert lines[heading].split() == "RA (%) FA (%) TrA (%) TeA (%) MIA (%) UM gap ToW".split()
    assert lines[heading + 1].split() == "method → R → R → R → R → R ↓ ↑".split()
    cost = printed(cost_table(measurements, "t")).splitlines()
    heading = next(n for n, line in enumerate(cost) if "eta" in line)
    assert cost[heading + 1].split() == "method ↓ ↓ ↓ ↓".split()


def test_both_tables_fit_a_terminal_and_hold_every_metric(measurements):
    headings = ""
    for table in (terminal_table(measurements, "t"), cost_table(measurements, "t")):
        text = printed(table)
        rules = [line for line in text.splitlines() if "──" in line]
        assert len(rules) == 1 and len(rules[0].rstrip()) <= 100
        # One line per method: nothing was folded.
        body = text.split(rules[0])[1].split("in brackets")[0]
        assert len([line for line in body.splitlines() if line.strip()]) == len(measurements)
        headings += text
    assert all(metric.title in headings for metric in METRICS)


def test_names_are_no_markup_and_a_missing_reference_is_said(measurements):
    text = printed(terminal_table(measurements[2:], "of [bold]digits"))
    assert "[red]paper" in text and "of [bold]digits" in text
    assert "retrained model (R) is missing" in text and "(+" not in text
    assert "R" in printed(terminal_table([], "empty"))


def test_csv_gives_back_the_same_values(measurements, tmp_path):
    third = dataclasses.replace(measurements[2], retain_accuracy=100.0 / 3.0, online_flops=1e300)
    given = [*measurements, third, dataclasses.replace(third, method="NA", mia=float("nan"))]
    path = tmp_path / "made" / "table.csv"
    write(given, path)
    found = measurements_of(dcmu.read_results(path))
    assert found[:-1] == given[:-1]
    assert found[-1].method == "NA" and math.isnan(found[-1].mia)
    lines = path.read_text().splitlines()
    fields = [f.name for f in dataclasses.fields(Measurement) if f.name != "own"]
    assert lines[0].split(",") == fields
    assert len(lines) == 1 + len(given)
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "No table"),
        ("", "cannot be read as a table"),
        ("method,colour\na,1\n", "colour.*mia, retain_accuracy.* missing"),
        ("method,{numbers}\na,1,2,3,4,5,six\n", "unlearning_metric = 'six' of 'a'"),
    ],
)
def test_a_table_that_is_none_is_refused(text, said, tmp_path):
    numbers = "retain_accuracy,forget_accuracy,train_accuracy,test_accuracy,mia,unlearning_metric"
    path = tmp_path / "t.csv"
    if text is not None:
        path.write_text(text.replace("{numbers}", numbers))
    with pytest.raises(InputError, match=said):
        terminal_table(dcmu.read_results(path), "t")


def test_a_frame_is_shown_as_what_it_was_made_of(measurements):
    for table in (terminal_table, cost_table):
        frame = frame_of(measurements)
        assert printed(table(frame, "t")) == printed(table(measurements, "t"))


def test_a_failed_write_leaves_what_was_there(tmp_path):
    path = tmp_path / "file"
    path.write_text("before")
    with pytest.raises(RuntimeError), written_aside(path) as aside:
        aside.write_text("half")
        raise RuntimeError
    assert path.read_text() == "before" and list(tmp_path.iterdir()) == [path]


def test_cells(method, retrained):
    assert cell(BY_NAME["mia"], method("m", mia=50.5001), retrained) == ("50.50", "+0.00")
    # Never a negative zero, which would read as a difference.
    assert cell(BY_NAME["mia"], method("m", mia=50.4999), retrained).beside == "+0.00"
    assert cell(BY_NAME["mia"], method("m", mia=float("nan")), retrained) == ("-", "")
    assert cell(BY_NAME["online_s"], method("m", online_s=None), retrained) == ("-", "")
    stopped = dataclasses.replace(retrained, online_s=0.0)
    assert cell(BY_NAME["online_s"], method("m", online_s=1.0), stopped).beside == ""
    assert set(COST_METRICS) <= set(BY_NAME)


def test_metrics_of_ones_own_stand_beside_the_retrained_models(measurements, tmp_path):
    own = ({"rate": 12345.678}, {"rate": 1e-5, "late": 2.0}, {"rate": 2.5}, {})
    given = [
        dataclasses.replace(m, own=values) for m, values in zip(measurements, own, strict=True)
    ]
    path = tmp_path / "table.csv"
    write(given, path)
    assert path.read_text().splitlines()[0].endswith("tug_of_war,own.rate,own.late")
    assert measurements_of(dcmu.read_results(path)) == given
    path.write_text(path.read_text().replace("12345.678", "many"))
    with pytest.raises(InputError, match=r"own\.rate = 'many'"):
        measurements_of(dcmu.read_results(path))
    text = printed(own_table(given, "own"))
    assert "rate" in text and "→ R" in text
    assert row(text, "original").split() == ["original", "1.235e+04", "(+1.23e+04)", "-"]
    assert row(text, "retrain").split() == ["retrain", "1e-05", "2"]
    assert row(text, "recommended").split() == ["recommended", "2.5", "(+2.5)", "-"]


@pytest.mark.parametrize("width", [100, 80, 60, 40])
@pytest.mark.parametrize("make", [terminal_table, cost_table])
def test_names_and_numbers_are_whole_in_a_narrow_terminal(width, make, measurements):
    longest = dataclasses.replace(measurements[-1], method="catastrophic_forgetting")
    given = [*measurements[:2], longest]
    wide, text = (printed(make(given, "t"), columns) for columns in (200, width))
    assert max(map(len, text.splitlines())) <= width
    # Every number, mark and heading of the wide table stands in the narrow ones.
    shown, body = text.split(), wide.split("in brackets")[0]
    for word in set(body.split()):
        assert "─" in word or shown.count(word) >= body.split().count(word), word
    tables = sum("──" in line for line in text.splitlines())
    for method in ("original", "retrain", "catastrophic_forgetting"):
        rows = [line.split() for line in text.splitlines() if line.split()[:1] == [method]]
        assert len(rows) == tables and min(map(len, rows)) > 1

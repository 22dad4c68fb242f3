"""The table and the figures of the condensed model, from rows made up by hand."""

import csv
import dataclasses
import io

import pytest
from rich.console import Console

from dcmu_jax.applications.condensed_model_recipes import with_gaps
from dcmu_jax.applications.condensed_model_settings import construction
from dcmu_jax.files import write_rows
from dcmu_jax.reporting.condensed_diagram import diagram
from dcmu_jax.reporting.condensed_model import (
    comparison_conclusion,
    comparison_figure,
    condensed_model_table,
    curve_conclusion,
    curve_figure,
)


def row(name, target="cnn", accuracy=50.0, seed=0, per_class=10, **rest):
    return {
        "row": name,
        "target": target,
        "width": 1.0,
        "request": "random:0.1",
        "per_class": per_class,
        "seed": seed,
        "retain_accuracy": accuracy,
        "forget_accuracy": accuracy - 8,
        "test_accuracy": accuracy - 10,
        "mia": 50.0,
        "request_s": 1.0,
        "train_s": 2.0,
        "update_s": 3.0,
        "parameters": 1234567,
        "trained_images": 100,
    } | rest


ROWS = with_gaps(
    [
        row("retrain", accuracy=90.0),
        row("retrain", accuracy=94.0, seed=1),
        row("condensed model", accuracy=70.0),
        row("condensed model", accuracy=74.0, seed=1, mia=None),
        row("small final", target="small final", accuracy=72.0),
    ]
)


def test_the_gap_is_the_mean_distance_to_the_same_target_and_seed():
    assert [r["gap"] for r in ROWS] == [0.0, 0.0, pytest.approx(15.0), None, None]


def test_the_table_shows_every_row_and_parameter_counts():
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(condensed_model_table(ROWS, "Forgetting [b]"))
    text = console.export_text()
    assert "Forgetting [b]" in text and "1,234,567" in text
    assert "condensed model + target" in text and "final not replaced" in text


def test_rows_read_back_from_csv(tmp_path):
    write_rows(tmp_path / "table.csv", ROWS)
    with (tmp_path / "table.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    assert [float(r["retain_accuracy"]) for r in found] == [90.0, 94.0, 70.0, 74.0, 72.0]
    assert found[3]["mia"] == ""


def test_the_comparison_draws_means_with_intervals():
    figure = comparison_figure(ROWS)
    accuracy = figure.axes[0]
    assert [t.get_text() for t in accuracy.get_yticklabels()] == [
        "R: target on all that stays",
        "condensed model + target",
        "final not replaced",
    ]
    points = accuracy.containers[0].lines[0].get_xdata()
    assert list(points) == [82.0, 62.0]
    ends = accuracy.containers[0].lines[2][0].get_segments()[0][:, 0]
    # Two values 4 apart: the half-width is 12.706 * 2.
    assert ends == pytest.approx([82 - 25.41, 82 + 25.41], abs=0.01)


def test_the_curve_has_a_line_for_each_way_and_a_level():
    rows = [row("plain", accuracy=20.0 + n, per_class=n) for n in (1, 10)]
    figure = curve_figure([*rows, row("other", per_class=1)], {"retrained": [80.0, 82.0]})
    (axes,) = figure.axes
    assert list(axes.containers[0].lines[0].get_ydata()) == [11.0, 20.0]
    assert any(list(line.get_ydata()) == [81.0, 81.0] for line in axes.lines)


@pytest.mark.parametrize(("name", "frozen"), [("recommended", 3), ("paper", 2)])
def test_the_diagram_says_what_trains(name, frozen):
    (axes,) = diagram(construction(name)).axes
    grey = [
        p for p in axes.patches if p.get_facecolor()[:3] == pytest.approx((0.89,) * 3, abs=0.01)
    ]
    assert len(grey) == frozen
    texts = [text.get_text() for text in axes.texts]
    assert "target: CNN,\nVGG16, ResNet18" in texts
    assert texts.count("encoder") == 3 and texts.count("small classifier") == 2


def test_the_diagram_of_a_construction_without_an_offline_phase():
    usual = construction("recommended")
    without = dataclasses.replace(usual, offline=dataclasses.replace(usual.offline, rounds=0))
    texts, grey = [], []
    for each in (usual, without):
        (axes,) = diagram(each, "mlp").axes
        texts.append({text.get_text() for text in axes.texts})
        faces = [p.get_facecolor()[:3] for p in axes.patches]
        grey.append(sum(face == pytest.approx((0.89,) * 3, abs=0.01) for face in faces))
    assert grey[1] == grey[0] + 1 and "target:\nmlp" in texts[0] & texts[1]
    assert not any("remembrance: final" in text for text in texts[1])


def test_the_time_axis_is_linear_for_moments_and_logarithmic_for_more():
    assert comparison_figure(ROWS[:1]).axes[3].get_xscale() == "linear"
    assert comparison_figure([row("retrain", update_s=300.0)]).axes[3].get_xscale() == "symlog"


def test_the_sentences_come_from_the_rows():
    text = str(comparison_conclusion(ROWS))
    assert "62.0 ± 25.4 % through the unlearned" in text
    assert "distribution matching" not in text and "not measured on the same samples" in text
    more = str(comparison_conclusion([*ROWS, row("fdm", accuracy=43.5)]))
    assert "33.5 % on images condensed by fast distribution matching, beside 82.0" in more
    assert "too few seeds" in text and text.count(". It cannot be concluded") == 1
    apart = [
        row(name, accuracy=accuracy + 0.1 * seed, seed=seed)
        for name, accuracy in (("condensed model", 70.0), ("remembrance alone", 40.0))
        for seed in range(3)
    ]
    assert "do not overlap" in comparison_conclusion(apart).can
    swapped = {"condensed model": "remembrance alone", "remembrance alone": "condensed model"}
    other = [each | {"row": swapped[each["row"]]} for each in apart]
    assert "do not overlap" in comparison_conclusion(other).can
    level = [row | {"row": "condensed model"} for row in apart[3:]]
    assert "two overlap" in comparison_conclusion(level + apart[3:]).can
    curve = [row("plain", accuracy=20.0 + n, per_class=n) for n in (1, 10)]
    assert "goes from 11.0 % at 1 to 20.0 %" in curve_conclusion(curve, [33.0]).can

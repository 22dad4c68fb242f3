"""Figures of the defence: they show the numbers that they are given."""

import numpy as np
import pytest
from matplotlib.colors import to_hex

from dcmu_jax.applications.overfitted import overfitted_subset
from dcmu_jax.errors import InputError
from dcmu_jax.reporting.defence import (
    attack_figure,
    inversion_figure,
    radar_figure,
    threshold_figure,
    utility_figure,
)
from dcmu_jax.reporting.style import FORGET, png_bytes

VALUES = np.concatenate([np.linspace(0, 1, 30), np.linspace(8, 9, 10)])


@pytest.mark.parametrize("rule", ["otsu", "otsu_per_class"])
def test_the_threshold_parts_the_colours(rule):
    labels = (np.arange(40) % 2).astype(np.int32)
    subset = overfitted_subset(VALUES, labels, rule=rule)
    figure = threshold_figure(subset)
    (axes,) = figure.axes
    lines = [line.get_xdata()[0] for line in axes.lines]
    assert lines == ([subset.thresholds[0]] if rule == "otsu" else list(subset.thresholds))
    texts = [text.get_text() for text in axes.get_legend().get_texts()]
    assert f"overfitted: {subset.chosen.sum()} (75.0 %)" in texts or rule != "otsu"
    bars = [p for p in axes.patches if to_hex(p.get_facecolor()) == FORGET.lower()]
    assert sum(p.get_height() for p in bars) == subset.chosen.sum()
    assert png_bytes(figure).startswith(b"\x89PNG")


def test_utility_stands_over_every_number_of_an_attack():
    rows = {
        "one": {"test_accuracy": [50.0, 54.0], "auc": [0.6, 0.7], "tpr": [0.1, 0.1]},
        "two": {"test_accuracy": [40.0], "auc": [0.5], "tpr": [0.01]},
    }
    figure = utility_figure(rows, {"auc": "AUC", "tpr": "TPR"})
    first, second = figure.axes
    assert [c.lines[0].get_xdata()[0] for c in first.containers] == pytest.approx([0.65, 0.5])
    assert [c.lines[0].get_ydata()[0] for c in second.containers] == pytest.approx([52, 40])
    assert len(png_bytes(figure)) > 1000
    with pytest.raises(InputError, match="no defences"):
        utility_figure({}, {"auc": "AUC"})


def test_the_other_figures_hold_what_they_are_given():
    radar = radar_figure({"one": {"a": 0.2, "b": 0.4, "c": 1.0}}, ("a", "b", "c"))
    np.testing.assert_allclose(radar.axes[0].lines[0].get_ydata(), [0.2, 0.4, 1.0, 0.2])
    member = np.arange(200).reshape(2, 100) % 2 == 0
    roc = attack_figure({"perfect": member.astype(float)}, member)
    assert roc.axes[0].get_xscale() == roc.axes[0].get_yscale() == "log"
    assert max(roc.axes[0].lines[0].get_ydata()) == 1.0
    images = np.full((2, 4, 4, 3), 300.0)
    drawn = inversion_figure({"a": images, "b": images}, np.array([0, 1]), ("cat", "dog"))
    assert len(drawn.axes) == 4 and drawn.axes[1].get_title() == "dog"
    assert drawn.axes[0].images[0].get_array().max() == 255
    assert all(png_bytes(figure).startswith(b"\x89PNG") for figure in (radar, roc, drawn))

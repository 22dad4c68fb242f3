"""The condensed model as a table, as figure 4 of the paper, and as a curve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from rich import box
from rich.table import Table
from rich.text import Text
from scipy import stats

from dcmu_jax.reporting import style

TITLES = {
    "retrain": "R: target on all that stays",
    "condensed model": "condensed model + target",
    "before unlearning": "the same before unlearning",
    "published": "the same, published architecture",
    "small final": "final not replaced",
    "remembrance alone": "remembrance samples alone",
    "fdm": "FDM images",
    "dm": "DM images",
    "fdm through model": "FDM images through model",
    "dm through model": "DM images through model",
    "retain through model": "all that stays through model",
}
"""Name of a row -> what a reader sees."""

COLUMNS = {
    "retain_accuracy": "RA %",
    "forget_accuracy": "FA %",
    "test_accuracy": "TeA %",
    "mia": "MIA %",
    "gap": "gap",
    "request_s": "request s",
    "train_s": "target s",
    "parameters": "parameters",
    "trained_images": "images",
}
"""Field of a row -> heading of its column."""

LEGEND = (
    "Gap: mean distance of RA, FA, TeA and MIA to the same target retrained. Request: seconds of "
    "unlearning or condensing; target: of training it. Images: what the target trained on."
)


def condensed_model_table(rows: Sequence[Mapping[str, Any]], title: str) -> Table:
    """One line for each row, for 120 columns.

    Args:
        rows: from ``with_gaps``.
        title: printed as it is.
    """
    table = Table(
        title=Text(title),
        caption=Text(LEGEND),
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    table.add_column("target", overflow="fold")
    table.add_column("trained on", no_wrap=True)
    for heading in COLUMNS.values():
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*map(Text, row_texts(row)))
    return table


def row_texts(row: Mapping[str, Any]) -> list[str]:
    """A row as texts: the target, what it is trained on, then ``COLUMNS``."""
    name = str(row["row"])
    shown = (_text(row[field]) for field in COLUMNS)
    return [str(row["target"]), TITLES.get(name, name), *shown]


def _text(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:.2f}"


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean and half-width of the 95 % interval (Student's t); 0 wide for a single value."""
    x = np.asarray(values, float)
    if len(x) < 2:
        return float(x.mean()), 0.0
    error = x.std(ddof=1) / np.sqrt(len(x))
    return float(x.mean()), float(error * stats.t.ppf(0.975, len(x) - 1))


PANELS = {
    "test_accuracy": "test accuracy (%)",
    "forget_accuracy": "forget accuracy (%)",
    "mia": "membership attack (%)",
    "update_s": "seconds per request",
}
"""Panels of figure 4."""


def comparison_figure(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Figure 4: every way to train a target, a point with its 95 % interval over seeds.

    Args:
        rows: of one request and number of images, any targets and seeds.
    """
    names = list(dict.fromkeys(row["row"] for row in rows))
    targets = list(dict.fromkeys(r["target"] for r in rows if r["target"] != "small final"))
    palette = [style.TEST, style.FORGET, style.INK, "#009E73", "#CC79A7"]
    shades = dict(zip(targets, palette, strict=False)) | {"small final": "#888888"}
    figure = Figure(figsize=(13, 0.42 * len(names) + 1.6), layout=style.layout())
    panels = figure.subplots(1, len(PANELS), sharey=True)
    drawn = [*targets, "small final"]
    for axes, (field, label) in zip(panels, PANELS.items(), strict=True):
        style.plain(axes)
        for number, target in enumerate(drawn):
            points = [
                (i, [r[field] for r in rows if r["row"] == name and r["target"] == target])
                for i, name in enumerate(names)
            ]
            points = [(i, [v for v in vs if v is not None]) for i, vs in points]
            points = [(i, interval(vs)) for i, vs in points if vs]
            if not points:
                continue
            shift = 0.0 if target == "small final" else 0.18 * (number - (len(targets) - 1) / 2)
            axes.errorbar(
                [mean for _, (mean, _) in points],
                [i + shift for i, _ in points],
                xerr=[half for _, (_, half) in points],
                linestyle="",
                marker=style.MARKERS[number % len(style.MARKERS)],
                color=shades.get(target, style.INK),
                capsize=3,
                label="small final" if target == "small final" else target,
            )
        if field == "update_s":
            # Within some seconds a logarithmic axis has hardly a tick.
            if max(row["update_s"] for row in rows) > 30:
                axes.set_xscale("symlog", linthresh=1.0)
            axes.set_xlim(left=0)
        if field == "mia":
            axes.axvline(50, color=style.INK, linewidth=0.8, linestyle=":")
        axes.set_xlabel(label)
    panels[0].set_yticks(range(len(names)), [TITLES.get(name, name) for name in names])
    panels[0].invert_yaxis()
    handles = panels[0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside right upper", fontsize=style.TEXT_SIZE, frameon=False)
    return figure


def curve_figure(
    rows: Sequence[Mapping[str, Any]], levels: Mapping[str, Sequence[float]]
) -> Figure:
    """Test accuracy of a target over the remembrance samples per class, a line for each way.

    Args:
        rows: of one target, any seeds.
        levels: name -> test accuracies to draw as a horizontal line at their mean.
    """
    figure = Figure(figsize=(8.2, 4.6), layout=style.layout())
    axes = figure.subplots()
    style.plain(axes)
    names = list(dict.fromkeys(row["row"] for row in rows))
    colors = style.method_colors(names)
    for number, name in enumerate(names):
        own = [row for row in rows if row["row"] == name]
        counts = sorted({row["per_class"] for row in own})
        found = [
            interval([r["test_accuracy"] for r in own if r["per_class"] == count])
            for count in counts
        ]
        axes.errorbar(
            counts,
            [mean for mean, _ in found],
            yerr=[half for _, half in found],
            marker=style.MARKERS[number % len(style.MARKERS)],
            color=colors[name],
            capsize=3,
            label=name,
        )
    for name, values in levels.items():
        height = float(np.mean(values))
        axes.axhline(height, color=style.INK, linewidth=0.9, linestyle="--")
        axes.annotate(
            name,
            (1.0, height),
            xycoords=("axes fraction", "data"),
            ha="right",
            va="bottom",
            fontsize=style.TEXT_SIZE,
        )
    ticks = sorted({row["per_class"] for row in rows})
    axes.set(xscale="log", xlabel="remembrance samples per class", ylabel="test accuracy (%)")
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    handles = axes.get_legend_handles_labels()
    figure.legend(*handles, loc="outside right upper", fontsize=style.TEXT_SIZE, frameon=False)
    return figure

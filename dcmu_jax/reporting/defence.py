"""Figures of the defence: threshold, privacy over utility, radar, ROC curves, inversions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from dcmu_jax.applications.overfitted import Overfitted
from dcmu_jax.audits.roc import roc_curve
from dcmu_jax.errors import InputError
from dcmu_jax.reporting import style

_MARKERS = (*style.MARKERS, "<", ">", "*", "h", "p", "d")
_LINES = ("-", "--", ":", "-.")


def _looks(labels: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Colour, marker and line of each label; no two have all alike, of thirteen at most."""
    colors, found = style.method_colors(labels), {}
    for number, (label, color) in enumerate(colors.items()):
        alike = sum(look["color"] == color for look in found.values())
        marker = _MARKERS[number % len(_MARKERS)]
        line = _LINES[alike % len(_LINES)]
        found[label] = {"color": color, "marker": marker, "linestyle": line}
    return found


def threshold_figure(subset: Overfitted, class_names: Sequence[str] = ()) -> Figure:
    """The histogram of the metric with its threshold, the overfitted side coloured.

    Args:
        subset: what was chosen. Metrics of a network that memorises crowd at zero, so the counts
            are on a logarithmic axis.
        class_names: of the thresholds, where there is one for each class.
    """
    figure = Figure(figsize=(6.4, 4.2), layout=style.layout())
    axes = figure.add_subplot()
    style.plain(axes)
    edges = np.histogram_bin_edges(subset.values, bins=60)
    parts = [subset.values[subset.chosen], subset.values[~subset.chosen]]
    labels = [
        f"overfitted: {len(parts[0])} ({100 * subset.share:.1f} %)",
        f"the rest: {len(parts[1])}",
    ]
    colors = [style.FORGET, style.TEST]
    axes.hist(parts, bins=list(edges), stacked=True, color=colors, label=labels)
    known = [t for t in subset.thresholds if not math.isnan(t)]
    one = len(set(known)) == 1
    for number, threshold in enumerate(known[:1] if one else known):
        label = "threshold" if one else ("thresholds of the classes" if not number else None)
        axes.axvline(threshold, color=style.INK, linewidth=1.0, linestyle="--", label=label)
    axes.set_yscale("log")
    lira = subset.rule == "lira"
    axes.set_xlabel("minus the LiRA score" if lira else "overfitting metric OM")
    axes.set_ylabel("training samples")
    axes.legend(fontsize=style.TEXT_SIZE, frameon=False)
    return figure


def utility_figure(
    rows: Mapping[str, Mapping[str, Sequence[float]]], columns: Mapping[str, str]
) -> Figure:
    """Test accuracy over what an attack finds: one panel for each number of an attack.

    Args:
        rows: label -> ``test_accuracy`` and every column: a value for each seed.
        columns: column -> title of its axis; up and to the left is better.
    """
    if not rows:
        raise InputError("A figure of no defences", "one or more", "Measure some")
    figure = Figure(figsize=(5.0 * len(columns), 5.2), layout=style.layout())
    looks = _looks(rows)
    panels = np.atleast_1d(np.asarray(figure.subplots(1, len(columns), sharey=True)))
    for axes, (column, title) in zip(panels, columns.items(), strict=True):
        style.plain(axes)
        for label, row in rows.items():
            x, y = np.asarray(row[column]), np.asarray(row["test_accuracy"])
            spread = [v.std(ddof=1) if len(v) > 1 else 0.0 for v in (x, y)]
            axes.errorbar(
                x.mean(),
                y.mean(),
                xerr=spread[0],
                yerr=spread[1],
                **(looks[label] | {"linestyle": "none"}),
                markersize=8,
                elinewidth=1.0,
                label=label,
            )
        axes.set_xlabel(title)
        axes.locator_params(axis="x", nbins=5)
    panels[0].set_ylabel("test accuracy (%)")
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(
        handles,
        names,
        loc="outside lower center",
        ncols=3,
        fontsize=style.TEXT_SIZE,
        frameon=False,
    )
    return figure


def radar_figure(rows: Mapping[str, Mapping[str, float]], axes_of: Sequence[str]) -> Figure:
    """One polygon for each defence, every axis from 0 at the centre to 1, which is best.

    Args:
        rows: label -> axis -> value in 0..1.
        axes_of: the axes, three or more, in order.
    """
    angles = np.linspace(0, 2 * np.pi, len(axes_of), endpoint=False)
    closed = np.append(angles, angles[:1])
    figure = Figure(figsize=(7.4, 6.6), layout=style.layout())
    axes = figure.add_subplot(projection="polar")
    looks = _looks(rows)
    for label, row in rows.items():
        values = [row[name] for name in axes_of]
        axes.plot(
            closed,
            [*values, values[0]],
            **looks[label],
            linewidth=1.6,
            markersize=5,
            label=label,
        )
    axes.set_xticks(angles, [name.replace(", ", ",\n") for name in axes_of])
    axes.tick_params(labelsize=style.TEXT_SIZE, pad=10)
    for text, angle in zip(axes.get_xticklabels(), angles, strict=True):
        side = np.cos(angle)  # away from the circle, so that no text lies on a line
        text.set_horizontalalignment(
            "center" if abs(side) < 0.3 else "left" if side > 0 else "right"
        )
    axes.set_yticks([0.25, 0.5, 0.75, 1.0], ["", "0.5", "", "1"])
    axes.set_ylim(0, 1.02)
    figure.legend(loc="outside lower center", ncols=3, fontsize=style.TEXT_SIZE, frameon=False)
    return figure


def attack_figure(scores: Mapping[str, np.ndarray], member: np.ndarray) -> Figure:
    """ROC curves of one attack on every defence, both axes logarithmic.

    Args:
        scores: label -> scores ``(models, examples)``.
        member: bool, like them.
    """
    figure = Figure(figsize=(7.0, 6.4), layout=style.layout())
    axes = figure.add_subplot()
    style.plain(axes)
    for label, look in _looks(scores).items():
        false, true = roc_curve(scores[label], member)
        look = {key: value for key, value in look.items() if key != "marker"}
        axes.plot(false, true, label=label, **look)
    least = 1e-3
    axes.plot([least, 1], [least, 1], color=style.INK, linewidth=0.8, linestyle=":", label="chance")
    axes.set(xscale="log", yscale="log", xlim=(least, 1), ylim=(least, 1.05))
    axes.set_xlabel("false-positive rate")
    axes.set_ylabel("true-positive rate")
    figure.legend(loc="outside lower center", ncols=3, fontsize=style.TEXT_SIZE, frameon=False)
    return figure


def inversion_figure(
    rows: Mapping[str, np.ndarray], labels: np.ndarray, class_names: Sequence[str]
) -> Figure:
    """Images that an inversion drew, a row for each network and a column for each image.

    Args:
        rows: label -> pixels ``(images, H, W, C)``, 0..255.
        labels: classes of the columns.
        class_names: names of the classes.
    """
    count = len(labels)
    figure = Figure(figsize=(1.0 * count + 2.2, 1.15 * len(rows) + 0.6), layout=style.layout())
    panels = np.asarray(figure.subplots(len(rows), count, squeeze=False))
    for line, (label, images) in zip(panels, rows.items(), strict=True):
        for column, (axes, image) in enumerate(zip(line, images, strict=True)):
            axes.imshow(np.rint(np.clip(image, 0, 255)).astype(np.uint8).squeeze(), cmap="gray")
            axes.set_xticks([])
            axes.set_yticks([])
            axes.spines[:].set_visible(False)
            if axes in panels[0]:
                axes.set_title(class_names[labels[column]], fontsize=style.TEXT_SIZE)
        line[0].set_ylabel(
            label, fontsize=style.TEXT_SIZE, rotation=0, ha="right", va="center", labelpad=8
        )
    return figure

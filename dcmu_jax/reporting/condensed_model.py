"""The condensed model as a section: table, figure 4 of the paper, a curve, and what they show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from rich.table import Table
from scipy import stats

from dcmu_jax.applications.condensed_model_settings import Construction
from dcmu_jax.reporting import style
from dcmu_jax.reporting.condensed_diagram import diagram
from dcmu_jax.reporting.sections import Conclusion, Drawn, Numbers, Section
from dcmu_jax.reporting.tables import terminal

Rows = Sequence[Mapping[str, Any]]

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

DIAGRAM = Conclusion(
    "The diagram shows which parts train in each stage and on which images, with the small final "
    "thrown away before the target comes.",
    "It shows nothing of how much is learnt or forgotten.",
)
"""Beside figure 11."""


def condensed_section(rows: Rows, construction: Construction, title: str) -> Section:
    """The section of one condensed model: its table, figure 4, and the diagram of its stages.

    Args:
        rows: of one target, from ``run_condensed_model``, retraining first.
        construction: how it was made.
        title: its heading.
    """
    target = str(rows[0]["target"])
    table = Numbers(
        f"The target {target}, trained in each way",
        ["trained on", *COLUMNS.values()],
        [_texts(row)[1:] for row in rows],
        LEGEND,
        reference=True,
    )
    drawn = [
        Drawn(
            "comparison",
            "Every way to train the target.",
            comparison_figure(rows),
            comparison_conclusion(rows),
        ),
        Drawn(
            "construction",
            "The stages of the condensed model, and what trains in each.",
            diagram(construction, target),
            DIAGRAM,
        ),
    ]
    return Section(title, tables=[table], figures=drawn)


def condensed_model_table(rows: Rows, title: str) -> Table:
    """One line for each row, for 120 columns of a terminal.

    Args:
        rows: from ``with_gaps``.
        title: printed as it is.
    """
    headings = ["target", "trained on", *COLUMNS.values()]
    return terminal(Numbers(title, headings, [_texts(row) for row in rows], LEGEND), words=2)


def _texts(row: Mapping[str, Any]) -> list[str]:
    """A row as texts: the target, what it is trained on, then ``COLUMNS``."""

    def text(value: Any) -> str:
        if value is None:
            return "-"
        return f"{value:,}" if isinstance(value, int) else f"{value:.2f}"

    name = str(row["row"])
    return [str(row["target"]), TITLES.get(name, name), *(text(row[field]) for field in COLUMNS)]


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean and half-width of the 95 % interval (Student's t); 0 wide for a single value."""
    x = np.asarray(values, float)
    if len(x) < 2:
        return float(x.mean()), 0.0
    error = x.std(ddof=1) / np.sqrt(len(x))
    return float(x.mean()), float(error * stats.t.ppf(0.975, len(x) - 1))


def _values(rows: Rows, field: str, **where: Any) -> list[float]:
    """What a field is, where it is known, in the rows that are so."""
    alike = (row for row in rows if all(row[name] == value for name, value in where.items()))
    return [row[field] for row in alike if row[field] is not None]


def _names(rows: Rows, field: str = "row") -> list[str]:
    return list(dict.fromkeys(row[field] for row in rows))


PANELS = {
    "test_accuracy": "test accuracy (%)",
    "forget_accuracy": "forget accuracy (%)",
    "mia": "membership attack (%)",
    "update_s": "seconds per request",
}
"""Panels of figure 4."""


def comparison_figure(rows: Rows) -> Figure:
    """Figure 4: every way to train a target, a point with its 95 % interval over seeds.

    Args:
        rows: of one request and number of images, any targets and seeds.
    """
    names = _names(rows)
    targets = [name for name in _names(rows, "target") if name != "small final"]
    palette = [style.TEST, style.FORGET, style.INK, "#009E73", "#CC79A7"]
    shades = dict(zip(targets, palette, strict=False)) | {"small final": "#888888"}
    size = (13.0, 0.42 * len(names) + 1.6)
    figure, panels = style.panels(size, columns=len(PANELS), sharey=True)
    for axes, (field, label) in zip(panels, PANELS.items(), strict=True):
        for number, target in enumerate([*targets, "small final"]):
            found = [_values(rows, field, row=name, target=target) for name in names]
            points = [(i, *interval(values)) for i, values in enumerate(found) if values]
            if not points:
                continue
            at, means, halves = zip(*points, strict=True)
            shift = 0.0 if target == "small final" else 0.18 * (number - (len(targets) - 1) / 2)
            axes.errorbar(
                means,
                np.add(at, shift),
                xerr=halves,
                linestyle="",
                marker=style.MARKERS[number % len(style.MARKERS)],
                color=shades.get(target, style.INK),
                capsize=3,
                label=target,
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
    style.outside(figure, panels[0], "outside right upper")
    return figure


def curve_figure(rows: Rows, levels: Mapping[str, Sequence[float]]) -> Figure:
    """Test accuracy of a target over the remembrance samples per class, a line for each way.

    Args:
        rows: of one target, any seeds.
        levels: name -> test accuracies to draw as a horizontal line at their mean.
    """
    figure, (axes,) = style.panels((8.2, 4.6))
    colors = style.method_colors(_names(rows))
    for number, (name, color) in enumerate(colors.items()):
        counts = sorted({row["per_class"] for row in rows if row["row"] == name})
        found = [interval(_values(rows, "test_accuracy", row=name, per_class=n)) for n in counts]
        means, halves = zip(*found, strict=True)
        axes.errorbar(
            counts,
            means,
            yerr=halves,
            marker=style.MARKERS[number % len(style.MARKERS)],
            color=color,
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
    style.outside(figure, axes, "outside right upper")
    return figure


def _shown(values: Sequence[float]) -> str:
    if not values:
        return "not measured"
    mean, half = interval(values)
    return f"{mean:.1f} %" if len(values) < 2 else f"{mean:.1f} ± {half:.1f} %"


def comparison_conclusion(rows: Rows) -> Conclusion:
    """Two sentences beside figure 4, of the first target.

    Args:
        rows: of figure 4.
    """
    target = next(row["target"] for row in rows if row["target"] != "small final")

    def tests(name: str, target: str = target, field: str = "test_accuracy") -> list[float]:
        return _values(rows, field, row=name, target=target)

    through, alone = tests("condensed model"), tests("remembrance alone")
    verdict = "with too few seeds to tell them apart"
    if min(len(through), len(alone)) > 1:
        (one, reach), (other, room) = interval(through), interval(alone)
        apart = abs(one - other) > reach + room
        verdict = f"and the intervals of the first two {'do not overlap' if apart else 'overlap'}"
    kept, retrained = (
        _shown(tests(name, field="forget_accuracy")) for name in ("condensed model", "retrain")
    )
    ways = {"fdm": "fast distribution matching", "dm": "distribution matching"}
    condensed = "".join(
        f"{_shown(tests(name))} on images condensed by {way}, "
        for name, way in ways.items()
        if tests(name)
    )
    return Conclusion(
        f"Trained on {rows[0]['per_class']} images per class, the target {target} has a test "
        f"accuracy of {_shown(through)} through the unlearned condensed model, "
        f"{_shown(alone)} on the same samples alone, {condensed}beside "
        f"{_shown(tests('retrain'))} when retrained on all that stays, {verdict}.",
        "It cannot be concluded that the request was forgotten "
        f"(FA {kept} beside {retrained} retrained), nor that the target adds to what "
        f"the small final knew ({_shown(tests('small final', 'small final'))}), nor what "
        "other data and wider networks give.",
    )


def curve_conclusion(curve: Rows, small: Sequence[float]) -> Conclusion:
    """Two sentences beside the curve.

    Args:
        curve: its rows.
        small: test accuracies (%) of the unlearned network with its small final.
    """
    counts = sorted({row["per_class"] for row in curve})
    least, most = counts[0], counts[-1]

    def at(name: str, count: int) -> list[float]:
        return _values(curve, "test_accuracy", row=name, per_class=count)

    names = _names([row for row in curve if row["per_class"] == most])
    best = max(names, key=lambda name: interval(at(name, most))[0])
    return Conclusion(
        f"The best way at {most} samples per class ({best}) goes from "
        f"{_shown(at(best, least))} at {least} to {_shown(at(best, most))}, beside "
        f"{_shown(small)} of the unlearned network with its small final.",
        "It cannot be concluded that the small final's accuracy bounds the target's, nor that "
        "still more samples go on as the curve does, nor which of the ways is better where their "
        "intervals overlap.",
    )

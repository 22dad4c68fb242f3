"""The defence as a section and its figures: threshold, privacy over utility, radar, ROC, images."""

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
from dcmu_jax.reporting.sections import Conclusion, Drawn, Numbers, Section

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


def threshold_figure(subset: Overfitted) -> Figure:
    """The histogram of the metric with its threshold, the overfitted side coloured.

    Args:
        subset: what was chosen. Metrics of a network that memorises crowd at zero, so the counts
            are on a logarithmic axis.
    """
    figure, (axes,) = style.panels((6.4, 4.2))
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
    size = (5.0 * len(columns), 5.2)
    figure, panels = style.panels(size, columns=len(columns), sharey=True)
    looks = _looks(rows)
    for axes, (column, title) in zip(panels, columns.items(), strict=True):
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
    style.outside(figure, panels[0], columns=3)
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
    style.outside(figure, axes, columns=3)
    return figure


def attack_figure(scores: Mapping[str, np.ndarray], member: np.ndarray) -> Figure:
    """ROC curves of one attack on every defence, both axes logarithmic.

    Args:
        scores: label -> scores ``(models, examples)``.
        member: bool, like them.
    """
    figure, (axes,) = style.panels((7.0, 6.4))
    for label, look in _looks(scores).items():
        false, true = roc_curve(scores[label], member)
        look = {key: value for key, value in look.items() if key != "marker"}
        axes.plot(false, true, label=label, **look)
    least = 1e-3
    axes.plot([least, 1], [least, 1], color=style.INK, linewidth=0.8, linestyle=":", label="chance")
    axes.set(xscale="log", yscale="log", xlim=(least, 1), ylim=(least, 1.05))
    axes.set_xlabel("false-positive rate")
    axes.set_ylabel("true-positive rate")
    style.outside(figure, axes, columns=3)
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
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
            if axes in panels[0]:
                axes.set_title(class_names[labels[column]], fontsize=style.TEXT_SIZE)
        line[0].set_ylabel(
            label, fontsize=style.TEXT_SIZE, rotation=0, ha="right", va="center", labelpad=8
        )
    return figure


CAUTION = (
    "A loss threshold is the weakest of attacks: that it finds little proves no privacy, and its "
    "test samples are few at a false-positive rate of 1 %. Hold the network against shadow "
    "networks that were defended in the same way before it is trusted."
)
"""What can be concluded from a run alone, and what cannot."""

BEFORE, AFTER = "original", "defended"


def threshold_conclusion(subset: Overfitted) -> Conclusion:
    """Beside the histogram."""
    count, of = int(subset.chosen.sum()), len(subset.chosen)
    size = ", nearly all of them" if subset.share > 0.9 else ""
    how = "line" if len(set(subset.thresholds[~np.isnan(subset.thresholds)])) == 1 else "lines"
    small = (
        "the surer an attack with shadow models is of it"
        if subset.rule == "lira"
        else "the better the network fits it"
    )
    return Conclusion(
        f"{count} of {of} training samples ({100 * subset.share:.1f} %{size}) lie at or left of "
        f"the dashed {how}, which is the side that the rule {subset.rule} calls overfitted: the "
        f"smaller the value of a sample, {small}.",
        "It cannot be concluded that an attacker finds these samples and not the others, nor, from "
        "the threshold alone, that there are two kinds of samples: it parts any histogram.",
    )


def attack_conclusion(before: Mapping[str, Any], after: Mapping[str, Any]) -> Conclusion:
    """Beside the ROC curves.

    Args:
        before: of the original: ``threshold_auc`` and ``threshold_tpr_at_1_percent``, each a value
            and its interval, and ``test_samples``.
        after: of the defended network.
    """
    (old, low, high), (new, *ends) = before["threshold_auc"], after["threshold_auc"]
    apart = high < ends[0] or ends[1] < low
    return Conclusion(
        "An attacker who sees losses alone tells training from test samples with an AUC of "
        f"{old:.3f} before and {new:.3f} after the defence, 0.5 being chance, and the intervals "
        f"over samples {'do not overlap' if apart else 'overlap'}.",
        "It cannot be concluded that an attacker with shadow models finds no more, nor, from "
        f"{before['test_samples']} test samples, anything of rates below "
        f"{1 / before['test_samples']:.2g}.",
    )


def defence_section(
    title: str,
    subset: Overfitted,
    scores: Mapping[str, np.ndarray],
    member: np.ndarray,
    numbers: Mapping[str, Mapping[str, Any]],
    cost: Mapping[str, float],
) -> Section:
    """The section of one defence.

    Args:
        title: its heading.
        subset: what was unlearned.
        scores: of the loss attack, by ``BEFORE`` and ``AFTER``, float ``(samples,)``.
        member: bool ``(samples,)``.
        numbers: by the same names, see ``attack_conclusion``; also ``train_accuracy`` and
            ``test_accuracy`` (%).
        cost: ``online_s`` and ``offline_s``, seconds.
    """
    before, after = numbers[BEFORE], numbers[AFTER]
    accuracies = ("train_accuracy", "test_accuracy")
    rates = ("threshold_auc", "threshold_tpr_at_1_percent")
    rows = [
        [name, *(f"{own[field]:.2f}" for field in accuracies)]
        + ["{:.3f} ({:.3f} to {:.3f})".format(*own[field]) for field in rates]
        for name, own in numbers.items()
    ]
    headings = ["network", "TrA (%)", "TeA (%)", "AUC loss", "TPR at 1 % FPR"]
    meaning = (
        "AUC and true-positive rate of telling training from test samples by a threshold on their "
        "loss, with 95 % intervals over samples; 0.5 and 0.01 are chance. Unlearning took "
        f"{cost['online_s']:.2f} s online and {cost['offline_s']:.2f} s before any request."
    )
    curves = {name: own[None] for name, own in scores.items()}
    return Section(
        title,
        sentences=[
            subset.sentence(),
            f"Test accuracy {before['test_accuracy']:.2f} % -> {after['test_accuracy']:.2f} %, "
            f"training accuracy {before['train_accuracy']:.2f} % -> "
            f"{after['train_accuracy']:.2f} %.",
            f"A loss threshold tells training from test samples with an AUC of "
            f"{before['threshold_auc'][0]:.3f} -> {after['threshold_auc'][0]:.3f}; true positives "
            f"at 1 % false ones {before['threshold_tpr_at_1_percent'][0]:.3f} -> "
            f"{after['threshold_tpr_at_1_percent'][0]:.3f}.",
            CAUTION,
        ],
        tables=[Numbers("The network before and after", headings, rows, meaning, reference=True)],
        figures=[
            Drawn(
                "histogram",
                "Histogram of what the samples are chosen by, with its threshold.",
                threshold_figure(subset),
                threshold_conclusion(subset),
            ),
            Drawn(
                "attack",
                "A threshold on the loss against the network before and after the defence.",
                attack_figure(curves, member[None]),
                attack_conclusion(before, after),
            ),
        ],
    )

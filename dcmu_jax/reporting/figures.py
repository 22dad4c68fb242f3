"""Figures of one comparison: clusters and their images, accuracy over time, losses."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Num, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from dcmu_jax.errors import InputError
from dcmu_jax.metrics.measurement import Measurement, Trajectory
from dcmu_jax.reporting import style

MEMBERS_SHOWN = 8
"""Members of a cluster shown before the rest is counted."""
_LOG_TIME_FROM = 20.0
_LEAST_LOSS = 1e-6


def cluster_figure(
    members: Sequence[Num[np.ndarray, "_ height width channels"]],
    condensed: Num[np.ndarray, "clusters height width channels"],
    titles: Sequence[str],
) -> Figure:
    """Clusters, one per row: up to eight members and, set apart, their condensed image.

    Args:
        members: per cluster its images, pixels in 0..255; a cluster may be empty.
        condensed: the condensed image of each cluster, pixels; clipped to 0..255 for showing.
        titles: what stands beside each row, one line or two.

    Raises:
        InputError: not as many members, condensed images and titles; neither 1 nor 3 channels.
    """
    if not len(members) == len(condensed) == len(titles):
        raise InputError(
            f"{len(members)} clusters, {len(condensed)} condensed images, {len(titles)} titles",
            "as many of each",
            "Give one condensed image and one title per cluster",
        )
    if not len(condensed):
        return style.message_figure("no clusters to show")
    height, width, channels = condensed.shape[1:]
    if channels not in (1, 3):
        raise InputError(f"Images of {channels} channels", "1 or 3 channels", "Select channels")

    # Two at least: the headings need the room.
    columns = min(MEMBERS_SHOWN, max([2, *(len(images) for images in members)]))
    space = max(1, width // 8)
    step = width + space
    hidden = any(len(images) > columns for images in members)
    apart = columns * step + (
        3 * width // 2 if hidden else space
    )  # where the condensed image begins
    canvas = np.full(
        (len(members) * (height + space) - space, apart + width, 3), 255, dtype=np.uint8
    )
    for row, (images, image) in enumerate(zip(members, condensed, strict=True)):
        top = row * (height + space)
        for column in range(min(columns, len(images))):
            left = column * step
            canvas[top : top + height, left : left + width] = _shown(images[column])
        canvas[top : top + height, apart:] = _shown(image)

    shown = ["\n".join(map(_short, title.split("\n"))) for title in titles]
    tile = 0.62  # inches
    inches_wide, inches_high = (size / width * tile for size in (canvas.shape[1], canvas.shape[0]))
    label = 0.25 + max(style.inches_wide(title) for title in shown)
    head = 0.4
    figure = Figure(figsize=(inches_wide + label + 0.25, inches_high + head + 0.1))
    axes = figure.add_axes(
        (
            label / figure.get_figwidth(),
            0.1 / figure.get_figheight(),
            inches_wide / figure.get_figwidth(),
            inches_high / figure.get_figheight(),
        )
    )
    axes.imshow(canvas, interpolation="nearest", aspect="auto")
    axes.set_axis_off()
    text = {"color": style.INK, "fontsize": style.TEXT_SIZE, "parse_math": False}
    for row, (images, title) in enumerate(zip(members, shown, strict=True)):
        middle = row * (height + space) + height / 2 - 0.5
        axes.text(-space - 0.5, middle, title, ha="right", va="center", **text)
        if len(images) > columns:
            between = (columns * step + apart - space) / 2 - 0.5
            axes.text(
                between, middle, f"+{len(images) - columns} more",
                ha="center", va="center", **text,
            )  # fmt: skip
        if not len(images):
            axes.text(0, middle, "no members", va="center", style="italic", **text)
    head_at = -space - 0.5
    axes.text(-0.5, head_at, "members", va="bottom", weight="bold", **text)
    axes.text(
        apart + width / 2 - 0.5, head_at, "condensed", ha="center", va="bottom", weight="bold",
        **text,
    )  # fmt: skip
    return figure


def _short(line: str) -> str:
    return line if len(line) <= 28 else f"{line[:27]}…"


def _shown(image: Num[np.ndarray, "h w c"]) -> UInt8[np.ndarray, "h w c"]:
    return np.clip(np.nan_to_num(np.asarray(image, np.float64)), 0, 255).round().astype(np.uint8)


def trajectory_figure(trajectories: Sequence[Trajectory], retrained: Measurement | None) -> Figure:
    """Retain, forget and test accuracy over online seconds, one line per method.

    The retrained model's accuracy, the target, is a dashed horizontal line. Time is logarithmic
    when the methods' durations differ more than twentyfold; the start (0 s) then stands at the
    left edge.

    Args:
        trajectories: one per method.
        retrained: the retrained model, ``None`` to leave its line out.
    """
    if not trajectories:
        return style.message_figure("no accuracies were recorded over time")
    ends = [t.seconds[-1] for t in trajectories if t.seconds and t.seconds[-1] > 0]
    logarithmic = bool(ends) and max(ends) > _LOG_TIME_FROM * min(ends)
    positive = [s for t in trajectories for s in t.seconds if s > 0]
    edge = min(positive) / 2 if positive else 1.0

    figure, panels = style.panels((10.5, 3.9), columns=3)
    colors = style.method_colors(t.method for t in trajectories)
    for axes, name in zip(panels, ("retain", "forget", "test"), strict=True):
        values = []
        for n, t in enumerate(trajectories):
            line = getattr(t, name)
            values += line
            axes.plot(
                np.maximum(t.seconds, edge) if logarithmic else t.seconds,
                line,
                color=colors[t.method],
                marker=style.MARKERS[n % 7],
                markersize=5,
                markevery=max(1, len(line) // 12),
                linewidth=1.8,
                clip_on=False,
            )
        if retrained is not None:
            target = getattr(retrained, f"{name}_accuracy")
            values.append(target)
            look = {"color": style.INK, "linestyle": (0, (5, 3)), "linewidth": 1.5}
            axes.axhline(target, **look)
        axes.set_title(f"{name} accuracy", fontsize=12, color=style.INK)
        axes.set_ylabel("accuracy (%)", fontsize=style.TEXT_SIZE, color=style.INK)
        axes.set_xlabel("online time (s)", fontsize=style.TEXT_SIZE, color=style.INK)
        axes.set_ylim(*_percent_limits(values))
        _time_axis(axes, logarithmic, edge)
    names = [t.method for t in trajectories] + ["retrained model"] * (retrained is not None)
    style.outside(figure, panels[0], columns=min(len(names), 6), names=names)
    return figure


def _percent_limits(values: Sequence[float]) -> tuple[float, float]:
    """Limits around percentages, at least ten points apart, within 0..100 and a margin."""
    finite = [value for value in values if math.isfinite(value)] or [0.0, 100.0]
    low, high = min(finite), max(finite)
    missing = max(0.0, 10.0 - (high - low))
    high = min(100.0, high + missing / 2)
    low = max(0.0, min(low, high - 10.0))
    margin = 0.06 * max(high - low, 10.0)
    return low - margin, max(high, low + 10.0) + margin


def _time_axis(axes: Axes, logarithmic: bool, edge: float) -> None:
    if not logarithmic:
        axes.set_xlim(left=0)
        return
    axes.set_xscale("log")
    axes.set_xlim(left=edge)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_xlabel("online time (s), logarithmic", fontsize=style.TEXT_SIZE, color=style.INK)


def loss_histogram_figure(
    losses: Mapping[str, tuple[Num[np.ndarray, " forget"], Num[np.ndarray, " test"]]],
    mia: Mapping[str, float],
) -> Figure:
    """Losses of forgotten against test images under each model, in shares, on common bins.

    Where the two shapes lie on each other, an attacker who sees losses cannot tell forgotten from
    never seen. Losses below 1e-6 count in the first bin, infinite or undefined ones in the last.

    Args:
        losses: per model the losses of the forgotten and of the test images.
        mia: accuracy of the loss attack (%) per model; models may be missing.
    """
    if not losses:
        return style.message_figure("no losses were recorded")
    edges = _common_edges([array for pair in losses.values() for array in pair])
    columns = 2 if len(losses) == 4 else min(3, len(losses))
    rows = math.ceil(len(losses) / columns)
    size = (max(5.0, 3.5 * columns), 2.7 * rows + 0.6)
    figure, panels = style.panels(size, rows, columns, sharex=True, sharey=True)
    for n, (axes, (method, (forget, test))) in enumerate(zip(panels, losses.items(), strict=False)):
        axes.set_xscale("log")
        look = {"fill": True, "color": style.TEST, "alpha": 0.35, "label": "test images"}
        axes.stairs(_shares(test, edges), edges, **look)
        look = {"color": style.FORGET, "linewidth": 2.0, "label": "forgotten images"}
        axes.stairs(_shares(forget, edges), edges, **look)
        attack = mia.get(method)
        beside = f"  (MIA {attack:.1f} %)" if attack is not None else ""
        axes.set_title(f"{method}{beside}", fontsize=11, color=style.INK, parse_math=False)
        empty = [name for name, array in (("forgotten", forget), ("test", test)) if not len(array)]
        if empty:
            axes.text(
                0.5,
                0.94,
                f"no {' and no '.join(empty)} images",
                transform=axes.transAxes,
                ha="center",
                va="top",
                color=style.INK,
                fontsize=style.TEXT_SIZE,
                bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.85},
            )
        if n % columns == 0:
            axes.set_ylabel("share of images (%)", fontsize=style.TEXT_SIZE, color=style.INK)
        if n + columns >= len(losses):
            axes.set_xlabel("cross-entropy loss", fontsize=style.TEXT_SIZE, color=style.INK)
            axes.xaxis.set_tick_params(labelbottom=True)
    for axes in panels[len(losses) :]:
        axes.set_axis_off()
    style.outside(figure, panels[0], columns=2)
    return figure


def _common_edges(
    arrays: Sequence[Num[np.ndarray, " _"]], bins: int = 30
) -> Float[np.ndarray, " edges"]:
    """Edges of logarithmic bins that hold every finite loss."""
    together = np.concatenate([np.asarray(a, np.float64) for a in arrays])
    finite = together[np.isfinite(together)]
    low = max(float(finite.min(initial=1.0)), _LEAST_LOSS)
    high = max(float(finite.max(initial=1.0)), 10 * low)
    # A hair wider, so that rounding leaves neither the least nor the greatest loss outside.
    return np.geomspace(low * (1 - 1e-6), high * (1 + 1e-6), bins + 1)


def _shares(
    values: Num[np.ndarray, " n"], edges: Float[np.ndarray, " edges"]
) -> Float[np.ndarray, " bins"]:
    """Percent of ``values`` in each bin; those outside count in the first or the last."""
    inside = np.nan_to_num(np.asarray(values, np.float64), nan=np.inf, posinf=np.inf)
    counts, _ = np.histogram(np.clip(inside, edges[0], edges[-1]), edges)
    return 100.0 * counts / max(len(values), 1)

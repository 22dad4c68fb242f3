"""Many methods in one picture: closeness to retraining against its cost, and ranks."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from matplotlib.ticker import NullFormatter, ScalarFormatter
from matplotlib.transforms import Bbox, BboxBase

from dcmu_jax.reporting import style
from dcmu_jax.sweeps import AGAIN, mean_and_interval

TITLES = {
    "retrain": "R",
    "fast_retraining": "R (fast)",
    "catastrophic_forgetting": "CF",
    "distillation": "D",
    "bad_teaching": "BD",
    "sparsity": "S",
    "prune_and_unlearn": "P+U",
    "fisher_forgetting": "Fisher",
    "ntk_scrubbing": "NTK",
    "selective_synaptic_dampening": "SSD",
    "gradient_ascent": "GA",
    "negative_gradient": "NegGrad+",
    "random_labels": "RL",
    "scrub": "SCRUB",
    "saliency": "SalUn",
    "boundary_shrink": "BS",
    "influence": "IU",
    "eu_k": "EU-k",
    "cf_k": "CF-k",
    "paper": "MU (paper)",
    "condensed": "MU (condensed)",
    "recommended": "MU (recommended)",
}
"""Names of the literature, where a method has one."""
_OURS = ("paper", "condensed", "recommended")
_OTHERS = "#777777"


def title(method: str) -> str:
    """The name that a reader of the literature knows."""
    return TITLES.get(method, method)


@dataclasses.dataclass(frozen=True)
class Point:
    """A method in the plane of cost and closeness.

    Attributes:
        method: its name.
        time: online time over that of retraining.
        gap: to the retrained model, in points.
        half: half-width of the interval of ``gap``.
    """

    method: str
    time: float
    gap: float
    half: float = 0.0


def pareto_front(points: Sequence[Point]) -> list[Point]:
    """The points that no other one beats in both time and gap, by rising time."""
    front: list[Point] = []
    for point in sorted(points, key=lambda p: (p.time, p.gap)):
        if not front or point.gap < front[-1].gap:
            front.append(point)
    return front


def draw_pareto(axes: Axes, points: Sequence[Point], floor: float | None = None) -> None:
    """Gap against time, with the front as a grey line.

    Args:
        axes: where to draw.
        points: one for each method.
        floor: gap of a second retrained model, as a dotted line: no method can do better.
    """
    style.plain(axes)
    axes.set(xscale="log", xlabel="online time, retraining = 1", ylabel="gap (points)")
    axes.set_yscale("symlog", linthresh=5)
    if floor is not None:
        axes.axhline(floor, color=style.INK, linestyle=":", linewidth=1)
    front = pareto_front(points)
    axes.plot([p.time for p in front], [p.gap for p in front], color="#bbbbbb", zorder=1)
    names = []
    for number, p in enumerate(points):
        ours = p.method in _OURS
        color = style.method_colors([p.method])[p.method] if ours else _OTHERS
        marker = style.MARKERS[number % len(style.MARKERS)]
        axes.errorbar(p.time, p.gap, p.half, color=color, marker=marker, capsize=2, alpha=0.9)
        name = axes.annotate(
            title(p.method),
            (p.time, p.gap),
            xytext=_SIDES[0][0],
            textcoords="offset points",
            fontsize=9,
            color=color if ours else style.INK,
            weight="bold" if ours else "normal",
        )
        names.append(name)
    axes.yaxis.set_major_formatter(ScalarFormatter())
    axes.set_yticks([0, 1, 2, 5, 10, 20, 50])
    axes.set_ylim(0, max([60.0, *(p.gap + p.half for p in points)]))
    low, high = axes.get_xlim()
    low, high = 0.85 * low, 2 * high  # room for the marks, and for the names on the right
    axes.set_xlim(low, high)
    ticks = [digit * 10.0**power for power in range(-6, 4) for digit in (1, 2, 5)]
    ticks = [tick for tick in ticks if low <= tick <= high]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.xaxis.set_minor_formatter(NullFormatter())
    _keep_apart(axes, names, [(p.time, p.gap) for p in points])


_SIDES = tuple(
    ((across * x, up * y), "left" if across > 0 else "right", "bottom" if up > 0 else "top")
    for x, y in ((5, 4), (2, 14))
    for across, up in ((1, 1), (1, -1), (-1, 1), (-1, -1))
)
"""Where a name may stand beside its mark: offset in points and alignment, the best liked first."""


def _common_area(one: BboxBase, other: BboxBase) -> float:
    both = Bbox.intersection(one, other)
    return 0.0 if both is None else both.width * both.height


def _keep_apart(axes: Axes, names: Sequence[Annotation], marks: Sequence[Sequence[float]]) -> None:
    """Put each name where it covers least of other names and marks, from left to right, once.

    Names in a crowd too dense for all of ``_SIDES`` still overlap.
    """
    if not names:
        return
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()  # lays out, so that boxes are where they will be
    at = axes.transData.transform(np.asarray(marks))
    taken: list[BboxBase] = [Bbox.from_bounds(x - 4, y - 4, 8, 8) for x, y in at]

    def put(name: Annotation, side: tuple) -> BboxBase:
        name.set(position=side[0], ha=side[1], va=side[2])
        return name.get_window_extent()

    def hidden(box: BboxBase) -> float:
        outside = box.width * box.height - _common_area(box, axes.get_window_extent())
        return outside + sum(_common_area(box, other) for other in taken)

    for i in np.argsort(at[:, 0]):
        best = min(_SIDES, key=lambda side, name=names[i]: hidden(put(name, side)))
        taken.append(put(names[i], best))


def draw_ranks(axes: Axes, mean_ranks: Mapping[str, float], critical_difference: float) -> None:
    """Mean ranks as bars, the best on top; a dashed line where they differ from the best for sure.

    Args:
        axes: where to draw.
        mean_ranks: method -> mean rank, 1 is best.
        critical_difference: see ``metrics.ranks``.
    """
    style.plain(axes)
    order = sorted(mean_ranks, key=lambda method: mean_ranks[method])
    values = [mean_ranks[method] for method in order]
    colors = [style.method_colors([m])[m] if m in _OURS else _OTHERS for m in order]
    at = np.arange(len(order))
    axes.barh(at, values, color=colors)
    axes.set_yticks(at, [title(method) for method in order])
    axes.invert_yaxis()
    axes.axvline(values[0] + critical_difference, color=style.INK, linestyle="--", linewidth=1)
    axes.set_xlabel("mean rank; dashed: critical difference to the best")


def pareto_figure(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Gap against time over retraining's, one panel for each network and request.

    A point is a mean over seeds, bars are 95 % intervals; the line joins the methods that no other
    one beats in both, the dotted line is the gap of retraining by another seed.

    Args:
        rows: scored, of any cells; see ``sweeps.Sweep.rows``.
    """
    requests = list(dict.fromkeys(r["request"] for r in rows))
    networks = list(dict.fromkeys((r["dataset"], r["model"]) for r in rows))
    size = (6.4 * len(networks), 5.4 * len(requests))
    figure = Figure(figsize=size, layout=style.layout())
    places = figure.subplots(len(requests), len(networks), squeeze=False)
    for (i, request), (j, network) in itertools.product(enumerate(requests), enumerate(networks)):
        cell = [r for r in rows if (r["request"], r["dataset"], r["model"]) == (request, *network)]
        points, floor = [], None
        for method in dict.fromkeys(r["method"] for r in cell):
            alike = [r for r in cell if r["method"] == method]
            gaps = [r["gap"] for r in alike]
            if method in ("original", "retrain") or not np.isfinite(gaps).all():
                continue
            gap = mean_and_interval(gaps)
            if method == AGAIN:
                floor = gap["mean"]
                continue
            time = float(np.mean([r["time_over_retraining"] for r in alike]))
            points.append(Point(method, time, gap["mean"], gap.get("ci95", 0.0)))
        places[i][j].set_title(f"{network[0]}, {network[1]}: {request}", color=style.INK)
        draw_pareto(places[i][j], points, floor)
    return figure


def rank_figure(found: Mapping[str, Mapping[str, Any] | None]) -> Figure:
    """Mean ranks by gap with the critical difference, one panel for each kind of request.

    Args:
        found: kind -> mean ranks, critical difference, number of cells; None where there are none.
    """
    known = {kind: of for kind, of in found.items() if of}
    if not known:
        return style.message_figure("no ranks: fewer than two cells")
    count = max(len(of["mean_ranks"]) for of in known.values())
    figure = Figure(figsize=(5.6 * len(known), 1.4 + 0.28 * count), layout=style.layout())
    places = figure.subplots(1, len(known), squeeze=False)[0]
    for axes, (kind, of) in zip(places, known.items(), strict=True):
        draw_ranks(axes, of["mean_ranks"], of["critical_difference"])
        axes.set_title(f"{kind}, by gap, {of['cells']} cells", color=style.INK)
    return figure

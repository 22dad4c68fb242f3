"""Size of the reduced retain set: exact means and variances, simulations, and what was printed.

Command:   python -m experiments.reduction_theory
Data:      none
Hardware:  1 CPU core, 1 GB; under half a minute
Expected:  simulated means within 3 standard errors of the exact ones; at 10 % forgotten a reduction
           of 0.69 with the paper's 450 clusters per class and 0.45 with 1381, if sizes are equal

Writes experiments/results/reduction_theory.{json,png}. To vary it: other sizes of training set,
fractions, numbers of clusters, gamma shapes of unequal sizes, more draws.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from dcmu_jax.core.reduction import EQUATIONS, Setting, terms_41
from dcmu_jax.reporting import style
from dcmu_jax.theory import (
    best_clusters_per_class,
    cluster_counts_below,
    expected_reduction,
    expected_reduction_equal,
    largest_fraction,
    most_forgotten,
    reduced_size_variance,
    simulate_reduced_size,
    unequal_sizes,
)
from experiments.arguments import parse
from experiments.writing import write

RECORDED = (0.8063, 0.8476, 0.7306, 0.8316, 0.8408, 0.8711, 0.7133, 0.7380)
"""Recorded by the paper's authors: 450 clusters a class, 10 % forgotten; five of 45,000 images."""
PAPER_K = 450
COLORS = (style.TEST, style.FORGET, "#009E73", "#CC79A7")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """What is computed.

    Attributes:
        num_samples: of the training set.
        num_classes: of equal size.
        fractions: forgotten at random; one curve over the number of clusters each.
        clusters: per class; one curve over the fraction each.
        shapes: gamma shapes of unequal cluster sizes; the smaller, the more uneven.
        unequal_fraction: forgotten in the panels of unequal sizes and of the printed equation.
        draws: simulated forget sets per dot.
        seed: of sizes and draws.
    """

    num_samples: int = 50_000
    num_classes: int = 10
    fractions: tuple[float, ...] = (0.001, 0.01, 0.1, 0.5)
    clusters: tuple[int, ...] = (50, 450, 1381, 2500)
    shapes: tuple[float, ...] = (4.0, 1.0, 0.5)
    unequal_fraction: float = 0.1
    draws: int = 60
    seed: int = 0

    @property
    def per_class(self) -> int:
        """Samples of a class."""
        return self.num_samples // self.num_classes

    def forgotten(self, fraction: float) -> int:
        """Whole number of samples."""
        return max(1, round(self.num_samples * fraction))


def near_equal(s: Settings, clusters_per_class: int) -> np.ndarray:
    """Sizes that differ by one at most, as balanced clusters have them."""
    parts = np.array_split(np.arange(s.per_class), clusters_per_class)
    return np.tile([len(part) for part in parts], s.num_classes)


def if_equal(s: Settings, clusters_per_class: int, fraction: float) -> float:
    """Expected reduction with clusters of equal size."""
    clusters = s.num_classes * clusters_per_class
    return expected_reduction_equal(s.num_samples, clusters, s.forgotten(fraction))


def compare(sizes: np.ndarray, forgotten: int, s: Settings) -> dict[str, float]:
    """Exact and simulated mean and standard deviation of the reduction, for given sizes."""
    retained = int(sizes.sum()) - forgotten
    drawn = simulate_reduced_size(sizes, forgotten, s.draws, s.seed) / retained
    return {
        "exact_mean": expected_reduction(sizes, forgotten),
        "simulated_mean": float(drawn.mean()),
        "exact_sd": reduced_size_variance(sizes, forgotten) ** 0.5 / retained,
        "simulated_sd": float(drawn.std(ddof=1)),
    }


def whole(points: int, low: float, high: float) -> list[int]:
    """Whole numbers at equal ratios, each once."""
    return np.unique(np.round(np.geomspace(low, high, points)).astype(int)).tolist()


class Panel:
    """One panel, with the look that all share, and the comparisons with simulation in it."""

    def __init__(self, axes: Axes, s: Settings, heading: str, xlabel: str):
        self.axes, self.s, self.rows = axes, s, []
        style.plain(axes)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.set_title(heading, color=style.INK, fontsize=12, loc="left")
        axes.set_xlabel(xlabel, color=style.INK, fontsize=11)
        axes.set_ylabel("reduced retain set / retain set", color=style.INK, fontsize=11)
        axes.set_ylim(0, 1.05)

    def curve(self, x: Any, y: Any, label: str, color: str, line: str = "-") -> None:
        """An expectation."""
        self.axes.plot(x, y, line, color=color, linewidth=1.8, label=label)

    def dot(self, x: float, of: np.ndarray, color: str, **told: Any) -> None:
        """A simulation beside the exact value, at ``told['fraction']``."""
        row = compare(of, self.s.forgotten(told["fraction"]), self.s)
        self.rows.append(told | row)
        self.axes.plot(x, row["simulated_mean"], "o", color=color, markersize=4.5)

    def explain_dots(self) -> None:
        """What the dots are, for the legend."""
        self.axes.plot([], [], "o", color="#777777", markersize=4.5, label="simulated")


def over_clusters(axes: Axes, s: Settings) -> list[dict]:
    """One curve per fraction over the number of clusters, the best number marked."""
    title = "Equal clusters: a best number for every fraction"
    panel = Panel(axes, s, title, "clusters per class")
    counts = whole(200, 10, s.per_class)
    for color, fraction in zip(COLORS, s.fractions, strict=False):
        eta = [if_equal(s, k, fraction) for k in counts]
        panel.curve(counts, eta, f"{100 * fraction:g} % forgotten", color)
        best = best_clusters_per_class(s.per_class, fraction)
        look = {"color": color, "markersize": 9, "markeredgecolor": style.INK}
        axes.plot(best, if_equal(s, best, fraction), "v", **look)
        for k in whole(7, 20, s.per_class // 2):
            told = {"sizes": "equal", "clusters_per_class": k, "fraction": fraction}
            panel.dot(k, near_equal(s, k), color, **told)
    panel.explain_dots()
    axes.plot([], [], "v", color="#777777", markersize=8, markeredgecolor=style.INK, label="best")
    return panel.rows


def over_fractions(axes: Axes, s: Settings) -> list[dict]:
    """One curve per number of clusters over the fraction forgotten."""
    title = "Equal clusters: what a number of clusters is good for"
    panel = Panel(axes, s, title, "% forgotten at random")
    fractions = np.geomspace(2e-4, 0.8, 160)
    for color, k in zip(COLORS, s.clusters, strict=False):
        eta = [if_equal(s, k, f) for f in fractions]
        panel.curve(100 * fractions, eta, f"{k} clusters per class", color)
        for fraction in np.geomspace(5e-4, 0.6, 7).tolist():
            told = {"sizes": "equal", "clusters_per_class": k, "fraction": fraction}
            panel.dot(100 * fraction, near_equal(s, k), color, **told)
    best = [if_equal(s, best_clusters_per_class(s.per_class, f), f) for f in fractions]
    axes.plot(100 * fractions, best, "--", color=style.INK, linewidth=1.4, label="best number")
    panel.explain_dots()
    return panel.rows


def over_shapes(axes: Axes, s: Settings) -> list[dict]:
    """One curve per gamma shape over the number of clusters, and what was recorded."""
    fraction = s.unequal_fraction
    title = f"Unequal clusters, {100 * fraction:g} % forgotten"
    panel = Panel(axes, s, title, "clusters per class")
    for color, shape in zip(COLORS, (None, *s.shapes), strict=False):
        sizes = functools.partial(near_equal, s)
        if shape is not None:
            sizes = functools.partial(_unequal, s, shape)
        name = "equal" if shape is None else f"gamma, shape {shape:g}"
        counts = whole(60, 20, s.per_class - 1)
        eta = [expected_reduction(sizes(k), s.forgotten(fraction)) for k in counts]
        panel.curve(counts, eta, name, color)
        for k in sorted({*whole(7, 30, s.per_class // 2), PAPER_K}):
            panel.dot(k, sizes(k), color, sizes=name, clusters_per_class=k, fraction=fraction)
    look = {"color": style.INK, "markersize": 6, "label": "recorded by the authors"}
    axes.plot([PAPER_K] * len(RECORDED), RECORDED, "x", **look)
    panel.explain_dots()
    return panel.rows


def _unequal(s: Settings, shape: float, clusters_per_class: int) -> np.ndarray:
    return unequal_sizes(s.num_samples, s.num_classes * clusters_per_class, shape, s.seed)


def setting(s: Settings, clusters_per_class: int, fraction: float) -> Setting:
    """What the equations take."""
    return Setting(
        num_samples=s.num_samples,
        num_classes=s.num_classes,
        clusters_per_class=clusters_per_class,
        num_forgotten=s.forgotten(fraction),
    )


def over_printed(axes: Axes, s: Settings) -> None:
    """The printed equation (41) beside the exact mean."""
    fraction, counts = s.unequal_fraction, whole(120, 10, s.per_class - 1)
    title = f"Equation (41) as printed, {100 * fraction:g} % forgotten"
    panel = Panel(axes, s, title, "clusters per class")
    first, order = zip(*(terms_41(setting(s, k, fraction))[:2] for k in counts), strict=True)
    panel.curve(counts, [if_equal(s, k, fraction) for k in counts], "exact", COLORS[0])
    panel.curve(counts, order, "printed, order term", COLORS[1], "--")
    panel.curve(counts, first, "printed, first term", COLORS[2], "--")
    axes.axhline(1, color=style.INK, linewidth=1)
    axes.set_yscale("log")
    axes.set_ylim(1e-3, 60)


def draw(s: Settings) -> tuple[Figure, list[dict]]:
    """The figure, and the rows of every comparison with simulation in it."""
    figure = Figure(figsize=(13, 11), layout=style.layout())
    places = figure.subplots(2, 2)
    rows = over_clusters(places[0, 0], s) + over_fractions(places[0, 1], s)
    rows += over_shapes(places[1, 0], s)
    over_printed(places[1, 1], s)
    for axes in places.flat:
        # Below the panel: no corner is free of curves.
        look = {"fontsize": style.TEXT_SIZE, "frameon": False, "ncols": 3}
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), **look)
    return figure, rows


def table(s: Settings) -> list[dict]:
    """Printed and corrected values of every equation, at the sizes of the paper's study of K."""
    return [
        {
            "clusters_per_class": k,
            "fraction": fraction,
            "equation": e.number,
            "quantity": e.quantity,
            "printed": e.printed(setting(s, k, fraction)),
            "corrected": e.corrected(setting(s, k, fraction)),
        }
        for k, fraction in itertools.product((50, 500, 1000), (0.01, 0.1, 0.5))
        for e in EQUATIONS
    ]


def main() -> None:
    """Compute, draw, write."""
    s = parse(Settings, __doc__)
    figure, rows = draw(s)
    off = [
        abs(r["simulated_mean"] - r["exact_mean"]) / (r["exact_sd"] / s.draws**0.5) for r in rows
    ]
    fractions = (0.001, 0.01, 0.05, 0.1, 0.2, 0.5)
    best = {f: best_clusters_per_class(s.per_class, f) for f in fractions}
    sizes = near_equal(s, PAPER_K)
    figures = {
        "settings": dataclasses.asdict(s),
        "comparisons": len(rows),
        "standard_errors_apart_mean": float(np.mean(off)),
        "standard_errors_apart_most": float(np.max(off)),
        "best": [
            {"fraction": f, "clusters_per_class": k, "reduction": if_equal(s, k, f)}
            for f, k in best.items()
        ],
        "break_even": [
            {
                "cost_ratio": r,
                "most_forgotten_with_450": most_forgotten(sizes, r) / s.num_samples,
                "largest_fraction_any_clusters": largest_fraction(r),
                "clusters_below_at_10_percent": cluster_counts_below(
                    s.num_samples, s.forgotten(0.1), r
                ),
            }
            for r in (0.25, 0.5, 0.75, 0.9)
        ],
        "against_simulation": rows,
        "equations": table(s),
    }
    write("reduction_theory", figures, pictures={"reduction_theory": figure})
    print(f"{len(rows)} comparisons, {max(off):.1f} standard errors apart at most")


if __name__ == "__main__":
    main()

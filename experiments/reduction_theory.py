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
import itertools

import numpy as np
import tyro
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
    return np.tile(
        [len(part) for part in np.array_split(np.arange(s.per_class), clusters_per_class)],
        s.num_classes,
    )


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


def along(points: int, low: float, high: float) -> np.ndarray:
    """Values at equal ratios."""
    return np.geomspace(low, high, points)


def panel(axes: Axes, title: str, xlabel: str) -> None:
    """The look that all panels share."""
    style.plain(axes)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_title(title, color=style.INK, fontsize=12, loc="left")
    axes.set_xlabel(xlabel, color=style.INK, fontsize=11)
    axes.set_ylabel("reduced retain set / retain set", color=style.INK, fontsize=11)


def over_clusters(axes: Axes, s: Settings, rows: list[dict]) -> None:
    """One curve per fraction over the number of clusters, the best number marked."""
    panel(axes, "Equal clusters: a best number for every fraction", "clusters per class")
    counts = np.unique(np.round(along(200, 10, s.per_class)).astype(int))
    for n, fraction in enumerate(s.fractions):
        forgotten = s.forgotten(fraction)
        eta = [
            expected_reduction_equal(s.num_samples, s.num_classes * k, forgotten) for k in counts
        ]
        color = COLORS[n]
        axes.plot(counts, eta, color=color, linewidth=1.8, label=f"{100 * fraction:g} % forgotten")
        best = best_clusters_per_class(s.per_class, fraction)
        value = expected_reduction_equal(s.num_samples, s.num_classes * best, forgotten)
        axes.plot(best, value, "v", color=color, markersize=9, markeredgecolor=style.INK)
        for k in np.unique(np.round(along(7, 20, s.per_class // 2)).astype(int)).tolist():
            row = compare(near_equal(s, k), forgotten, s)
            rows.append({"sizes": "equal", "clusters_per_class": k, "fraction": fraction} | row)
            axes.plot(k, row["simulated_mean"], "o", color=color, markersize=4.5)
    axes.plot([], [], "o", color="#777777", markersize=4.5, label="simulated")
    axes.plot([], [], "v", color="#777777", markersize=8, markeredgecolor=style.INK, label="best")
    axes.set_ylim(0, 1.05)


def over_fractions(axes: Axes, s: Settings, rows: list[dict]) -> None:
    """One curve per number of clusters over the fraction forgotten."""
    panel(axes, "Equal clusters: what a number of clusters is good for", "% forgotten at random")
    fractions = along(160, 2e-4, 0.8)
    for n, k in enumerate(s.clusters):
        color = COLORS[n]
        eta = [
            expected_reduction_equal(s.num_samples, s.num_classes * k, s.forgotten(f))
            for f in fractions
        ]
        axes.plot(100 * fractions, eta, color=color, linewidth=1.8, label=f"{k} clusters per class")
        for fraction in along(7, 5e-4, 0.6).tolist():
            row = compare(near_equal(s, k), s.forgotten(fraction), s)
            rows.append({"sizes": "equal", "clusters_per_class": k, "fraction": fraction} | row)
            axes.plot(100 * fraction, row["simulated_mean"], "o", color=color, markersize=4.5)
    best = [
        expected_reduction_equal(
            s.num_samples,
            s.num_classes * best_clusters_per_class(s.per_class, f),
            s.forgotten(f),
        )
        for f in fractions
    ]
    axes.plot(100 * fractions, best, "--", color=style.INK, linewidth=1.4, label="best number")
    axes.plot([], [], "o", color="#777777", markersize=4.5, label="simulated")
    axes.set_ylim(0, 1.05)


def over_shapes(axes: Axes, s: Settings, rows: list[dict]) -> None:
    """One curve per gamma shape over the number of clusters, and what was recorded."""
    fraction = s.unequal_fraction
    forgotten = s.forgotten(fraction)
    panel(axes, f"Unequal clusters, {100 * fraction:g} % forgotten", "clusters per class")
    counts = np.unique(np.round(along(60, 20, s.per_class - 1)).astype(int)).tolist()
    dots = np.unique(np.round(along(7, 30, s.per_class // 2)).astype(int)).tolist()
    for n, shape in enumerate((None, *s.shapes)):
        color = COLORS[n]

        def sizes(k, shape=shape):
            if shape is None:
                return near_equal(s, k)
            return unequal_sizes(s.num_samples, s.num_classes * k, shape, s.seed)

        name = "equal" if shape is None else f"gamma, shape {shape:g}"
        eta = [expected_reduction(sizes(k), forgotten) for k in counts]
        axes.plot(counts, eta, color=color, linewidth=1.8, label=name)
        for k in sorted({*dots, PAPER_K}):
            row = compare(sizes(k), forgotten, s)
            rows.append({"sizes": name, "clusters_per_class": k, "fraction": fraction} | row)
            axes.plot(k, row["simulated_mean"], "o", color=color, markersize=4.5)
    axes.plot(
        [PAPER_K] * len(RECORDED), RECORDED, "x", color=style.INK, markersize=6,
        label="recorded by the authors",
    )  # fmt: skip
    axes.plot([], [], "o", color="#777777", markersize=4.5, label="simulated")
    axes.set_ylim(0, 1.05)


def over_printed(axes: Axes, s: Settings) -> None:
    """The printed equation (41) beside the exact mean."""
    fraction = s.unequal_fraction
    panel(axes, f"Equation (41) as printed, {100 * fraction:g} % forgotten", "clusters per class")
    counts = np.unique(np.round(along(120, 10, s.per_class - 1)).astype(int)).tolist()
    exact, first, order = [], [], []
    for k in counts:
        setting = Setting(
            num_samples=s.num_samples,
            num_classes=s.num_classes,
            clusters_per_class=k,
            num_forgotten=s.forgotten(fraction),
        )
        terms = terms_41(setting)
        first.append(terms[0])
        order.append(terms[1])
        exact.append(
            expected_reduction_equal(s.num_samples, setting.clusters, s.forgotten(fraction))
        )
    axes.plot(counts, exact, color=COLORS[0], linewidth=1.8, label="exact")
    for values, color, name in (
        (order, COLORS[1], "printed, order term"),
        (first, COLORS[2], "printed, first term"),
    ):
        axes.plot(counts, values, "--", color=color, linewidth=1.8, label=name)
    axes.axhline(1, color=style.INK, linewidth=1)
    axes.set_yscale("log")
    axes.set_ylim(1e-3, 60)


def draw(s: Settings) -> tuple[Figure, list[dict]]:
    """The figure, and the rows of every comparison with simulation in it."""
    rows: list[dict] = []
    figure = Figure(figsize=(13, 11), layout=style.layout())
    panels = figure.subplots(2, 2)
    over_clusters(panels[0, 0], s, rows)
    over_fractions(panels[0, 1], s, rows)
    over_shapes(panels[1, 0], s, rows)
    over_printed(panels[1, 1], s)
    for axes in panels.flat:
        # Below the panel: no corner is free of curves.
        axes.legend(
            fontsize=style.TEXT_SIZE, frameon=False, ncols=3, loc="upper center",
            bbox_to_anchor=(0.5, -0.14),
        )  # fmt: skip
    return figure, rows


def table(s: Settings) -> list[dict]:
    """Printed and corrected values of every equation, at the sizes of the paper's study of K."""
    rows = []
    for k, fraction in itertools.product((50, 500, 1000), (0.01, 0.1, 0.5)):
        setting = Setting(
            num_samples=s.num_samples,
            num_classes=s.num_classes,
            clusters_per_class=k,
            num_forgotten=s.forgotten(fraction),
        )
        rows += [
            {
                "clusters_per_class": k,
                "fraction": fraction,
                "equation": e.number,
                "quantity": e.quantity,
                "printed": e.printed(setting),
                "corrected": e.corrected(setting),
            }
            for e in EQUATIONS
        ]
    return rows


def main() -> None:
    """Compute, draw, write."""
    s = tyro.cli(Settings, description=__doc__)
    figure, rows = draw(s)
    off = [
        abs(r["simulated_mean"] - r["exact_mean"]) / (r["exact_sd"] / s.draws**0.5) for r in rows
    ]
    sizes = near_equal(s, PAPER_K)
    figures = {
        "settings": dataclasses.asdict(s),
        "comparisons": len(rows),
        "standard_errors_apart_mean": float(np.mean(off)),
        "standard_errors_apart_most": float(np.max(off)),
        "best": [
            {
                "fraction": f,
                "clusters_per_class": best_clusters_per_class(s.per_class, f),
                "reduction": expected_reduction_equal(
                    s.num_samples,
                    s.num_classes * best_clusters_per_class(s.per_class, f),
                    s.forgotten(f),
                ),
            }
            for f in (0.001, 0.01, 0.05, 0.1, 0.2, 0.5)
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

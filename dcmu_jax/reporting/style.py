"""How figures look: colours per method, sizes, and saving them."""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from dcmu_jax.files import FilePath, written_aside
from dcmu_jax.reporting.cells import ORIGINAL, RETRAINED

INK = "#222222"
"""Colour of text, axes and the retrained model."""
FORGET = "#D55E00"
"""Colour of the forgotten images."""
TEST = "#0072B2"
"""Colour of the test images."""
TEXT_SIZE = 10
"""Points of tick labels and legends; titles are larger."""
DOTS_PER_INCH = 150

# Okabe and Ito's colours, which colour-blind readers can tell apart, less black and pale yellow.
_PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C564B")
_FIXED = {
    ORIGINAL: "#888888",
    RETRAINED: INK,
    "recommended": _PALETTE[0],
    "paper": _PALETTE[1],
    "condensed": _PALETTE[3],
    "cf": _PALETTE[2],
}
MARKERS = "osD^vPX"
"""Markers of the lines of a figure, in turn: colour alone does not survive a black print."""


def method_colors(methods: Iterable[str]) -> dict[str, str]:
    """One colour per method, the same in every figure.

    The usual methods have colours of their own; any other takes one that depends on its name, or
    the next free one when that is taken (beyond seven methods colours repeat).
    """
    methods = list(dict.fromkeys(methods))
    colors = {name: _FIXED[name] for name in methods if name in _FIXED}
    for name in methods:
        if name in colors:
            continue
        start = zlib.crc32(name.encode()) % len(_PALETTE)
        turned = _PALETTE[start:] + _PALETTE[:start]
        free = [color for color in turned if color not in colors.values()]
        colors[name] = (free or turned)[0]
    return {name: colors[name] for name in methods}


def layout() -> ConstrainedLayoutEngine:
    """Panels spread so that no text is cut or covered."""
    return ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1)


def plain(axes: Axes) -> None:
    """Give ``axes`` the common look: no box, a light grid, legible ticks."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=TEXT_SIZE, colors=INK)
    axes.grid(True, color="#e3e3e3", linewidth=0.8)
    axes.set_axisbelow(True)


def panels(
    size: tuple[float, float], rows: int = 1, columns: int = 1, **options: Any
) -> tuple[Figure, np.ndarray]:
    """A figure and its panels with the common look, row by row.

    Args:
        size: width and height in inches.
        rows: of panels.
        columns: of panels.
        **options: of ``Figure.subplots``.
    """
    figure = Figure(figsize=size, layout=layout())
    found = np.ravel(figure.subplots(rows, columns, **options))
    for axes in found:
        plain(axes)
    return figure, found


def outside(
    figure: Figure,
    axes: Axes,
    place: Literal["outside lower center", "outside right upper"] = "outside lower center",
    columns: int = 1,
    names: Sequence[str] = (),
) -> None:
    """One legend of what is drawn in ``axes``, outside all panels; names are shown as they are.

    Args:
        figure: of them.
        axes: whose lines have labels.
        place: where.
        columns: of the legend.
        names: of its lines, in place of labels, of which matplotlib hides those that begin with _.
    """
    handles, labels = (axes.lines, names) if names else axes.get_legend_handles_labels()
    legend = figure.legend(
        handles,
        labels,
        loc=place,
        ncols=columns,
        fontsize=TEXT_SIZE,
        frameon=False,
    )
    for text in legend.get_texts():
        text.set_parse_math(False)


def inches_wide(text: str) -> float:
    """Width of ``text`` at the common size, in inches."""
    figure = Figure()
    drawn = figure.text(0, 0, text, fontsize=TEXT_SIZE, parse_math=False)
    return drawn.get_window_extent().width / figure.dpi


def message_figure(text: str) -> Figure:
    """A small figure that says why there is nothing to see."""
    figure = Figure(figsize=(6.0, 1.2))
    figure.text(0.5, 0.5, text, ha="center", va="center", color=INK, fontsize=12, parse_math=False)
    return figure


def png_bytes(figure: Figure) -> bytes:
    """The figure as a PNG image on white."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DOTS_PER_INCH, facecolor="white")
    return buffer.getvalue()


def save_figure(figure: Figure, path: FilePath) -> None:
    """Write ``figure`` as a PNG file; written aside, then renamed."""
    with written_aside(path) as aside:
        aside.write_bytes(png_bytes(figure))

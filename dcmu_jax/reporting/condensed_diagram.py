"""Figure 11 of the paper as a diagram: the stages of a condensed model, and what trains in each."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from dcmu_jax.applications.condensed_model_settings import Construction
from dcmu_jax.networks.partition import PARTS
from dcmu_jax.reporting import style

_TARGETS = "target: CNN,\nVGG16, ResNet18"
_FROZEN, _TRAINS, _DATA = "#e3e3e3", "#cfe3f2", "#fbe3cf"


def _box(axes: Axes, at: tuple[float, float], text: str, color: str, size=(1.7, 0.64)) -> None:
    (x, y), (width, height) = at, size
    shape = FancyBboxPatch(
        (x - width / 2, y - height / 2),
        width,
        height,
        boxstyle="round,pad=0.02,rounding_size=0.08",
        facecolor=color,
        edgecolor=style.INK,
    )
    axes.add_patch(shape)
    axes.text(x, y, text, ha="center", va="center", fontsize=style.TEXT_SIZE, color=style.INK)


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    look = {"arrowstyle": "-|>", "color": style.INK, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", xy=end, xytext=start, arrowprops=look)


def _stages(
    construction: Construction, target: str
) -> list[tuple[str, str, tuple[str, ...], tuple[bool, ...]]]:
    """What happens when, the images it trains on, the three parts, and which of them train."""
    rounds = construction.offline.rounds > 0  # without any, the small final is not trained offline
    online = construction.online
    trained = {p for step in (*online.round_steps, *online.closing_steps) for p in step.parts}
    parts = ("encoder", "decoder", "small classifier")
    offline = "all training images:\nencoder and decoder" + ";\nremembrance: final" * rounds
    reduced = "reduced retain set:\nsurvivors of touched\nclusters, condensed images"
    few = "remembrance samples:\na few test images,\nnone of a forgotten class"
    attached = (*parts[:2], f"target:\n{target}" if target else _TARGETS)
    return [
        ("offline\nno request is known", offline, parts, (True, True, rounds)),
        ("online\na request comes", reduced, parts, tuple(part in trained for part in PARTS)),
        ("attach\nfinal is replaced", few, attached, (False, False, True)),
    ]


def diagram(construction: Construction, target: str = "") -> Figure:
    """Figure 11: the three stages of a construction, what trains in each, and on what.

    Args:
        construction: how the condensed model is made.
        target: name of the network that replaces ``final``; examples of some if empty.
    """
    figure = Figure(figsize=(12, 5.6), layout=style.layout())
    axes = figure.subplots()
    axes.set_axis_off()
    for number, (name, data, parts, trains) in enumerate(_stages(construction, target)):
        y = 2.6 - 1.3 * number
        axes.text(0.0, y, name, ha="center", va="center", fontsize=12, color=style.INK)
        _box(axes, (2.2, y), data, _DATA, (2.4, 0.84))
        for place, (part, free) in enumerate(zip(parts, trains, strict=True)):
            x = 4.8 + 2.3 * place
            _box(axes, (x, y), part, _TRAINS if free else _FROZEN)
            _arrow(axes, (3.44 if place == 0 else x - 1.43, y), (x - 0.88, y))
        _arrow(axes, (10.27, y), (10.7, y))
        axes.text(10.8, y, "logits", va="center", fontsize=style.TEXT_SIZE)
    for place, title in enumerate(("beginning", "intermediate", "final")):
        axes.text(4.8 + 2.3 * place, 3.25, title, ha="center", fontsize=12, color=style.INK)
    for x, y in ((4.8, 2.6), (4.8, 1.3), (7.1, 2.6), (7.1, 1.3)):
        _arrow(axes, (x, y - 0.36), (x, y - 0.94))
    _arrow(axes, (9.4, 2.24), (9.4, 1.66))
    axes.text(9.6, 0.65, "thrown away", fontsize=style.TEXT_SIZE, va="center")
    axes.plot([9.4], [0.65], marker="x", color=style.FORGET, markersize=10, markeredgewidth=2)
    key = ((4.8, _TRAINS, "trains"), (6.4, _FROZEN, "frozen"), (8.0, _DATA, "images trained on"))
    for x, color, text in key:
        axes.plot([x - 0.5], [-0.75], marker="s", markersize=12, color=color, markeredgecolor="k")
        axes.text(x - 0.3, -0.75, text, va="center", fontsize=style.TEXT_SIZE)
    axes.set(xlim=(-1.0, 11.5), ylim=(-1.0, 3.6))
    return figure

"""Pictures of many methods: who is on the front, and that every method is there."""

import itertools

from matplotlib.figure import Figure

from dcmu_jax.baselines.registry import METHODS
from dcmu_jax.reporting.pareto import Point, draw_pareto, draw_ranks, pareto_front, title

POINTS = [
    Point("catastrophic_forgetting", 1.0, 12.0, 1.0),
    Point("recommended", 0.3, 2.0),
    Point("paper", 0.5, 8.0),
    Point("gradient_ascent", 0.05, 20.0),
    Point("eu_k", 0.3, 3.0),
]


def test_the_front_is_what_no_other_beats_in_both():
    assert [p.method for p in pareto_front(POINTS)] == ["gradient_ascent", "recommended"]
    assert pareto_front([]) == []


def test_every_method_is_drawn_with_its_name():
    axes = Figure().subplots()
    draw_pareto(axes, POINTS, floor=1.5)
    shown = {text.get_text() for text in axes.texts}
    assert shown == {"CF", "MU (recommended)", "MU (paper)", "GA", "EU-k"}
    assert axes.get_ylim()[1] >= 20


def test_names_of_neighbours_stand_apart_and_inside():
    axes = Figure(figsize=(6, 5)).subplots()
    crowd = [Point(m, 0.30 + 0.01 * i, 3.0) for i, m in enumerate(["cf_k", "eu_k", "scrub"])]
    draw_pareto(axes, [*crowd, Point("recommended", 2.0, 59.0)])
    boxes = [text.get_window_extent() for text in axes.texts]
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
    assert all(axes.bbox.containsx(box.x1) and axes.bbox.containsy(box.y1) for box in boxes)


def test_ranks_are_bars_with_the_best_on_top():
    axes = Figure().subplots()
    draw_ranks(axes, {"scrub": 3.0, "paper": 1.0, "saliency": 2.0}, 1.2)
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == ["MU (paper)", "SalUn", "SCRUB"]
    assert axes.yaxis_inverted()
    dashed = [line for line in axes.lines if line.get_linestyle() == "--"]
    assert dashed[0].get_xdata()[0] == 1.0 + 1.2


def test_every_method_has_a_title():
    assert all(title(name) != name for name in METHODS if name != "modular")
    assert title("something of mine") == "something of mine"

import dataclasses

import matplotlib.image
import numpy as np
import pytest

from dcmu_jax.errors import InputError
from dcmu_jax.metrics.measurement import Trajectory
from dcmu_jax.reporting import (
    cluster_figure,
    loss_histogram_figure,
    method_colors,
    save_figure,
    trajectory_figure,
)


def drawn(figure):
    """Titles, labels and notes of a figure, ticks apart."""
    found = figure.texts + [text for legend in figure.legends for text in legend.get_texts()]
    for axes in figure.axes:
        found += [*axes.texts, axes.title, axes.xaxis.label, axes.yaxis.label]
    return [text for text in found if text.get_text()]


def texts(figure):
    return [text.get_text() for text in drawn(figure)]


def saved(figure, tmp_path):
    path = tmp_path / "deep" / "figure.png"
    save_figure(figure, path)
    assert list(path.parent.iterdir()) == [path]
    figure.draw_without_rendering()  # at its own resolution, not that of the file
    for text in drawn(figure):
        box, page = text.get_window_extent(), figure.bbox
        assert page.x0 <= box.x0 and box.x1 <= page.x1, text.get_text()
        assert page.y0 <= box.y0 and box.y1 <= page.y1, text.get_text()
    image = matplotlib.image.imread(path)
    assert image[..., :3].min() < 0.5 < image[..., :3].max()
    return image


def images(n, shape=(8, 8, 1), value=200):
    return np.full((n, *shape), value, np.uint8)


@pytest.mark.parametrize("shape", [(8, 8, 1), (32, 32, 3), (28, 20, 1)])
def test_clusters_of_any_size_and_colour(shape, tmp_path):
    members = [images(12, shape), images(0, shape), images(1, shape), images(8, shape)]
    condensed = np.full((4, *shape), 300.0, np.float32)
    condensed[1] = -20.0
    condensed[2] = np.nan
    figure = cluster_figure(members, condensed, [r"a $\no$ formula", "gone", "x" * 60, "d"])
    saved(figure, tmp_path)
    shown = texts(figure)
    assert "+4 more" in shown and "no members" in shown and r"a $\no$ formula" in shown
    assert sum("more" in text for text in shown) == 1
    canvas = figure.axes[0].images[0].get_array()
    height, width, _ = shape
    space = width // 8
    for row, pixel in enumerate((255, 0, 0, 255)):  # clipped, never wrapped around
        top = row * (height + space)
        assert np.all(canvas[top : top + height, -width:] == pixel)
    assert np.all(canvas[:height, :width] == 200)
    assert np.all(canvas[:height, 7 * (width + space) :][:, :width] == 200)


def test_texts_of_a_cluster_figure_do_not_overlap(tmp_path):
    members = [images(5000), images(3)]
    condensed = np.zeros((2, 8, 8, 1), np.float32)
    for figure in (
        cluster_figure(members, condensed, ["W" * 40, "a class of some name\n12 images"]),
        cluster_figure(members[1:], condensed[1:], ["one"]),
        cluster_figure([images(1)], condensed[:1], ["one"]),
    ):
        saved(figure, tmp_path)
        boxes = [t.get_window_extent() for t in figure.axes[0].texts]
        for n, box in enumerate(boxes):
            assert not any(box.overlaps(other) for other in boxes[:n])


def test_clusters_that_do_not_match_are_refused():
    grey = np.zeros((1, 8, 8, 1), np.float32)
    with pytest.raises(InputError, match="2 clusters, 1 condensed"):
        cluster_figure([images(1), images(1)], grey, ["a"])
    with pytest.raises(InputError, match="2 channels"):
        cluster_figure([images(1, (8, 8, 2))], np.zeros((1, 8, 8, 2), np.float32), ["a"])
    assert "no clusters to show" in texts(cluster_figure([], grey[:0], []))


def trajectory(method, end, points=5, forget=20.0):
    seconds = tuple(float(s) for s in np.linspace(0, end, points))
    line = tuple(float(v) for v in np.linspace(99, forget, points))
    return Trajectory(
        method=method, seconds=seconds, retain=(98.0,) * points, forget=line, test=(90.0,) * points
    )


def test_trajectories_with_the_retrained_model_as_target(retrained, tmp_path):
    figure = trajectory_figure([trajectory("cf", 2.0), trajectory(r"_a$\no$", 1.0)], retrained)
    saved(figure, tmp_path)
    assert [axes.get_title() for axes in figure.axes] == [
        "retain accuracy",
        "forget accuracy",
        "test accuracy",
    ]
    for axes, target in zip(figure.axes, (98.5, 1.0, 88.0), strict=True):
        assert "s" in axes.get_xlabel() and "%" in axes.get_ylabel()
        assert axes.get_xscale() == "linear"
        dashed = axes.lines[-1]
        assert set(dashed.get_ydata()) == {target} and dashed.is_dashed()
        low, high = axes.get_ylim()
        assert all(low < y < high for line in axes.lines for y in line.get_ydata())
    assert {"cf", r"_a$\no$", "retrained model"} <= set(texts(figure))


def test_time_is_logarithmic_when_durations_differ_much(tmp_path):
    figure = trajectory_figure([trajectory("a", 0.1), trajectory("b", 30.0)], None)
    saved(figure, tmp_path)
    assert all(axes.get_xscale() == "log" for axes in figure.axes)
    assert all(len(axes.lines) == 2 for axes in figure.axes)
    # The start, at 0 s, is still on the page.
    assert figure.axes[0].lines[0].get_xdata()[0] == figure.axes[0].get_xlim()[0] > 0


@pytest.mark.parametrize("count", [0, 1, 9])
def test_any_number_of_trajectories(count, tmp_path):
    saved(trajectory_figure([trajectory(f"m{n}", 1.0) for n in range(count)], None), tmp_path)


def test_trajectories_of_a_single_point_or_of_nan(retrained, tmp_path):
    broken = dataclasses.replace(trajectory("b", 1.0), retain=(float("nan"),) * 5)
    saved(trajectory_figure([trajectory("a", 0.0, points=1)], None), tmp_path)
    saved(trajectory_figure([broken], retrained), tmp_path)


def test_loss_histograms_show_shares_on_common_bins(tmp_path):
    rng = np.random.default_rng(0)
    losses = {
        "original": (np.zeros(7), rng.exponential(size=50)),
        r"$\no$_": (rng.exponential(size=7).astype(np.float32), rng.exponential(size=50)),
        "diverged": (np.array([np.nan, np.inf, 1.0]), np.full(4, 1e30)),
        "empty": (np.zeros(0), np.ones(3)),
    }
    figure = loss_histogram_figure(losses, {"original": 71.25})
    saved(figure, tmp_path)
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == ["original  (MIA 71.2 %)", r"$\no$_", "diverged", "empty"]
    edges = None
    for axes, name in zip(figure.axes, losses, strict=True):
        for patch, values in zip(axes.patches[:2], reversed(losses[name]), strict=True):
            data = patch.get_data()
            assert data.values.sum() == pytest.approx(100.0 if len(values) else 0.0)
            edges = data.edges if edges is None else edges
            np.testing.assert_array_equal(data.edges, edges)
    zeros = figure.axes[0].patches[1].get_data().values
    assert zeros[0] == pytest.approx(100.0)
    diverged = figure.axes[2].patches[1].get_data().values
    assert diverged[-1] == pytest.approx(200.0 / 3.0)
    assert "no forgotten images" in texts(figure)


@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_loss_histograms_of_any_number_of_models(count, tmp_path):
    losses = {f"m{n}": (np.full(3, 0.5), np.full(3, 0.5)) for n in range(count)}
    saved(loss_histogram_figure(losses, {}), tmp_path)


def test_a_method_keeps_its_colour():
    names = ["original", "retrain", "recommended", "paper", "cf", "scrub", "salun"]
    colors = method_colors(names)
    assert len(set(colors.values())) == len(names)
    assert method_colors(["cf"])["cf"] == method_colors(["zzz", "paper", "cf"])["cf"]
    assert method_colors(["scrub"])["scrub"] == method_colors(["original", "scrub"])["scrub"]
    assert len(method_colors(f"m{n}" for n in range(20))) == 20

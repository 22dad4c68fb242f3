"""The figures of the experiments, each from the rows or numbers that its result file has."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, ScalarFormatter

from dcmu_jax.audits.roc import roc_curve
from dcmu_jax.reporting import style
from dcmu_jax.reporting.pareto import title
from dcmu_jax.runs.presets import PRESETS
from dcmu_jax.sweeps import means

Rows = Sequence[Mapping[str, Any]]


def distinct(rows: Rows, *columns: str) -> list[Any]:
    """What stands in one column, or in several together, each once, in the order of the rows."""
    first = columns[0]
    return list(
        dict.fromkeys(r[first] if len(columns) == 1 else tuple(r[c] for c in columns) for r in rows)
    )


def _panels(width: float, height: float, lines: int, columns: int, **shared: Any) -> tuple:
    """A figure and its axes ``(lines, columns)``, with the common look."""
    figure = Figure(figsize=(width, height), layout=style.layout())
    places = figure.subplots(lines, columns, squeeze=False, **shared)
    for axes in places.flat:
        style.plain(axes)
    return figure, places


def _looks(names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Colour and marker of each."""
    return {
        name: {"color": color, "marker": style.MARKERS[number % len(style.MARKERS)]}
        for number, (name, color) in enumerate(style.method_colors(names).items())
    }


def _line(
    axes: Axes, rows: Rows, x: str, y: str, shift: float = 0.0, capsize: float = 2, **look: Any
) -> None:
    """Means of one column, with 95 % intervals, over the values of another."""
    found = means(rows, [x], [y])
    at = sorted(found)
    entries = [found[value][y] for value in at]
    halves = [entry.get("ci95", 0.0) for entry in entries]
    places = np.asarray(at) + shift
    axes.errorbar(places, [e["mean"] for e in entries], halves, capsize=capsize, **look)


def _numbers_as_they_are(axes: Axes, ticks: Iterable[float]) -> None:
    """Ticks of a logarithmic axis at the values that were tried."""
    axes.set_xticks(sorted(ticks))
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_formatter(NullFormatter())


def _legend(figure: Figure, places: Iterable[Axes], columns: int, **look: Any) -> None:
    """One legend below all panels; each label once."""
    handles: dict[str, Any] = {}
    for axes in places:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    place = {"loc": "outside lower center", "ncols": columns, "frameon": False}
    figure.legend(handles.values(), handles.keys(), **place, **look)


def tiled(images: np.ndarray, per_class: int, shown: int, gap: int = 0) -> np.ndarray:
    """Pixels, uint8: a row of some images of each class, ``gap`` white pixels apart."""
    pixels = np.clip(np.rint(images), 0, 255).astype(np.uint8)
    pixels = pixels.reshape(-1, per_class, *pixels.shape[1:])[:, :shown]
    beside = ((0, 0), (0, 0), (0, gap), (0, gap), (0, 0))
    pixels = np.pad(pixels, beside, constant_values=255)
    classes, columns, height, width, channels = pixels.shape
    return pixels.transpose(0, 2, 1, 3, 4).reshape(classes * height, columns * width, channels)


def over_time(
    rows: Rows,
    x: str,
    shown: Mapping[str, str],
    *,
    width: float,
    height: float,
    from_zero: Sequence[str] = (),
    labels: Callable[[str], str] = title,
    apart: float = 0.0,
    columns: int = 4,
) -> Figure:
    """Methods over batches or cycles: means and intervals over seeds, a panel for each column.

    Args:
        rows: with the columns ``method``, ``x`` and those shown.
        x: column of the horizontal axis.
        shown: column -> its axis.
        width: of the figure.
        height: of the figure.
        from_zero: columns whose axes begin at 0.
        labels: name of a method -> what the legend calls it.
        apart: distance of the methods' marks.
        columns: of the legend.
    """
    figure, places = _panels(width, height, 1, len(shown))
    looks = _looks(distinct(rows, "method"))
    for axes, (field, label) in zip(places[0], shown.items(), strict=True):
        for number, (method, look) in enumerate(looks.items()):
            own = [r for r in rows if r["method"] == method]
            shift = apart * (number - 1)
            _line(axes, own, x, field, shift, label=labels(method), **look)
        axes.set(xlabel=x, ylabel=label)
        if apart:
            axes.set_xticks(sorted({r[x] for r in rows}))
        if field in from_zero:
            axes.set_ylim(bottom=0)
    _legend(figure, [places[0, 0]], columns)
    return figure


def ablation(rows: Rows) -> Figure:
    """Gap of every row as bars, operations beside it, a panel for each request."""
    requests = distinct(rows, "request")
    count = max(len(distinct([r for r in rows if r["request"] == q], "method")) for q in requests)
    figure, places = _panels(7.5 * len(requests), 1.2 + 0.3 * count, 1, len(requests))
    for axes, request in zip(places[0], requests, strict=True):
        cell = [r for r in rows if r["request"] == request and r["method"] != "retrain"]
        found = means(cell, ["method"], ["gap", "flops_over_retraining"])
        for at, (name, entry) in enumerate(found.items()):
            gaps = [r["gap"] for r in cell if r["method"] == name]
            gap, cost = entry["gap"]["mean"], entry["flops_over_retraining"]["mean"]
            color = style.method_colors([name])[name] if name in PRESETS else "#999999"
            axes.barh(at, gap, color=color)
            for value in gaps:
                axes.plot(value, at, ".", color=style.INK, markersize=4)
            axes.annotate(f"  {gap:.1f}   ({cost:.2g}x)", (max(gaps), at), va="center")
        axes.set_yticks(range(len(found)), list(found))
        axes.invert_yaxis()
        axes.set_xlim(0, 1.45 * max(r["gap"] for r in cell))
        axes.set_xlabel("gap to the retrained network (operations over retraining's)")
        axes.set_title(request, color=style.INK)
    return figure


def clusters(rows: Rows) -> Figure:
    """Gap, accuracies and reduction over the number of clusters, a column for each request."""
    shown = {
        "gap": "gap (points)",
        "forget_accuracy": "forget accuracy (%)",
        "retain_accuracy": "retain accuracy (%)",
        "reduction": "reduction",
    }
    requests, condensers = distinct(rows, "request"), distinct(rows, "condenser")
    lines, columns = len(shown), len(requests)
    figure, places = _panels(3.6 * columns, 2.6 * lines, lines, columns, sharex=True)
    cells = itertools.product(enumerate(requests), enumerate(shown.items()))
    for (column, request), (line, (field, label)) in cells:
        axes = places[line, column]
        cell = [r for r in rows if r["request"] == request]
        tried = [r for r in cell if r["condenser"] != "-"]
        axes.set_xscale("log")
        if not line:
            axes.set_title(request, color=style.INK)
        if not column:
            axes.set_ylabel(label)
        for number, condenser in enumerate(condensers):
            if condenser != "-":
                look = {"color": (style.FORGET, style.TEST)[number % 2]}
                own = [r for r in tried if r["condenser"] == condenser]
                marker = style.MARKERS[number]
                _line(axes, own, "per_class", field, label=condenser, marker=marker, **look)
        if field == "reduction":
            expected = {r["per_class"]: r["expected_reduction"] for r in reversed(tried)}
            ks = sorted(expected)
            equal = [expected[k] for k in ks]
            axes.plot(ks, equal, color=style.INK, linestyle=":", label="equal clusters")
            axes.set_xlabel("clusters per class")
            axes.set_ylim(0, 1.05)
        elif field != "gap":
            retrained = np.mean([r[field] for r in cell if r["method"] == "retrain"])
            axes.axhline(retrained, color=style.INK, linewidth=1, label="retrained")
        _numbers_as_they_are(axes, {r["per_class"] for r in tried})
    _legend(figure, places.flat, 4)
    return figure


def condensers(
    rows: Rows, published: Mapping[str, Mapping[int, float]], seconds: bool = False
) -> Figure:
    """Test accuracy against images per class, or against seconds, a panel for each model.

    Args:
        rows: of experiments.condensation.
        published: method -> images per class -> accuracy of ConvNet, shown as a dash.
        seconds: of condensation, as the horizontal axis; a line joins the numbers of images.
    """
    models, looks = distinct(rows, "model"), _looks(distinct(rows, "method"))
    figure, places = _panels(5.2 * len(models), 4.6, 1, len(models))
    for axes, model in zip(places[0], models, strict=True):
        axes.set_xscale("log")
        axes.set_title(model, color=style.INK)
        axes.set_ylabel("test accuracy (%)")
        by_model = [r for r in rows if r["model"] == model]
        for method in distinct(by_model, "method"):
            own = [r for r in by_model if r["method"] == method]
            found = means(own, ["images_per_class"], ["test_accuracy", "condense_s"])
            counts, look = sorted(found), looks[method]
            if seconds:
                x = [max(found[count]["condense_s"]["mean"], 1e-3) for count in counts]
                y = [found[count]["test_accuracy"]["mean"] for count in counts]
                axes.plot(x, y, label=method, **look)
                continue
            _line(axes, own, "images_per_class", "test_accuracy", 0, 3, label=method, **look)
            if model == "convnet":
                known = {c: published[method][c] for c in counts if c in published.get(method, {})}
                dash = {"marker": "_", "s": 150, "color": look["color"]}
                axes.scatter(list(known), list(known.values()), **dash)
        axes.set_xlabel("seconds of condensation" if seconds else "images per class")
        if not seconds:
            _numbers_as_they_are(axes, {r["images_per_class"] for r in rows})
    _legend(figure, [places[0, 0]], 5, fontsize=9)
    return figure


def condensed_images(pictures: Mapping[str, np.ndarray], heading: str) -> Figure:
    """Condensed images, one panel for each method; a row of a panel is a class."""
    if not pictures:
        return style.message_figure("no condensed images to show")
    columns = min(4, len(pictures))
    lines = -(-len(pictures) // columns)
    figure = Figure(figsize=(2.6 * columns, 4.3 * lines), layout=style.layout())
    for i, (method, picture) in enumerate(pictures.items()):
        axes = figure.add_subplot(lines, columns, 1 + i)
        axes.imshow(np.repeat(picture, 3, axis=2) if picture.shape[2] == 1 else picture)
        axes.set_title(method, color=style.INK)
        axes.set_axis_off()
    figure.suptitle(heading, color=style.INK)
    return figure


def metrics_over_epochs(rows: Rows, metrics: Mapping[str, str]) -> Figure:
    """Figure 2: metrics over epochs, mean and range over seeds, and the attack beside each."""
    looks = _looks(distinct(rows, "method"))
    figure, places = _panels(11, 6.4, 2, 3)
    for (above, below), (metric, name) in zip(places.T, metrics.items(), strict=True):
        for method, look in looks.items():
            own = [row for row in rows if row["method"] == method]
            epochs = sorted({row["epoch"] for row in own})
            found = [[r[metric] for r in own if r["epoch"] == e] for e in epochs]
            above.plot(epochs, [np.mean(x) for x in found], label=title(method), **look)
            ends = [min(x) for x in found], [max(x) for x in found]
            above.fill_between(epochs, *ends, color=look["color"], alpha=0.15, linewidth=0)
            below.plot([r[metric] for r in own], [r["mia"] for r in own], linestyle="", **look)
        above.set(xlabel="epoch", ylabel=name)
        below.set(xlabel=name, ylabel="MIA (%)")
    places[0, 0].legend(fontsize=style.TEXT_SIZE, frameon=False)
    return figure


def gradients_of_layers(norms: Mapping[str, Mapping[str, Mapping[str, float]]]) -> Figure:
    """Figure 5: norm by layer, a line for each network; retain set left, forget set right."""
    figure, places = _panels(11, 4.6, 1, 2, sharey=True)
    looks = _looks(norms)
    for axes, which in zip(places[0], ("retain", "forget"), strict=True):
        for name, by_set in norms.items():
            values = by_set[which]
            axes.plot(list(values), list(values.values()), label=title(name), **looks[name])
        axes.set(yscale="log", title=f"gradient of the loss on the {which} set")
        axes.tick_params("x", rotation=90)
    handles = places[0, 1].get_legend_handles_labels()
    figure.legend(*handles, loc="outside right upper", fontsize=style.TEXT_SIZE, frameon=False)
    return figure


def gradients_of_batches(norms: Mapping[str, np.ndarray]) -> Figure:
    """Figure 6: histograms on one logarithmic axis, a row for each network."""
    everything = np.concatenate(list(norms.values()))
    bins = np.geomspace(max(everything.min(), 1e-8), everything.max(), 40).tolist()
    figure, places = _panels(6.5, 1.5 * len(norms) + 0.8, len(norms), 1, sharex=True)
    for axes, (name, values) in zip(places[:, 0], norms.items(), strict=True):
        axes.hist(values, bins=bins, color=style.method_colors(norms)[name])
        axes.set(xscale="log", ylabel=title(name))
    label = "norm of the intermediate part's gradient, one value for each batch"
    places[-1, 0].set_xlabel(label)
    return figure


def inverted(pictures: Mapping[str, np.ndarray], per_class: int, shown: int) -> Figure:
    """Images by inversion: a panel for each way, a row of it is a class."""
    figure = Figure(figsize=(3.2 * len(pictures), 8))
    for axes, (name, images) in zip(
        figure.subplots(1, len(pictures)), pictures.items(), strict=True
    ):
        axes.imshow(tiled(images, per_class, shown).squeeze(), cmap="gray")
        axes.set_title(name, fontsize="medium")
        axes.set_axis_off()
    figure.tight_layout()
    return figure


def drawn_and_nearest(pairs: Mapping[str, np.ndarray]) -> Figure:
    """What each attack draws, the nearest training images beneath: ``(2, images, H, W, C)``."""
    figure = Figure(figsize=(9, 1.9 * len(pairs)), layout=style.layout())
    for axes, (name, pair) in zip(figure.subplots(len(pairs)), pairs.items(), strict=True):
        count, height = pair.shape[1:3]
        flat = pair.reshape(2 * count, *pair.shape[2:])
        axes.imshow(tiled(flat, count, count).squeeze(), cmap="gray")
        axes.set_title(name, fontsize=style.TEXT_SIZE)
        axes.set_yticks([height // 2, height + height // 2], ["drawn", "nearest"])
        axes.set_xticks([])
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0, labelsize=style.TEXT_SIZE)
    return figure


def matching_curves(curves: Mapping[str, Rows]) -> Figure:
    """Objective that is left over processor seconds, a line for each solver."""
    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.subplots()
    for name, points in curves.items():
        seconds = [p["cpu_s"] for p in points]
        (line,) = axes.plot(seconds, [p["left"] for p in points], "o-", label=name)
        look = {"color": line.get_color(), "fontsize": "small", "textcoords": "offset points"}
        for p in points[:: max(1, len(points) - 1)]:
            axes.annotate(str(p["steps"]), (p["cpu_s"], p["left"]), xytext=(3, 4), **look)
    axes.set_xscale("log")
    axes.set_xticks([2, 5, 10, 20, 50], ["2", "5", "10", "20", "50"])
    axes.minorticks_off()
    axes.set(xlabel="processor seconds, all clusters (steps at the points)")
    axes.set(ylabel="objective left, plain mean = 1", ylim=(0, 1.02))
    axes.legend()
    return figure


def attack_curves(
    scores: Mapping[str, np.ndarray], member: np.ndarray, labels: Mapping[str, str]
) -> Figure:
    """ROC curves of several attacks on logarithmic axes."""
    figure, places = _panels(6.2, 5.0, 1, 1)
    axes, colors = places[0, 0], style.method_colors(labels)
    for name, label in labels.items():
        axes.plot(*roc_curve(scores[name], member), label=label, color=colors[name])
    axes.plot([1e-4, 1], [1e-4, 1], color=style.INK, linewidth=0.8, linestyle=":", label="chance")
    axes.set(xscale="log", yscale="log", xlim=(1e-4, 1), ylim=(1e-4, 1.05))
    axes.set(xlabel="false-positive rate", ylabel="true-positive rate")
    axes.legend(fontsize=style.TEXT_SIZE, frameon=False, loc="lower right")
    return figure


def audits(found: Mapping[str, Mapping[str, Any]]) -> Figure:
    """U-LiRA, KLoM on the forgotten and the forgetting quality, each beside its null band.

    Args:
        found: kind of network -> its ``MethodAudit`` as the result file has it.
    """
    figure, places = _panels(11, 0.9 + 0.45 * len(found), 1, 3, sharey=True)
    columns: dict[str, Callable[[Any], tuple]] = {
        "U-LiRA, AUC": lambda a: (a["u_lira"]["auc"][0], a["u_lira_null"]),
        "KLoM, forgotten, 95th percentile": lambda a: [
            a[k]["forget"] for k in ("klom", "klom_null")
        ],
        "forgetting quality F": lambda a: (a["quality"], a["quality_null"]),
    }
    heights = np.arange(len(found))[::-1]
    for axes, (name, of) in zip(places[0], columns.items(), strict=True):
        band = of(next(iter(found.values())))[1]
        axes.axvspan(band["low"], band["high"], color="#dddddd")
        for height, (kind, audit) in zip(heights, found.items(), strict=True):
            color = style.method_colors([kind])[kind]
            axes.plot([of(audit)[0]], [height], marker="o", color=color)
        axes.set_title(f"{name}; grey: oracles", fontsize=style.TEXT_SIZE)
        axes.set_yticks(heights, [title(kind) for kind in found])
        axes.set_ylim(-0.6, len(found) - 0.4)
    return figure

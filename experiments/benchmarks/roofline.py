"""The roofs of a device, its matrix rate and memory bandwidth, and where programs lie below."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from dcmu_jax.networks.partition import PARTS
from dcmu_jax.prng import key_of
from dcmu_jax.training.arguments import Objective
from dcmu_jax.training.classifier import Classifier
from dcmu_jax.training.epoch import EpochSettings, TrainState, batch_step
from dcmu_jax.training.examples import Examples
from dcmu_jax.training.flops import compiler_cost, program_cost
from dcmu_jax.training.optimizers import Optimizer
from experiments.benchmarks.clock import least_seconds

ROUNDS = 5


def matrix_rates(dtype: str, sizes: Sequence[int], seconds: float) -> dict[str, float]:
    """FLOP/s of square matrix products, the least time of several rounds, by the size.

    An ``n x n`` product counts 2 n^3 operations. Entries are random: products of zeros draw less
    power and run faster than any data would. The precision is that of ``jax.numpy`` by default,
    which for float32 may be less than float32 inside the matrix units of a device.

    Args:
        dtype: of the matrices and of the product, by name.
        sizes: ``n`` of each.
        seconds: that a round lasts, at least.
    """
    product = jax.jit(jnp.matmul)
    calls: dict[str, Callable[[], Any]] = {}
    for size in sizes:
        keys = jax.random.split(key_of(size))
        a, b = (jax.random.normal(key, (size, size), jnp.dtype(dtype)) for key in keys)
        calls[str(size)] = lambda a=a, b=b: product(a, b)
    least = least_seconds(calls, seconds, ROUNDS)
    return {size: 2 * int(size) ** 3 / value for size, value in least.items()}


@jax.jit
def _triad(a, b, scale):
    return a + scale * b


def memory_rate(elements: int, seconds: float) -> float:
    """Bytes a second of ``a + s b`` on long float32 vectors: two read and one written.

    Args:
        elements: of each vector; many times what the caches of the device hold.
        seconds: that a round lasts, at least.
    """
    a, b = (jax.random.normal(key_of(i), (elements,)) for i in range(2))
    scale = jnp.float32(1.5)
    least = least_seconds({"triad": lambda: _triad(a, b, scale)}, seconds, ROUNDS)
    return 3 * a.nbytes / least["triad"]


def bound(rate: float, bandwidth: float, intensity: float) -> float:
    """The most that a program can reach: min(rate, intensity * bandwidth).

    Args:
        rate: of arithmetic, FLOP/s.
        bandwidth: bytes/s.
        intensity: operations of the program for each byte that it moves, FLOP/byte.
    """
    return min(rate, intensity * bandwidth)


def _products(jaxpr: Any) -> Iterator[Any]:
    """The convolutions and matrix products of a program, with those of its inner programs."""
    for equation in jaxpr.eqns:
        if equation.primitive.name in ("conv_general_dilated", "dot_general"):
            yield equation
        for value in equation.params.values():
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from _products(inner)


def product_bytes(jaxpr: Any) -> int:
    """Bytes that convolutions and matrix products read and write, if each does so once.

    Args:
        jaxpr: of ``jax.make_jaxpr``, or its ``jaxpr``. What loops do is counted once.
    """
    arrays = (
        variable.aval
        for equation in _products(getattr(jaxpr, "jaxpr", jaxpr))
        for variable in (*equation.invars, *equation.outvars)
    )
    return sum(array.size * array.dtype.itemsize for array in arrays)


def step_arguments(classifier: Classifier, batch: int, optimizer: Optimizer) -> tuple:
    """What ``batch_step`` takes, of arrays the shapes.

    Args:
        classifier: the network; all its parts train.
        batch: images of a step, uint8.
        optimizer: of the training.
    """
    settings = EpochSettings(
        model=classifier.model,
        parts=frozenset(PARTS),
        start=PARTS[0],
        objective=Objective(),
        optimizer=optimizer,
        total_steps=0,
        batch_size=batch,
        mesh=None,
    )

    def fresh(params, stats) -> TrainState:
        moments = optimizer.build(0).init(params)
        return TrainState(params, stats, moments, jnp.zeros((), jnp.int32))

    variables = classifier.variables
    return (
        settings,
        {"params": {}, "batch_stats": {}},
        classifier.normalisation,
        None,
        jax.eval_shape(fresh, variables["params"], variables.get("batch_stats", {})),
        Examples(
            jax.ShapeDtypeStruct((batch, *classifier.image_shape), jnp.uint8),
            jax.ShapeDtypeStruct((batch,), jnp.int32),
            jax.ShapeDtypeStruct((batch,), jnp.float32),
        ),
        key_of(0),
    )


# The state is given away, as in the loop, where it is updated in place.
compiled_step = jax.jit(batch_step, static_argnums=0, donate_argnums=4)


def step_costs(classifier: Classifier, batch: int, optimizer: Optimizer) -> dict[str, Any]:
    """What the compiler counts of a training step of ``fit``, before and after optimising it.

    Nothing runs. Bytes before are those of all operations one by one; after, of the fused ones,
    each reading its inputs and writing its outputs once. For the arguments see ``step_arguments``.
    """
    args = step_arguments(classifier, batch, optimizer)
    traced = compiled_step.trace(*args)
    compiled = traced.lower().compile()
    return {
        "before": program_cost(batch_step, *args)._asdict(),
        "after": compiler_cost(compiled.cost_analysis())._asdict(),
        "product_bytes": product_bytes(traced.jaxpr),
    }


def place(counted: dict[str, Any], rate: float, bandwidth: float) -> dict[str, Any]:
    """Where a step lies under the roofs: its intensity and bound.

    The intensity is the operations before optimisation over the bytes after it. A GPU's compiler
    hands convolutions and large products over to a library and counts nothing of them, which shows
    as operations that are missing after optimisation. Then ``calls_uncounted`` is true, and the
    bytes of all convolutions and products are added. Caches may save some of these bytes, so that
    a program can lie above its bound.

    Args:
        counted: of ``step_costs``.
        rate: of arithmetic, FLOP/s.
        bandwidth: bytes/s.
    """
    before, after = counted["before"], counted["after"]
    if before["flops"] is None or after["bytes"] is None:
        return {"left_out": "the compiler counts no operations or no bytes here", **counted}
    uncounted = (after["flops"] or 0.0) < 0.5 * before["flops"]
    moved = after["bytes"] + (counted["product_bytes"] if uncounted else 0)
    intensity = before["flops"] / moved
    return {
        **counted,
        "calls_uncounted": uncounted,
        "intensity_flop_per_byte": intensity,
        "intensity_unfused": None if before["bytes"] is None else before["flops"] / before["bytes"],
        "bound_tflops": bound(rate, bandwidth, intensity) / 1e12,
    }


def _apart(heights: Sequence[float], gap: float) -> list[float]:
    """The heights, moved up where needed so that neighbours are ``gap`` apart; order kept."""
    placed: dict[int, float] = {}
    reached = -np.inf
    for i in np.argsort(heights):
        reached = max(heights[i], reached + gap)
        placed[int(i)] = reached
    return [placed[i] for i in range(len(heights))]


def _figure(
    title: str,
    rates: dict[str, float],
    bandwidth: float,
    points: dict[str, dict[str, Any]],
) -> Figure:
    """Roofs and points on logarithmic axes, each labelled where it stands.

    Args:
        title: of the figure.
        rates: FLOP/s of matrix products, by the dtype.
        bandwidth: bytes/s.
        points: by the label; ``intensity`` (FLOP/byte), ``unfused`` (the same of the program
            before optimisation, or None) and ``rate`` (FLOP/s) of each.
    """
    from dcmu_jax.reporting import style  # of all that is measured, drawing alone needs it

    figure = Figure(figsize=(9.6, 5.0), layout=style.layout())
    axes = figure.subplots()
    style.plain(axes)
    ridge = max(rates.values()) / bandwidth
    every = [x for p in points.values() for x in (p["intensity"], p["unfused"]) if x]
    low, high = min([*every, ridge / 10]) / 2, max([*every, ridge]) * 4
    labelled = []
    for name, rate in rates.items():
        xs = np.array([low, rate / bandwidth, high])
        axes.plot(xs, np.minimum(rate, xs * bandwidth) / 1e12, color=style.INK, linewidth=1.5)
        text = f"{name} matrix products: {rate / 1e12:.3g}"
        labelled.append((text, high, rate / 1e12, style.INK))
    axes.set(
        xscale="log",
        yscale="log",
        xlim=(low, high),
        xlabel="operations for each byte moved (FLOP/byte); a bar begins where nothing is fused",
        ylabel="TFLOP/s",
    )
    colors = style.method_colors(points)
    for (label, point), marker in zip(points.items(), itertools.cycle(style.MARKERS)):
        x, y, unfused = point["intensity"], point["rate"] / 1e12, point["unfused"]
        if unfused:
            axes.plot([unfused, x], [y, y], color=colors[label], linewidth=1.5)
        axes.plot([x], [y], marker=marker, color=colors[label], markersize=8)
        labelled.append((f"{label}: {y:.3g}", x, y, colors[label]))
    bottom, top = axes.get_ylim()
    axes.annotate(
        f"memory: {bandwidth / 1e9:.4g} GB/s",
        (low * 1.3, low * 1.3 * bandwidth / 1e12),
        (6, -10),
        textcoords="offset points",
        fontsize=style.TEXT_SIZE,
        color=style.INK,
    )
    heights = _apart([np.log10(y) for _, _, y, _ in labelled], 0.06 * np.log10(top / bottom))
    for (text, x, y, color), height in zip(labelled, heights, strict=True):
        axes.annotate(
            text,
            (x, y),
            (1.03, 10**height),
            textcoords=axes.get_yaxis_transform(),
            va="center",
            fontsize=style.TEXT_SIZE,
            color=color,
            arrowprops={"arrowstyle": "-", "color": color, "linewidth": 0.6},
        )
    axes.set_title(title, fontsize=12, color=style.INK)
    return figure


def draw(
    title: str, cases: dict[str, dict[str, Any]], rates: dict[str, float], bandwidth: float
) -> Figure | None:
    """The roofline of what is measured so far; None while nothing has a place in it.

    Args:
        title: of the figure.
        cases: by their label; of each ``tflops`` and, under ``roofline``, what ``place`` gives.
        rates: FLOP/s of matrix products, by the dtype.
        bandwidth: bytes/s.
    """
    points = {
        label: {
            "intensity": case["roofline"]["intensity_flop_per_byte"],
            "unfused": case["roofline"]["intensity_unfused"],
            "rate": case["tflops"] * 1e12,
        }
        for label, case in cases.items()
        if "tflops" in case and "intensity_flop_per_byte" in case.get("roofline", {})
    }
    return _figure(title, rates, bandwidth, points) if points else None

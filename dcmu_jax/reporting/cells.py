"""A number as it is shown: rounded, with its distance to the retrained model beside it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from dcmu_jax.metrics.measurement import OWN, Measurement, Metric

ORIGINAL = "original"
"""Method name of the model before forgetting."""
RETRAINED = "retrain"
"""Method name of the model trained from scratch without the forgotten samples (R)."""

ARROWS = {
    "nearer the retrained model": "→ R",
    "lower": "↓",
    "higher": "↑",
    "for information": "",
}
"""The sign of each direction in which a metric is better."""
COST_METRICS = ("reduction", "online_s", "offline_s", "compile_s", "online_flops")
"""Names of the metrics that say what a method cost; the others say what its model knows."""

_AS_RATIO = frozenset({"online_s", "online_flops"})
# Relative to the retrained model already, or without meaning beside it.
_ALONE = frozenset({"gap", "tug_of_war", "reduction", "offline_s", "compile_s"})


class Cell(NamedTuple):
    """One cell of a table.

    Attributes:
        value: the number as text, ``-`` where there is none.
        beside: signed difference (``-1.2``) or ratio (``0.21x``) to the retrained model's number;
            empty for the retrained model itself and where either number is missing.
    """

    value: str
    beside: str


def legend(metrics: Iterable[Metric]) -> str:
    """What the signs in the headings of ``metrics`` mean."""
    used = {metric.better for metric in metrics}
    signs = [f"{sign} {better}" for better, sign in ARROWS.items() if sign and better in used]
    text = f"Better: {', '.join(signs)}" if signs else ""
    return text + ("; no sign: for information" if "for information" in used else "")


def find(measurements: Sequence[Measurement], method: str) -> Measurement | None:
    """The first measurement of ``method``, or ``None``."""
    return next((m for m in measurements if m.method == method), None)


def name_of(measurement: Measurement) -> str:
    """The method's name, with a star where its equations were left unsolved."""
    return measurement.method + ("" if measurement.unsolved is None else " *")


def known(value: float | None) -> bool:
    """Whether there is a finite number to show."""
    return value is not None and math.isfinite(value)


def flops_text(value: float) -> str:
    """A count with three digits and a unit prefix.

    >>> flops_text(0.0), flops_text(12_345.0), flops_text(999_900.0), flops_text(91e9)
    ('0', '12.3 k', '1.00 M', '91.0 G')
    """
    if abs(value) < 999.5:
        return f"{value:.0f}"
    for prefix in "kMGTP":
        value /= 1000
        if abs(value) < 999.5:
            return f"{value:#.3g}".rstrip(".") + f" {prefix}"
    return f"{value / 1000:.3g} E"


def seconds_text(value: float) -> str:
    """Seconds without the unit, two decimals or, below a tenth, two digits.

    >>> seconds_text(0.0), seconds_text(0.00412), seconds_text(1.234), seconds_text(1234.5)
    ('0.00', '0.0041', '1.23', '1234')
    """
    if value and abs(value) < 0.1:
        return f"{value:.2g}"
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.2f}"


def ratio_text(value: float) -> str:
    """A ratio with as many decimals as it deserves.

    >>> ratio_text(0.0123), ratio_text(0.208), ratio_text(12.3)
    ('0.012x', '0.21x', '12x')
    """
    digits = 3 if value < 0.095 else 2 if value < 10 else 0
    return f"{value:.{digits}f}x"


def number_text(metric: Metric, value: float | None, digits: int | None = None) -> str:
    """``value`` as text in the style of its metric; ``-`` for ``None``, infinite or NaN."""
    if value is None or not math.isfinite(value):
        return "-"
    if metric.name == "online_flops":
        return flops_text(value)
    if metric.unit == "s":
        return seconds_text(value)
    if metric.name.startswith(OWN):  # of any size
        return f"{value:.{metric.digits}g}"
    return f"{value:.{metric.digits if digits is None else digits}f}"


def cell(
    metric: Metric,
    measurement: Measurement,
    retrained: Measurement | None,
    digits: int | None = None,
) -> Cell:
    """The cell of ``metric`` in the row of ``measurement``.

    Args:
        metric: the column.
        measurement: the row.
        retrained: what to set the number beside; ``None`` when it was not measured.
        digits: decimals, ``None`` for those of the metric.
    """
    value = measurement.value(metric.name)
    text = number_text(metric, value, digits)
    if retrained is None or measurement.method == retrained.method or metric.name in _ALONE:
        return Cell(text, "")
    reference = retrained.value(metric.name)
    if not (known(value) and known(reference)):
        return Cell(text, "")
    if metric.name in _AS_RATIO:
        return Cell(text, ratio_text(value / reference) if reference > 0 else "")
    if metric.name.startswith(OWN):
        return Cell(text, f"{value - reference:+.3g}")
    shown = metric.digits if digits is None else digits
    return Cell(text, f"{round(value - reference, shown) + 0.0:+.{shown}f}")

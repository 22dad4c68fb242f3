"""Rows of a table scored against the retrained model of their own cell, and averaged over seeds."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from dcmu_jax.metrics.measurement import Measurement
from dcmu_jax.metrics.scores import with_scores

Row = dict[str, Any]
"""Column -> value, as a CSV file has it."""

CELL = ("dataset", "model", "width", "epochs", "request", "seed")
"""What rows that are compared with each other have in common."""

SCORES = ("gap", "tug_of_war")
_OVER_RETRAINING = {"online_s": "time", "online_flops": "flops"}
_MEASURED = {field.name for field in dataclasses.fields(Measurement)}


def mean_and_interval(values: Sequence[float]) -> dict[str, float]:
    """Mean and, of two values or more, half-width of its 95 % interval (Student's t).

    Not rounded: figures are rounded once, where they are shown.

    >>> mean_and_interval([1.0]), mean_and_interval([1.0, 1.0])
    ({'mean': 1.0}, {'mean': 1.0, 'ci95': 0.0})
    """
    x = np.asarray(values, float)
    entry = {"mean": float(x.mean())}
    if len(x) > 1:
        from scipy import stats  # a second's import

        error = x.std(ddof=1) / np.sqrt(len(x))
        entry["ci95"] = float(error * stats.t.ppf(0.975, len(x) - 1))
    return entry


def means(
    rows: Sequence[Mapping[str, Any]],
    by: Sequence[str],
    fields: Iterable[str],
    count: str | None = None,
) -> dict[Any, Any]:
    """Mean and interval of each field over the rows that agree in all of some columns.

    Args:
        rows: of a table; those without a number in a field do not count in it.
        by: the columns, the outermost first.
        fields: what is averaged; one that no row has a number in is left out.
        count: name for the number of rows, told of each mean where it is given.

    Returns:
        A dictionary for each column within the other, in the order of the rows.

    >>> rows = [{"method": "a", "gap": 1.0}, {"method": "b", "gap": 4.0}]
    >>> means(rows, ["method"], ["gap"])
    {'a': {'gap': {'mean': 1.0}}, 'b': {'gap': {'mean': 4.0}}}
    """
    fields = tuple(fields)
    if by:
        alike: dict[Any, list[Mapping[str, Any]]] = {}
        for row in rows:
            alike.setdefault(row[by[0]], []).append(row)
        return {key: means(chosen, by[1:], fields, count) for key, chosen in alike.items()}
    found = {f: [row[f] for row in rows if row.get(f) is not None] for f in fields}
    entry: dict[Any, Any] = {count: len(rows)} if count else {}
    return entry | {f: mean_and_interval(values) for f, values in found.items() if values}


def scored(rows: Sequence[Row]) -> list[Row]:
    """Rows of one cell with gap, tug of war, and costs over retraining's."""
    measurements = [Measurement(**{k: row[k] for k in _MEASURED & row.keys()}) for row in rows]
    reference = next(row for row in rows if row["method"] == "retrain")
    found = []
    for row, m in zip(rows, with_scores(measurements), strict=True):
        found.append(row | {name: getattr(m, name) for name in SCORES})
        for name, short in _OVER_RETRAINING.items():
            known = row[name] is not None and reference[name]
            ratio = row[name] / reference[name] if known else None
            found[-1][f"{short}_over_retraining"] = ratio
    return found


def scored_cells(rows: Iterable[Row], cell: Sequence[str] = CELL) -> list[Row]:
    """Rows of any cells, each scored against the retrained model of its own."""
    cells: dict[tuple, list[Row]] = {}
    for row in rows:
        cells.setdefault(tuple(row[k] for k in cell), []).append(row)
    return [row for alike in cells.values() for row in scored(alike)]

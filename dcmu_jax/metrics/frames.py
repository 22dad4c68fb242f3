"""Measurements as a pandas frame, and back; pandas is loaded when the first frame is made."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from typing import Any

from dcmu_jax.errors import InputError
from dcmu_jax.metrics.measurement import OWN, Measurement

_DEFAULTS = {f.name: f.default for f in dataclasses.fields(Measurement) if f.name != "own"}
FIELDS = tuple(_DEFAULTS)
"""The columns that every table of measurements has, ``method`` first."""


def frame_of(measurements: Iterable[Measurement]) -> Any:
    """A pandas frame with a row for each network, which is named by its method.

    Its columns are the numbers of a ``Measurement``, then ``own.NAME`` for each metric of the
    user's own; what a network does not have is NaN.

    Args:
        measurements: in the order of the rows.
    """
    import pandas as pd

    rows = [m.row() for m in measurements]
    columns = dict.fromkeys([*FIELDS, *(name for row in rows for name in row)])
    return pd.DataFrame(rows, columns=list(columns)).set_index("method").astype(float)


def measurements_of(rows: Any) -> list[Measurement]:
    """The measurements that a table shows.

    Args:
        rows: themselves; or a pandas frame of them, from ``dcmu.evaluate``,
            ``Comparison.frame`` or ``dcmu.read_results``. Columns that are no measurement are
            passed over.

    Raises:
        InputError: a frame without the columns of measurements, or with something else in one.
    """
    if not hasattr(rows, "iterrows"):
        return list(rows)
    named = rows.set_index("method") if "method" in rows else rows
    required = {name for name, value in _DEFAULTS.items() if value is dataclasses.MISSING}
    absent = required - {"method", *named.columns}
    if absent:
        raise InputError(
            f"A table with the columns {', '.join(map(str, rows.columns)) or '(none)'}",
            f"a measurement in each row; {', '.join(sorted(absent))} missing",
            "Take a frame of dcmu.evaluate, or of a table.csv by dcmu.read_results",
        )
    return [_measurement(str(method), row.to_dict()) for method, row in named.iterrows()]


def _measurement(method: str, row: dict[str, Any]) -> Measurement:
    values, own = {}, {}
    for name, value in row.items():
        mine = str(name).startswith(OWN)
        if not mine and name not in _DEFAULTS:
            continue
        try:
            number = float(value)
        except (TypeError, ValueError):
            raise InputError(
                f"{name} = {value!r} of {method!r}", "a number", "Correct the table"
            ) from None
        if mine and not math.isnan(number):
            own[str(name).removeprefix(OWN)] = number
        elif not mine:
            absent = math.isnan(number) and _DEFAULTS[name] is None
            values[name] = None if absent else number
    return Measurement(method=method, own=own, **values)

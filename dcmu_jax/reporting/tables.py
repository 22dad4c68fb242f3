"""The comparison as tables: in the terminal, and as a tidy CSV file that reads back."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from dcmu_jax.errors import InputError
from dcmu_jax.files import FilePath, write_rows
from dcmu_jax.metrics.measurement import METRICS, OWN, Measurement, Metric, own_columns
from dcmu_jax.reporting.cells import (
    ARROWS,
    COST_METRICS,
    RETRAINED,
    Cell,
    cell,
    find,
    legend,
    name_of,
)

_KNOWLEDGE = tuple(m for m in METRICS if m.name not in COST_METRICS)
_COST = tuple(m for m in METRICS if m.name in COST_METRICS)
# A mean of RA and FA, and a number for information: the room is worth more in a terminal.
_WITHOUT_DIFFERENCE = frozenset({"train_accuracy", "unlearning_metric"})


def terminal_table(measurements: Sequence[Measurement], title: str) -> Table:
    """What each model knows: accuracies, membership inference, gap; for up to 100 columns.

    Beside a number stands, dim and in brackets, its difference to the retrained model's.

    Args:
        measurements: one row each, in this order.
        title: printed as it is, without markup.
    """
    return _table(measurements, title, _KNOWLEDGE, "in brackets: minus the retrained model's")


def cost_table(measurements: Sequence[Measurement], title: str) -> Table:
    """What each method cost: reduction, seconds in their parts, operations; for 80 columns.

    Beside the online time and its operations stands, dim, the ratio to the retrained model's.

    Args:
        measurements: one row each, in this order.
        title: printed as it is, without markup.
    """
    return _table(measurements, title, _COST, "in brackets: over the retrained model's")


def own_table(measurements: Sequence[Measurement], title: str) -> Table:
    """What metrics of the user's own say, beside it the difference to the retrained model's.

    Args:
        measurements: one row each, in this order.
        title: printed as it is, without markup.
    """
    beside = "in brackets: minus the retrained model's"
    return _table(measurements, title, own_columns(measurements), beside)


def _table(
    measurements: Sequence[Measurement], title: str, metrics: tuple[Metric, ...], beside: str
) -> Table:
    retrained = find(measurements, RETRAINED)
    explained = beside if retrained else "the retrained model (R) is missing"
    table = Table(
        title=Text(title),
        caption=Text(f"{explained}\n{legend(metrics)}"),
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        header_style="bold",
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    table.add_column("method", overflow="fold")
    columns = []
    for metric in metrics:
        unit = f" ({metric.unit})" if metric.unit else ""
        heading = Text(f"{metric.title}{unit}\n{ARROWS[metric.better]}")
        table.add_column(heading, justify="right", no_wrap=True)
        shown = [cell(metric, m, retrained, _decimals(metric)) for m in measurements]
        if metric.name in _WITHOUT_DIFFERENCE:
            shown = [c._replace(beside="") for c in shown]
        columns.append(_aligned(shown))
    for row, measurement in enumerate(measurements):
        style = "bold" if measurement.method == RETRAINED else None
        table.add_row(Text(name_of(measurement)), *(column[row] for column in columns), style=style)
    return table


def _decimals(metric: Metric) -> int:
    """One decimal for numbers that go up to a hundred: a terminal is narrow."""
    return metric.digits if metric.name in ("reduction", "tug_of_war") else 1


def _aligned(cells: list[Cell]) -> list[Text]:
    """Texts of equal width, so that the numbers stand under each other in spite of brackets."""
    beside = [f" ({c.beside})" if c.beside else "" for c in cells]
    width = max((len(text) for text in beside), default=0)
    return [
        Text.assemble(c.value, (text.rjust(width), "dim"))
        for c, text in zip(cells, beside, strict=True)
    ]


_FIELDS = tuple(field.name for field in dataclasses.fields(Measurement) if field.name != "own")
_REQUIRED = frozenset(
    f.name
    for f in dataclasses.fields(Measurement)
    if f.default is f.default_factory is dataclasses.MISSING
)


def write_csv(measurements: Sequence[Measurement], path: FilePath) -> None:
    """Write one row per method; a column per field of ``Measurement`` and per ``own.NAME``.

    Numbers are written in full, so that ``read_csv`` gives back the same values; ``None`` is an
    empty field. See ``write_rows``.
    """
    write_rows(path, [m.row() for m in measurements], _FIELDS)


def read_csv(path: FilePath) -> list[Measurement]:
    """Read what ``write_csv`` wrote; columns of optional fields may be missing.

    Raises:
        InputError: no such file, other columns, or a field that is not a number.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"No table at {path}", "a CSV file of measurements", "Check the path")
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        columns = list(reader.fieldnames or ())
        known = {name for name in columns if not name.startswith(OWN)}
        if not _REQUIRED <= known <= set(_FIELDS):
            raise InputError(
                f"{path} has the columns {', '.join(columns) or '(none)'}",
                f"{', '.join(_FIELDS)}, and {OWN}NAME for metrics of your own",
                "Read a table written by write_csv",
            )
        return [_measurement(row, f"{path}, row {n}") for n, row in enumerate(reader, start=1)]


def _measurement(row: dict[str, str | None], where: str) -> Measurement:
    values: dict[str, Any] = {}
    own: dict[str, float] = {}
    for name, text in row.items():
        if name == "method":
            continue
        if not text and name not in _REQUIRED:
            if not name.startswith(OWN):
                values[name] = None
            continue
        try:
            number = float(text or "")
        except ValueError:
            raise InputError(
                f"{where}: {name} = {text!r}", "a number", "Correct the table or write it again"
            ) from None
        if name.startswith(OWN):
            own[name.removeprefix(OWN)] = number
        else:
            values[name] = number
    return Measurement(method=row["method"] or "", own=own, **values)

"""Tables in the terminal: of the comparison, and of any section."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from dcmu_jax.metrics.frames import measurements_of
from dcmu_jax.metrics.measurement import METRICS, Metric, own_columns
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
from dcmu_jax.reporting.sections import Numbers

# A mean of RA and FA, and a number for information: the room is worth more in a terminal.
_WITHOUT_DIFFERENCE = frozenset({"train_accuracy", "unlearning_metric"})
_MINUS = "in brackets: minus the retrained model's"


class _Fitting(Table):
    """A table that, where it is too wide, is shown as several with the same names of rows."""

    numbers: Numbers
    words: int

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Rich alone would cut numbers, and leave no room for names."""
        room = options.max_width
        if _width(self, console, options) <= room:
            yield from super().__rich_console__(console, options)
            return
        given, shown, caption = self.numbers, [], self.numbers.caption
        for column in range(self.words, len(given.headings)):
            tried = self._piece([*shown, column], caption)
            if shown and _width(tried, console, options) > room:
                yield self._piece(shown, caption)
                shown, caption = [], ""
            shown.append(column)
        yield self._piece(shown, caption)
        if given.meaning:
            yield Text(given.meaning, style="table.caption")

    def _piece(self, columns: Sequence[int], caption: str) -> Table:
        given, kept = self.numbers, [*range(self.words), *columns]
        headings = [given.headings[column] for column in kept]
        rows = [[row[column] for column in kept] for row in given.rows]
        piece = _filled(Table, Numbers(caption, headings, rows, "", given.reference), self.words)
        piece.show_edge = False
        return piece


def _width(table: Table, console: Console, options: ConsoleOptions) -> int:
    """The columns that a table takes where there is room for all of it; its title may wrap."""
    endless = options.update(max_width=10_000)
    return table.__rich_measure__(console, endless).maximum


def terminal(numbers: Numbers, words: int = 1) -> Table:
    """A table of a section for the terminal; all of it is text, never markup.

    Where the terminal is too narrow its columns are shown in several tables, one below the other,
    each with the names of the rows.

    Args:
        numbers: the table.
        words: how many columns are text, from the left; the others are numbers.
    """
    table = _filled(_Fitting, numbers, words)
    table.numbers, table.words = numbers, words
    return table


_T = TypeVar("_T", bound=Table)


def _filled(kind: type[_T], numbers: Numbers, words: int) -> _T:
    table = kind(
        title=Text(numbers.caption) if numbers.caption else None,
        caption=Text(numbers.meaning) if numbers.meaning else None,
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    for number, heading in enumerate(numbers.headings):
        wide = number >= words
        justify = "right" if wide else "left"
        table.add_column(Text(heading), justify=justify, no_wrap=wide, overflow="fold")
    for row in numbers.rows:
        style = "bold" if row[0] == numbers.reference else None
        table.add_row(*(Text(each) if isinstance(each, str) else each for each in row), style=style)
    return table


def terminal_table(measurements: Any, title: str) -> Table:
    """What each model knows: accuracies, membership inference, gap; for up to 100 columns.

    Beside a number stands, dim and in brackets, its difference to the retrained model's.

    Args:
        measurements: one row each, in this order; or a frame of them: see ``measurements_of``.
        title: printed as it is, without markup.
    """
    return _table(measurements, title, (m for m in METRICS if m.name not in COST_METRICS), _MINUS)


def cost_table(measurements: Any, title: str) -> Table:
    """What each method cost: reduction, seconds in their parts, operations; for 80 columns.

    Beside the online time and its operations stands, dim, the ratio to the retrained model's.

    Args:
        measurements: one row each, in this order; or a frame of them: see ``measurements_of``.
        title: printed as it is, without markup.
    """
    metrics = (m for m in METRICS if m.name in COST_METRICS)
    return _table(measurements, title, metrics, "in brackets: over the retrained model's")


def own_table(measurements: Any, title: str) -> Table:
    """What metrics of the user's own say, beside it the difference to the retrained model's.

    Args:
        measurements: one row each, in this order; or a frame of them: see ``measurements_of``.
        title: printed as it is, without markup.
    """
    return _table(measurements, title, own_columns(measurements_of(measurements)), _MINUS)


def _table(given: Any, title: str, metrics: Iterable[Metric], beside: str) -> Table:
    measurements, metrics = measurements_of(given), tuple(metrics)
    retrained = find(measurements, RETRAINED)
    headings, columns = ["method"], [[name_of(m) for m in measurements]]
    for metric in metrics:
        unit = f" ({metric.unit})" if metric.unit else ""
        headings.append(f"{metric.title}{unit}\n{ARROWS[metric.better]}")
        shown = [cell(metric, m, retrained, _decimals(metric)) for m in measurements]
        if metric.name in _WITHOUT_DIFFERENCE:
            shown = [c._replace(beside="") for c in shown]
        columns.append(_aligned(shown))
    explained = beside if retrained else "the retrained model (R) is missing"
    meaning = f"{explained}\n{legend(metrics)}"
    return terminal(Numbers(title, headings, list(zip(*columns, strict=True)), meaning, RETRAINED))


def _decimals(metric: Metric) -> int:
    """One decimal for numbers that go up to a hundred: a terminal is narrow."""
    return metric.digits if metric.name in ("reduction", "tug_of_war") else 1


def _aligned(cells: Sequence[Cell]) -> list[Any]:
    """Texts of equal width, so that the numbers stand under each other in spite of brackets."""
    beside = [f" ({c.beside})" if c.beside else "" for c in cells]
    width = max((len(text) for text in beside), default=0)
    return [
        Text.assemble(c.value, (text.rjust(width), "dim"))
        for c, text in zip(cells, beside, strict=True)
    ]

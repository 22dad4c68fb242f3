"""The report: one self-contained HTML page."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
from markupsafe import Markup
from matplotlib.figure import Figure

from dcmu_jax.errors import InputError
from dcmu_jax.files import FilePath, write_text
from dcmu_jax.metrics.measurement import METRICS, Measurement, Metric, own_columns
from dcmu_jax.reporting.cells import (
    ARROWS,
    COST_METRICS,
    RETRAINED,
    Cell,
    cell,
    find,
    legend,
    name_of,
    seconds_text,
)
from dcmu_jax.reporting.sections import Section
from dcmu_jax.reporting.style import png_bytes
from dcmu_jax.reporting.verdict import WARNING

_MINUS = "\N{MINUS SIGN}"
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


class _Row(NamedTuple):
    method: str
    is_reference: bool
    cells: list[Cell]


class _Table(NamedTuple):
    metrics: list[Metric]
    rows: list[_Row]


class _Part(NamedTuple):
    """One stretch of a bar: ``name`` (also its CSS class), seconds as text, percent of the bar."""

    name: str
    seconds: str
    percent: float


def write_report(
    path: FilePath,
    *,
    title: str,
    summary: Sequence[str],
    measurements: Sequence[Measurement],
    settings: Mapping[str, Any],
    figures: Sequence[tuple[Figure | Path | str, str]],
    environment: Mapping[str, Any],
    notes: Sequence[str] = (),
    sections: Sequence[Section] = (),
) -> None:
    """Write the report of one comparison as a single page, images and style inside.

    Everything given is text to be shown, never markup. Written aside, then renamed.

    Args:
        path: the file to write.
        title: heading of the page.
        summary: sentences of the verdict; one that begins with ``Warning:`` stands out.
        measurements: one row per method; none, and there are no tables of a comparison.
        settings: every setting of the run; mappings may nest.
        figures: a figure, or the path of a PNG file, and its caption.
        environment: versions, device, command.
        notes: further remarks.
        sections: of audits, defences, condensed models: after the tables, before the figures.

    Raises:
        InputError: a path among the figures is not a PNG file.
    """
    own = own_columns(measurements)
    knowledge = [*(m for m in METRICS if m.name not in COST_METRICS), *own]
    page = render(
        "report.html.j2",
        title=title,
        summary=[(_unbroken(text), text.startswith(WARNING)) for text in summary],
        knowledge=_table(measurements, knowledge),
        cost=_table(measurements, [m for m in METRICS if m.name in COST_METRICS]),
        bars=_bars(measurements),
        has_reference=find(measurements, RETRAINED) is not None,
        metrics=[*METRICS, *own],
        arrows=ARROWS,
        legend=legend(METRICS),
        figures=[(_data_uri(figure), caption) for figure, caption in figures],
        sections=[_shown(section) for section in sections],
        settings=setting_sections(settings),
        environment=flat_rows(environment),
        notes=list(notes),
    )
    write_text(path, page)


def render(template: str, **values: Any) -> str:
    """A page of this package in the one style; all values are text to be shown, never markup."""
    engine = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    folder = resources.files("dcmu_jax.reporting")
    style = Markup(folder.joinpath("page.css").read_text(encoding="utf-8"))
    source = folder.joinpath(template).read_text(encoding="utf-8")
    return engine.from_string(source).render(style=style, **values)


def _table(measurements: Sequence[Measurement], metrics: list[Metric]) -> _Table:
    retrained = find(measurements, RETRAINED)
    rows = [
        _Row(name_of(m), m.method == RETRAINED, [_typeset(cell(x, m, retrained)) for x in metrics])
        for m in measurements
    ]
    return _Table(metrics, rows)


def _typeset(shown: Cell) -> Cell:
    """With true dashes, minus and multiplication signs."""
    value = "\N{EN DASH}" if shown.value == "-" else shown.value.replace("-", _MINUS)
    return Cell(value, shown.beside.replace("-", _MINUS).replace("x", "\N{MULTIPLICATION SIGN}"))


def _unbroken(sentence: str) -> str:
    """With its percent signs held to their numbers."""
    return sentence.replace(" %", "\N{NO-BREAK SPACE}%")


def _bars(measurements: Sequence[Measurement]) -> list[tuple[str, str, list[_Part]]]:
    """Per method with any time: its name, its total, and its parts as shares of the longest."""
    timed = []
    for m in measurements:
        parts = {"online": m.online_s, "offline": m.offline_s, "compile": m.compile_s}
        given = {name: value for name, value in parts.items() if value is not None}
        if given:
            timed.append((m.method, sum(given.values()), given))
    longest = max((total for _, total, _ in timed), default=0.0) or 1.0
    return [
        (
            method,
            seconds_text(total),
            [_Part(name, seconds_text(s), 100.0 * s / longest) for name, s in given.items()],
        )
        for method, total, given in timed
    ]


def _shown(section: Section) -> dict[str, Any]:
    """A section as the template takes it: each figure beside its image as text."""
    return {
        "title": section.title,
        "sentences": [_unbroken(sentence) for sentence in section.sentences],
        "tables": section.tables,
        "figures": [(_data_uri(drawn.figure), drawn) for drawn in section.figures],
    }


def _data_uri(figure: Figure | Path | str) -> str:
    if isinstance(figure, Figure):
        data = png_bytes(figure)
    else:
        data = Path(figure).read_bytes() if Path(figure).is_file() else b""
        if not data.startswith(_PNG_SIGNATURE):
            raise InputError(
                f"Figure {figure} is missing or no PNG file",
                "a matplotlib Figure or the path of a PNG file",
                "Save the figure first",
            )
    return "data:image/png;base64," + base64.b64encode(data).decode("ascii")


def setting_sections(settings: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Settings under headings: plain values first, then one section per nested mapping."""
    nested = {name: value for name, value in settings.items() if isinstance(value, Mapping)}
    plain = {name: value for name, value in settings.items() if name not in nested}
    sections = [("", flat_rows(plain))] if plain else []
    return sections + [(str(name), flat_rows(value)) for name, value in nested.items()]


def flat_rows(
    mapping: Mapping[str, Any], prefix: str = "", digits: int | None = None
) -> list[tuple[str, str]]:
    """Dotted names and values as text, in order; floats to so many significant digits, or whole."""
    rows = []
    for name, value in mapping.items():
        if isinstance(value, Mapping) and value:
            rows += flat_rows(value, f"{prefix}{name}.", digits)
        elif isinstance(value, float) and digits is not None:
            rows.append((f"{prefix}{name}", f"{value:.{digits}g}"))
        else:
            rows.append((f"{prefix}{name}", _value_text(value)))
    return rows


def _value_text(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, Mapping):
        return "(empty)"
    if isinstance(value, list | tuple):
        return ", ".join(_value_text(item) for item in value) or "(empty)"
    return str(value)

"""Pages: sections as one self-contained HTML file, no script in it and nothing fetched."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

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
from dcmu_jax.reporting.sections import Bar, Drawn, Numbers, Section
from dcmu_jax.reporting.style import png_bytes
from dcmu_jax.reporting.verdict import WARNING

_MINUS = "\N{MINUS SIGN}"
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def write_report(
    path: FilePath,
    *,
    title: str,
    summary: Sequence[str],
    measurements: Sequence[Measurement],
    settings: Mapping[str, Any],
    figures: Sequence[Drawn],
    environment: Mapping[str, Any],
    notes: Sequence[str] = (),
    sections: Sequence[Section] = (),
) -> None:
    """Write the report of one comparison; see ``write_page``.

    Args:
        path: the file to write.
        title: heading of the page.
        summary: sentences of the verdict; one that begins with ``Warning:`` stands out.
        measurements: one row per method; none, and there are no tables of a comparison.
        settings: every setting of the run; mappings may nest.
        figures: of the comparison.
        environment: versions, device, command.
        notes: further remarks.
        sections: of audits, defences, condensed models: after the tables, before the figures.

    Raises:
        InputError: a path among the figures is not a PNG file.
    """
    shown = [*_comparison(measurements), *sections]
    if figures:
        shown.append(Section("Figures", figures=figures))
    shown += _meanings(measurements)
    if notes:
        shown.append(Section("Notes", notes=notes))
    write_page(path, title, [*shown, *about(settings, environment)], summary)


def write_page(
    path: FilePath, title: str, sections: Sequence[Section], summary: Sequence[str] = ()
) -> None:
    """Write sections as a single page, images and style inside.

    Everything given is text to be shown, never markup. Written aside, then renamed.

    Args:
        path: the file to write.
        title: heading of the page.
        sections: in order.
        summary: sentences above them; one that begins with ``Warning:`` stands out.

    Raises:
        InputError: a path among the figures is not a PNG file.
    """
    engine = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    engine.filters |= {"source": _data_uri, "unbroken": _unbroken}
    folder = resources.files("dcmu_jax.reporting")
    style = Markup(folder.joinpath("page.css").read_text(encoding="utf-8"))
    template = engine.from_string(folder.joinpath("page.html.j2").read_text(encoding="utf-8"))
    page = template.render(
        title=title,
        summary=[(text, text.startswith(WARNING)) for text in summary],
        sections=sections,
        arrows=ARROWS,
        style=style,
    )
    write_text(path, page)


def about(settings: Mapping[str, Any], environment: Mapping[str, Any]) -> list[Section]:
    """The last sections of a page: settings, plain ones first, and what they were used in."""
    nested = {
        name: value for name, value in settings.items() if isinstance(value, Mapping) and value
    }
    plain = {name: value for name, value in settings.items() if name not in nested}
    pairs = [("", flat_rows(plain))] if plain else []
    pairs += [(str(name), flat_rows(value)) for name, value in nested.items()]
    return [
        Section("Settings", pairs=pairs),
        Section("Environment", pairs=[("", flat_rows(environment))]),
    ]


def _comparison(measurements: Sequence[Measurement]) -> Iterator[Section]:
    """What each model knows, and what each method cost."""
    if not measurements:
        return
    known = [*(m for m in METRICS if m.name not in COST_METRICS), *own_columns(measurements)]
    cost = [m for m in METRICS if m.name in COST_METRICS]
    retrained = find(measurements, RETRAINED)

    def table(caption: str, metrics: Sequence[Metric], meaning: str) -> Numbers:
        rows = [
            [name_of(m), *(_typeset(cell(metric, m, retrained)) for metric in metrics)]
            for m in measurements
        ]
        return Numbers(caption, ["method", *metrics], rows, meaning, reference=RETRAINED)

    beside = "The small number under each is its difference to the retrained model's."
    alone = "No retrained model was measured: the numbers stand alone."
    meaning = f"{beside if retrained else alone} {legend(METRICS)}."
    yield Section("Comparison", tables=[table("What each model knows", known, meaning)])
    meaning = "The small number is the ratio to the retrained model's. " if retrained else ""
    meaning += (
        "Online is paid at every request, offline once before any request, compilation once per "
        "program and machine."
    )
    bars = _bars(measurements)
    yield Section("Cost", tables=[table("What each method cost", cost, meaning)], bars=bars)


def _meanings(measurements: Sequence[Measurement]) -> Iterator[Section]:
    pairs = []
    for metric in [*METRICS, *own_columns(measurements)]:
        name = f"{metric.title} ({metric.unit})" if metric.unit else metric.title
        better = f" ({metric.better} is better)" if ARROWS[metric.better] else ""
        pairs.append((name, metric.meaning + better))
    if measurements:
        yield Section("What the numbers mean", pairs=[("", pairs)], look="meanings")


def _typeset(shown: Cell) -> Cell:
    """With true dashes, minus and multiplication signs."""
    value = "\N{EN DASH}" if shown.value == "-" else shown.value.replace("-", _MINUS)
    return Cell(value, shown.beside.replace("-", _MINUS).replace("x", "\N{MULTIPLICATION SIGN}"))


def _unbroken(sentence: str) -> str:
    """With its percent signs held to their numbers."""
    return sentence.replace(" %", "\N{NO-BREAK SPACE}%")


def _bars(measurements: Sequence[Measurement]) -> list[Bar]:
    """A bar for each method with any time, as a share of the longest."""
    timed = {}
    for m in measurements:
        parts = {"online": m.online_s, "offline": m.offline_s, "compile": m.compile_s}
        timed[m.method] = {name: value for name, value in parts.items() if value is not None}
    longest = max((sum(given.values()) for given in timed.values()), default=0.0) or 1.0
    return [
        Bar(
            method,
            seconds_text(sum(given.values())),
            [(name, seconds_text(s), 100.0 * s / longest) for name, s in given.items()],
        )
        for method, given in timed.items()
        if given
    ]


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


def flat_rows(
    mapping: Mapping[str, Any], prefix: str = "", digits: int | None = None
) -> list[tuple[str, str]]:
    """Dotted names and values as text, in order; floats to so many significant digits, or whole."""
    rows = []
    for name, value in mapping.items():
        if isinstance(value, list | tuple) and any(isinstance(item, Mapping) for item in value):
            value = {str(at): item for at, item in enumerate(value)}  # as the options count
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

"""A section of the report as a value: sentences, tables, figures with what they show and do not."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from matplotlib.figure import Figure

from dcmu_jax.errors import InputError
from dcmu_jax.files import FilePath, write_json
from dcmu_jax.reading import read_json
from dcmu_jax.reporting.style import save_figure

_FILE = "section.json"


@dataclasses.dataclass(frozen=True)
class Conclusion:
    """The two sentences beside a figure.

    Attributes:
        can: what can be concluded from it.
        cannot: what cannot.
    """

    can: str
    cannot: str

    def __str__(self) -> str:
        return f"{self.can} {self.cannot}"


class Numbers(NamedTuple):
    """A table as texts.

    Attributes:
        caption: above it.
        headings: of the columns; the first column names the rows.
        rows: as many texts in each as there are headings.
        meaning: of the numbers, below it.
        reference: whether the first row is what the others are compared with.
    """

    caption: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    meaning: str = ""
    reference: bool = False


class Drawn(NamedTuple):
    """A figure and its two sentences.

    Attributes:
        name: of its file, without ``.png``.
        title: what is drawn.
        figure: it, or the path of its PNG file.
        conclusion: what it shows, and what it does not.
    """

    name: str
    title: str
    figure: Figure | Path
    conclusion: Conclusion


@dataclasses.dataclass(frozen=True)
class Section:
    """What stands under one heading of a report.

    Attributes:
        title: the heading.
        sentences: what was found.
        tables: in order.
        figures: in order.
    """

    title: str
    sentences: Sequence[str] = ()
    tables: Sequence[Numbers] = ()
    figures: Sequence[Drawn] = ()


def save_section(section: Section, folder: FilePath) -> Section:
    """Write a section into a folder: its figures as PNG files, then section.json.

    Returns:
        The section with its figures as the paths of those files.
    """
    folder, drawn = Path(folder), []
    for each in section.figures:
        path = folder / f"{each.name}.png"
        if isinstance(each.figure, Figure):
            save_figure(each.figure, path)
        elif Path(each.figure) != path:
            raise InputError(
                f"The figure {each.name!r} of a section in {str(folder)!r} lies elsewhere",
                "a matplotlib Figure, or its file in that folder",
                "Give the figure itself",
            )
        drawn.append(each._replace(figure=path))
    text = {
        "title": section.title,
        "sentences": list(section.sentences),
        "tables": [table._asdict() for table in section.tables],
        "figures": [
            {"name": d.name, "title": d.title, "conclusion": dataclasses.asdict(d.conclusion)}
            for d in drawn
        ],
    }
    write_json(folder / _FILE, text)  # last: the section is there once this is
    return dataclasses.replace(section, figures=drawn)


def load_section(folder: FilePath) -> Section:
    """A section that was saved into a folder.

    Raises:
        InputError: a file that cannot be read as one.
    """
    folder = Path(folder)
    path, remedy = folder / _FILE, "Delete its folder and run the command again"
    found = read_json(path, "a section of a report", remedy)
    try:
        return Section(
            title=_text(found["title"]),
            sentences=tuple(map(_text, found["sentences"])),
            tables=tuple(_numbers(Numbers(**table)) for table in found["tables"]),
            figures=tuple(_drawn(folder, **drawn) for drawn in found["figures"]),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{str(path)!r} cannot be read ({error})",
            "the file as the command wrote it",
            remedy,
        ) from error


def saved_sections(folders: Iterable[FilePath]) -> list[Section]:
    """The sections of those folders that hold one, in order of their names."""
    return [
        load_section(folder) for folder in sorted(map(Path, folders)) if (folder / _FILE).is_file()
    ]


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def _numbers(table: Numbers) -> Numbers:
    rows = [list(map(_text, row)) for row in (table.headings, *table.rows)]
    if len(set(map(len, rows))) != 1:
        raise ValueError("rows of a table differ in length")
    shown = Numbers(_text(table.caption), rows[0], rows[1:], _text(table.meaning))
    return shown._replace(reference=table.reference is True)


def _drawn(folder: Path, name: str, title: str, conclusion: dict[str, str]) -> Drawn:
    if Path(_text(name)).name != name:
        raise ValueError(f"{name!r} is no name of a file in that folder")
    both = Conclusion(_text(conclusion["can"]), _text(conclusion["cannot"]))
    return Drawn(name, _text(title), folder / f"{name}.png", both)

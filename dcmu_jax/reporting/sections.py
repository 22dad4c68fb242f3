"""A section of a page as a value: sentences, tables, figures with what they show and do not."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from dcmu_jax.errors import InputError
from dcmu_jax.files import FilePath, write_json
from dcmu_jax.reading import read_json_as, refused
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
    """A table.

    Attributes:
        caption: above it.
        headings: of the columns, texts or metrics; the first column names the rows.
        rows: as many texts or cells in each as there are headings.
        meaning: of the numbers, below it.
        reference: the name of the row that the others are compared with; True for the first.
    """

    caption: str
    headings: Sequence[Any]
    rows: Sequence[Sequence[Any]]
    meaning: str = ""
    reference: bool | str = False


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
    conclusion: Conclusion | None = None


class Bar(NamedTuple):
    """Seconds as one bar of several stretches.

    Attributes:
        name: what took them.
        total: of all stretches, as text.
        stretches: name (also its CSS class), seconds as text, percent of the longest bar.
    """

    name: str
    total: str
    stretches: Sequence[tuple[str, str, float]]


@dataclasses.dataclass(frozen=True)
class Section:
    """What stands under one heading of a page, in the order of the fields.

    Attributes:
        title: the heading.
        sentences: what was found.
        tables: in order.
        figures: in order.
        bars: times.
        pairs: names and values, each list below a smaller heading, if that is not empty.
        look: CSS class of the pairs.
        notes: further remarks, as a list.
    """

    title: str
    sentences: Sequence[str] = ()
    tables: Sequence[Numbers] = ()
    figures: Sequence[Drawn] = ()
    bars: Sequence[Bar] = ()
    pairs: Sequence[tuple[str, Sequence[tuple[str, str]]]] = ()
    look: str = ""
    notes: Sequence[str] = ()


class _SavedTable(NamedTuple):
    caption: str
    headings: list[str]
    rows: list[list[str]]
    meaning: str = ""
    reference: bool = False


class _SavedFigure(NamedTuple):
    name: str
    title: str
    conclusion: Conclusion


class _Saved(NamedTuple):
    """What section.json holds: of a section with sentences, tables and figures alone."""

    title: str
    sentences: tuple[str, ...]
    tables: tuple[_SavedTable, ...]
    figures: tuple[_SavedFigure, ...]


def save_section(section: Section, folder: FilePath) -> Section:
    """Write a section of sentences, tables of texts and figures into a folder.

    Its figures come first, as PNG files, then section.json: the section is there once this is.

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
            {"name": d.name, "title": d.title, "conclusion": vars(d.conclusion)} for d in drawn
        ],
    }
    write_json(folder / _FILE, text)
    return dataclasses.replace(section, figures=drawn)


def load_section(folder: FilePath) -> Section:
    """A section that was saved into a folder.

    Raises:
        InputError: a file that cannot be read as one.
    """
    folder = Path(folder)
    path, what = folder / _FILE, "a section of a report"
    remedy = "Delete its folder and run the command again"
    saved = read_json_as(_Saved, path, what, remedy)
    with refused(repr(str(path)), what, remedy):
        if any(len(row) != len(t.headings) for t in saved.tables for row in t.rows):
            raise ValueError("rows of a table differ in length")
        if any(Path(drawn.name).name != drawn.name for drawn in saved.figures):
            raise ValueError("a figure is no file in that folder")
    figures = [
        Drawn(d.name, d.title, folder / f"{d.name}.png", d.conclusion) for d in saved.figures
    ]
    tables = tuple(Numbers(*table) for table in saved.tables)
    return Section(saved.title, saved.sentences, tables, tuple(figures))


def saved_sections(folders: Iterable[FilePath]) -> list[Section]:
    """The sections of those folders that hold one, in order of their names."""
    return [
        load_section(folder) for folder in sorted(map(Path, folders)) if (folder / _FILE).is_file()
    ]

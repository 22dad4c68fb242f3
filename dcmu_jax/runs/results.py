"""The tables that runs write, read back as one pandas frame with the settings of each run."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from dcmu_jax.errors import InputError
from dcmu_jax.files import FilePath, expanded, json_text
from dcmu_jax.reading import parse_json, read_bytes, read_json, refused
from dcmu_jax.runs.config_json import from_json, to_json

_WHAT, _REMEDY = "a table of results", "Give a run that was compared, or a table that it wrote"
_WITHIN_A_RUN = ("requests", "condensed-model")
"""Folders of a run whose folders each may hold a table."""


def read_results(paths: FilePath | Iterable[FilePath]) -> Any:
    """Every row of tables of results, in one pandas frame.

    A row has the columns of its table, its ``path``, and, where a run wrote it, every setting of
    that run by its dotted name (``seed``, ``training.epochs``; a list as JSON). ``forget`` is then
    the request that the table is of. Where a setting and a column have one name, the column stays.

    Args:
        paths: one or several. The directory of a run stands for its ``table.csv`` and those of its
            other requests; a file is a CSV table, JSON (rows, or an object with ``rows``) or JSON
            lines.

    Raises:
        InputError: no table there, or one that cannot be read.
    """
    import pandas as pd

    given = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    files = [file for path in given for file in _tables(expanded(path))]
    if not files:
        raise InputError("No path of a table", "one or more", _REMEDY)
    return pd.DataFrame([row for file in files for row in _rows(file)])


def _tables(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = [*path.glob("table.csv"), *sorted(path.glob("requests/*/table.csv"))]
    if not found:
        raise InputError(f"No table in {str(path)!r}", "the directory of a compared run", _REMEDY)
    return found


def _rows(file: Path) -> list[dict[str, Any]]:
    beside = {"path": str(file)} | _settings(file)
    if file.suffix == ".json":
        found = read_json(file, _WHAT, _REMEDY)
        rows = found.get("rows") if isinstance(found, Mapping) else found
    else:
        data = read_bytes(file, _WHAT, _REMEDY)
        with refused(repr(str(file)), _WHAT, _REMEDY):
            if file.suffix == ".jsonl":
                lines = filter(None, map(bytes.strip, data.splitlines()))
                rows = [parse_json(line, file, _WHAT, _REMEDY) for line in lines]
            else:
                rows = _of_csv(data.decode())
    if not isinstance(rows, list) or not all(isinstance(row, Mapping) for row in rows):
        raise InputError(f"{str(file)!r} holds no rows", "a list of objects, a row each", _REMEDY)
    return [{**row, **{k: v for k, v in beside.items() if k not in row}} for row in rows]


def _of_csv(text: str) -> list[dict[str, Any]]:
    """Each row of a CSV file, numbers as exact as they were written.

    Not by ``pandas.read_csv``: how it rounds differs between its versions, and it takes a method
    called NA for none.
    """
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    rows = list(reader)
    if not reader.fieldnames or any(None in row or None in row.values() for row in rows):
        raise ValueError("its rows and its headings differ in length")
    return [{name: _number_or(value) for name, value in row.items()} for row in rows]


def _number_or(text: str) -> Any:
    """A number where a text is one, NaN where it is empty, else the text."""
    for kind in (int, float):
        try:
            return kind(text or "nan")
        except ValueError:
            continue
    return text


def _settings(file: Path) -> dict[str, Any]:
    """The settings of the run that a table lies in, by dotted name; empty where it lies in none."""
    import pandas as pd

    parent = file.absolute().parent
    run = parent.parents[1] if parent.parent.name in _WITHIN_A_RUN else parent
    config, request = run / "config.json", parent / "request.json"
    if not config.is_file():
        return {}
    what, remedy = "the settings of a run", "Restore the file"
    settings = json.loads(to_json(from_json(read_bytes(config, what, remedy), str(config))))
    flat = pd.json_normalize(settings).to_dict("records")[0]
    if request.is_file():
        flat["forget"] = read_json(request, "a request", remedy)["text"]
    return {k: json_text(v) if isinstance(v, list | dict) else v for k, v in flat.items()}

"""Files that appear whole or not at all, and reading archives back without running anything."""

from __future__ import annotations

import contextlib
import json
import os
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dcmu_jax.errors import InputError


@contextlib.contextmanager
def written_aside(path: Path | str) -> Iterator[Path]:
    """A path to write to in place of ``path``; renamed to it when the block ends well.

    Folders above ``path`` are made. When the block raises, the file aside is removed and whatever
    was at ``path`` stays as it was.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield aside
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def write_json(path: Path | str, value: Any) -> None:
    """Write a JSON file; see ``written_aside``."""
    with written_aside(path) as aside:
        aside.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def write_archive(path: Path | str, arrays: Mapping[str, Any]) -> None:
    """Write arrays as an ``npz`` archive; see ``written_aside``."""
    with written_aside(path) as aside, aside.open("wb") as file:
        np.savez(file, **arrays)


def read_archive(path: Path | str, what: str, remedy: str) -> dict[str, np.ndarray]:
    """The arrays of an archive by name. Nothing is unpickled.

    Args:
        path: of the file.
        what: it is meant to hold, for messages.
        remedy: what to do if it does not.

    Raises:
        InputError: no such file, or one that is no archive of plain arrays.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"No {what} at {path}", "a file written by save", remedy)
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    # AttributeError: what NumPy loads may be a single array, which has no names.
    except (OSError, ValueError, EOFError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        raise InputError(
            f"{path} cannot be read as a {what} ({error})", "a file written by save", remedy
        ) from error

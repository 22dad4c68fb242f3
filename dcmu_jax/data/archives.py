"""Archives of arrays that the library writes and reads back: whole or not at all, never code."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dcmu_jax.errors import InputError


def write_archive(path: str | Path, arrays: Mapping[str, Any]) -> None:
    """Write an ``npz`` archive; the file appears whole or not at all."""
    path = Path(path)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with aside.open("wb") as file:
            np.savez(file, **arrays)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def read_archive(path: str | Path, what: str, remedy: str) -> dict[str, np.ndarray]:
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

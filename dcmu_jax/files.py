"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import json
import os
import threading
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
    aside = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.part")
    try:
        yield aside
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def json_text(value: Any, indent: int | None = None) -> str:
    """A value as JSON: all that this library writes.

    Raises:
        InputError: a number that is not finite, which JSON has no word for.

    >>> json_text({"loss": 0.5})
    '{"loss": 0.5}'
    """
    try:
        return json.dumps(value, indent=indent, allow_nan=False)
    except ValueError as error:
        raise InputError(
            f"A result that cannot be written ({error})",
            "finite numbers",
            "Look for what diverged before; nothing was written",
        ) from error


def write_json(path: Path | str, value: Any) -> None:
    """Write a JSON file; see ``written_aside`` and ``json_text``."""
    text = json_text(value, indent=2) + "\n"
    with written_aside(path) as aside:
        aside.write_text(text, encoding="utf-8")


def write_archive(path: Path | str, arrays: Mapping[str, Any]) -> None:
    """Write arrays as an ``npz`` archive; see ``written_aside``."""
    with written_aside(path) as aside, aside.open("wb") as file:
        np.savez(file, **arrays)

"""Files that appear whole or not at all, and what is left of those that did not."""

from __future__ import annotations

import contextlib
import csv
import json
import logging
import os
import re
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from dcmu_jax.errors import InputError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

FilePath: TypeAlias = str | os.PathLike[str]
"""What names a file or a folder: text, a ``Path``, or anything else that is a path."""


def expanded(path: FilePath) -> Path:
    """A path whose ``~`` is a home; as it stands where there is no such home, or none is known.

    >>> expanded("~nobody of that name/x").name
    'x'
    """
    with contextlib.suppress(RuntimeError, ValueError):
        return Path(path).expanduser()
    return Path(path)


def aside_of(path: Path) -> Path:
    """Where this thread writes a file or fills a folder that will be ``path``."""
    return path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.part")


def is_aside_of(name: str, target: str) -> re.Match[str] | None:
    """Whether a name is one that ``aside_of`` gives to ``target``, of whatever process and thread.

    The whole of it: anything shorter may be a copy that somebody named.
    """
    number = "([1-9][0-9]{{0,{}}})".format
    return re.fullmatch(rf"\.{re.escape(target)}\.{number(9)}\.{number(19)}\.part", name)


def left_aside(path: Path) -> list[Path]:
    """What lies beside ``path`` under a name of ``aside_of`` and nobody works on any more.

    Of a folder the lock says so (``held``), of a file the number of the process.
    """
    path = path.absolute()
    found = []
    for other in sorted(path.parent.iterdir()) if path.parent.is_dir() else ():
        match = is_aside_of(other.name, path.name)
        if not match or other.is_symlink():
            continue
        process, folder = int(match[1]), other.is_dir()
        gone = (folder and process != os.getpid()) or _has_gone(process, match[2])
        if gone and (not folder or _is_free(other)):
            found.append(other)
    return found


def _has_gone(process: int, thread: str) -> bool:
    if process == os.getpid():
        return thread not in {str(alive.ident) for alive in threading.enumerate()}
    if os.name != "posix":
        return False  # to look would end it
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):
        return False
    return False


def _is_free(folder: Path) -> bool:
    try:
        with held(folder):
            return fcntl is not None
    except OSError:
        return False


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder, which the system lets go when this process ends.

    Raises:
        OSError: another holds it, or there is no such folder.
    """
    if fcntl is None:  # Windows
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def remove_left_aside(path: Path, unfinished: Callable[[Path], bool]) -> None:
    """Remove the folders that were meant to be ``path`` and were left by processes that died.

    Args:
        path: of the folder that is to be made.
        unfinished: whether a folder holds what an interrupted making leaves, and nothing else.
            Any other stays, and a warning says so.
    """
    log = logging.getLogger("dcmu_jax")
    for left in left_aside(path):
        if left.is_dir() and unfinished(left):
            shutil.rmtree(left, ignore_errors=True)
            log.warning("%s was left of interrupted work and is removed.", left)
        else:
            log.warning("%s may be left of interrupted work. Remove it if so.", left)


@contextlib.contextmanager
def written_aside(path: FilePath) -> Iterator[Path]:
    """A path to write to in place of ``path``; renamed to it when the block ends well.

    Folders above ``path`` are made. When the block raises, the file aside is removed and whatever
    was at ``path`` stays as it was. So are files that processes left which were killed.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in left_aside(path):
        if not left.is_dir():
            left.unlink(missing_ok=True)
    aside = aside_of(path)
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


def write_text(path: FilePath, text: str) -> None:
    """Write a file of UTF-8; see ``written_aside``.

    What UTF-8 has no bytes for, as a name of a file that is in another encoding, is escaped.
    """
    with written_aside(path) as aside:
        aside.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_rows(
    path: FilePath, rows: Iterable[Mapping[str, Any]], columns: Iterable[str] = ()
) -> None:
    """Write a CSV file of ``rows``; see ``written_aside`` and ``write_text``.

    Its columns are those asked for, then all others that some row has. A field is empty where a
    row has ``None`` or no such column.
    """
    rows = list(rows)
    columns = list(dict.fromkeys([*columns, *(name for row in rows for name in row)]))
    with (
        written_aside(path) as aside,
        aside.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file,
    ):
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def write_json(path: FilePath, value: Any) -> None:
    """Write a JSON file; see ``written_aside`` and ``json_text``."""
    write_text(path, json_text(value, indent=2) + "\n")


def write_archive(path: FilePath, arrays: Mapping[str, Any]) -> None:
    """Write arrays as an ``npz`` archive; see ``written_aside``."""
    with written_aside(path) as aside, aside.open("wb") as file:
        np.savez(file, **arrays)

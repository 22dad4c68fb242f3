"""Atomic writes (to a temporary file, then renamed), and cleaning up after interrupted ones."""

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
"""A path: a text, a ``Path``, or anything else with ``__fspath__``."""


def expanded(path: FilePath) -> Path:
    """A path with ``~`` expanded; unchanged where there is no such home directory.

    >>> expanded("~nobody of that name/x").name
    'x'
    """
    with contextlib.suppress(RuntimeError, ValueError):
        return Path(path).expanduser()
    return Path(path)


def aside_of(path: Path) -> Path:
    """The temporary name, of this thread, of a file or folder that will be ``path``."""
    return path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.part")


def is_aside_of(name: str, target: str) -> re.Match[str] | None:
    """Whether a name is one that ``aside_of`` gives to ``target``, in any process and thread.

    It must match completely: any other name may be a copy that somebody made.
    """
    number = "([1-9][0-9]{{0,{}}})".format
    return re.fullmatch(rf"\.{re.escape(target)}\.{number(9)}\.{number(19)}\.part", name)


def left_aside(path: Path) -> list[Path]:
    """Temporary files and folders of ``path`` whose process has died.

    For a folder its lock tells (``held``), for a file the process id in its name.
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
    """Hold the lock of a folder; the system releases it when this process ends.

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
    """Remove temporary folders of ``path`` that were left by processes that died.

    Args:
        path: the folder that will be made.
        unfinished: whether a folder holds only what an interrupted write leaves.
            Any other folder stays, and a warning says so.
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
    """A temporary path, renamed to ``path`` when the block ends without an error.

    Parent folders are made. When the block raises, the temporary file is removed and whatever
    was at ``path`` stays. Temporary files of killed processes are removed, too.
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
    """A value as JSON text; every JSON file of this library is written so.

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

"""Files that appear whole or not at all, and what is left of those that did not."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import shutil
import threading
from collections.abc import Iterable, Iterator, Mapping
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


def aside_of(path: Path) -> Path:
    """Where this thread writes a file or fills a folder that will be ``path``."""
    return path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.part")


def left_aside(path: Path) -> list[Path]:
    """What lies beside ``path`` under a name of ``aside_of`` and nobody works on any more.

    Of a folder the lock says so (``held``), of a file the number of the process.
    """
    path = path.absolute()
    name = re.compile(rf"\.{re.escape(path.name)}\.([0-9]{{1,10}})(?:\.([0-9]{{1,20}}))?(\.part)?")
    found = []
    for other in sorted(path.parent.iterdir()) if path.parent.is_dir() else ():
        match = name.fullmatch(other.name)
        if not match or other.is_symlink():
            continue
        process, folder = int(match[1]), other.is_dir()
        gone = (folder and process != os.getpid()) or _has_gone(process, match[2])
        if gone and (_is_free(other) if folder else match[3]):
            found.append(other)
    return found


def _has_gone(process: int, thread: str | None) -> bool:
    if process == os.getpid():
        return str(thread) not in {str(alive.ident) for alive in threading.enumerate()}
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


def remove_left_aside(path: Path, names: Iterable[str]) -> None:
    """Remove the folders that were meant to be ``path`` and were left by processes that died.

    Args:
        path: of the folder that is to be made.
        names: that can lie in one; where anything else does, it stays, and a warning says so.
    """
    log = logging.getLogger("dcmu_jax")
    for left in left_aside(path):
        inside = {other.name for other in left.iterdir()} if left.is_dir() else {""}
        strange = [name for name in inside if name not in names and not name.endswith(".part")]
        if strange:
            log.warning("%s may be left of interrupted work. Remove it if so.", left)
        else:
            shutil.rmtree(left, ignore_errors=True)
            log.warning("%s was left of interrupted work and is removed.", left)


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


def write_json(path: FilePath, value: Any) -> None:
    """Write a JSON file; see ``written_aside`` and ``json_text``."""
    text = json_text(value, indent=2) + "\n"
    with written_aside(path) as aside:
        aside.write_text(text, encoding="utf-8")


def write_archive(path: FilePath, arrays: Mapping[str, Any]) -> None:
    """Write arrays as an ``npz`` archive; see ``written_aside``."""
    with written_aside(path) as aside, aside.open("wb") as file:
        np.savez(file, **arrays)

"""Checks of what a workspace is given: arguments from Python, and a folder that shall be one."""

from __future__ import annotations

import logging
import numbers
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dcmu_jax.audits.audit import FEWEST_ORACLES
from dcmu_jax.errors import InputError
from dcmu_jax.service.audits import AUDITS
from dcmu_jax.service.contents import FIXED, VERSIONS
from dcmu_jax.service.disk import aside_of
from dcmu_jax.service.entries import check_plain
from dcmu_jax.service.ledger import HEAD, LEDGER, damaged

MOST_ORACLES = 10_000
"""A population is held in memory at once."""


def check_kind(name: str, value: Any, kind: type | tuple[type, ...], allowed: str) -> None:
    """Raise ``InputError`` unless ``value`` is of a kind.

    Args:
        name: of the argument.
        value: that was given.
        kind: as ``isinstance`` takes it.
        allowed: what may be given, in words.
    """
    if not isinstance(value, kind):
        raise InputError(f"{name} = {value!r}", allowed, f"Give {name} one of these")


def listener(notify: Any) -> Callable[..., None]:
    """``notify`` for use while a workspace is worked on: its own ``OSError`` is not the disk's.

    Raises:
        InputError: it cannot be called.
    """
    if not callable(notify):
        raise InputError(f"notify = {notify!r}", "a function", "Leave notify out, or give print")

    def tell(*said: Any) -> None:
        try:
            notify(*said)
        except OSError as error:
            logging.getLogger("dcmu_jax").warning("notify failed (%s) at: %s", error, said)

    return tell


def folder_of(value: Any) -> Path:
    """The path of a workspace.

    Raises:
        InputError: it is no text and no path, or can be the name of nothing.
    """
    allowed, remedy = "a path as text, or a pathlib.Path", "Give the directory of the workspace"
    named = os.fspath(value) if isinstance(value, os.PathLike) else value
    if not isinstance(named, str) or "\0" in named:
        raise InputError(f"A workspace given as {value!r}", allowed, remedy)
    return Path(named)


def check_points(name: str, value: Any) -> None:
    """Raise ``InputError`` unless ``value`` is a number of points of accuracy."""
    number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not (number and 0 <= float(value) <= 100):
        raise InputError(
            f"{name} = {value!r}", "points of accuracy, 0 to 100", f"Set {name} to 5, say"
        )


def is_whole(value: Any) -> bool:
    """Whether a value is a whole number, of Python or NumPy, and no truth value."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def check_oracles(value: Any) -> None:
    """Raise ``InputError`` unless ``value`` is a number of oracles that an audit may have."""
    if not (is_whole(value) and FEWEST_ORACLES <= value <= MOST_ORACLES):
        raise InputError(
            f"An audit with {value!r} oracles",
            f"a whole number of them, from {FEWEST_ORACLES} to {MOST_ORACLES}",
            "Set oracles to 16, say",
        )


LEDGER_LOCK, WORK_LOCK = "ledger.lock", "work.lock"
LOCKS = (LEDGER_LOCK, WORK_LOCK)
_AUDIT = re.compile(r"\.?[0-9]{4,}\.json(\.part)?")
_RESTORE = (
    "Nothing was changed. Move it out of the workspace, and put back what was there from a copy"
)


def check_workspace(directory: Path) -> None:
    """Raise ``InputError`` where there is no workspace, or one without a ledger."""
    if os.path.lexists(directory / LEDGER):
        return
    if all(os.path.lexists(directory / name) for name in (HEAD, VERSIONS)):
        raise damaged(f"{LEDGER} is missing")
    raise InputError(
        f"{str(directory)!r} is no workspace",
        "a directory made by dcmu workspace",
        "Check the path, or make one of a run that dcmu train left: dcmu workspace RUN --out "
        "DIRECTORY",
    )


def check_outside(path: Path) -> None:
    """Raise ``InputError`` where what is to be written would lie in a workspace.

    There it would be a strange file, or be taken for one that has changed.
    """
    path = path.absolute()
    for folder in (path, *path.parents, *path.resolve().parents):
        if all(os.path.lexists(folder / name) for name in (LEDGER, HEAD)):
            raise InputError(
                f"The output {str(path)!r} within the workspace {str(folder)!r}",
                "files and folders outside every workspace: only the service writes into one",
                "Choose another --out",
            )


def check_shape(directory: Path) -> None:
    """Raise ``InputError`` unless all that a command opens can be what the service made.

    Nothing is opened. A file that is missing is left to who reads it, but for those of which the
    system would only say that they are not there.
    """
    check_plain(directory)
    if not os.path.lexists(directory / HEAD):
        raise damaged(f"{HEAD} is missing")
    for name in (LEDGER, HEAD, aside_of(directory / HEAD).name, *LOCKS, *FIXED):
        if (directory / name).is_dir():
            again = (
                "Nothing was changed. Move it out of the workspace: the next command makes the file"
            )
            raise _wrong(directory / name, "a folder", "a file", again if name in LOCKS else "")
    versions, audits = directory / VERSIONS, directory / AUDITS
    if not os.path.lexists(versions):
        raise InputError(
            f"{str(versions)!r} is missing",
            "the folder of all versions, as the service left it",
            "Nothing was changed. Put it back, or put back the whole workspace from a copy",
        )
    for folder in (versions, audits):
        if os.path.lexists(folder) and not folder.is_dir():
            raise _wrong(folder, "a file", "a folder")
    for path in sorted(audits.iterdir()) if audits.is_dir() else ():
        if _AUDIT.fullmatch(path.name) and path.is_dir():
            raise _wrong(path, "a folder", "a file")


def _wrong(path: Path, found: str, allowed: str, remedy: str = "") -> InputError:
    return InputError(f"{str(path)!r} is {found}", allowed, remedy or _RESTORE)

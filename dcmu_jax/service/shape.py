"""Checks that a folder is a workspace, by its top-level files and folders."""

from __future__ import annotations

import os
import re
from pathlib import Path

from dcmu_jax.errors import InputError
from dcmu_jax.service.audits import AUDITS
from dcmu_jax.service.contents import FIXED, VERSIONS
from dcmu_jax.service.disk import aside_of
from dcmu_jax.service.entries import check_plain
from dcmu_jax.service.ledger import HEAD, LEDGER, damaged

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

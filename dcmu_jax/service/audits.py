"""Where the audits of a workspace lie, how they are kept, and how they are read.

One is written aside, then entered in the ledger, and named last. So what is left of interrupted
work lies aside, and what has the name of an audit and is in no line comes of something else.
"""

from __future__ import annotations

import contextlib
import os
import shlex
from pathlib import Path
from typing import Any

from dcmu_jax.errors import InputError
from dcmu_jax.reading import parse_json
from dcmu_jax.service.disk import Disk, aside_of
from dcmu_jax.service.entries import read_plain
from dcmu_jax.service.history import History
from dcmu_jax.service.ledger import HEAD, LEDGER, sha256
from dcmu_jax.service.manifest import not_as_written

AUDITS = "audits"


def audit_path(directory: Path, version: int) -> Path:
    """Where the audit of a version lies."""
    return directory / AUDITS / f"{version:04d}.json"


def read_audit(directory: Path, history: History, version: int) -> Any:
    """What an audit of a version found; None where there was none.

    Raises:
        InputError: the file is not the one that the ledger names.
    """
    if version not in history.audits:
        return None
    path, data = audit_path(directory, version), b""
    for place in (path, aside_of(path), path):  # it may be named just now
        with contextlib.suppress(FileNotFoundError):
            data = read_plain(place)
            break
    if sha256(data) != history.audits[version]:
        raise not_as_written(str(path), "its bytes have changed, or it is missing")
    return parse_json(data, path, "the audit of a version", "Restore it from a copy")


def write_aside(disk: Disk, directory: Path, version: int, data: bytes) -> None:
    """Put an audit on disk, to be entered in the ledger and named next."""
    path = audit_path(directory, version)
    if not path.parent.is_dir():
        disk.make_folder(path.parent)
        disk.sync_folder(directory)
    disk.create(aside_of(path), data)
    disk.sync_folder(path.parent)


def settle_audits(disk: Disk, directory: Path, history: History) -> None:
    """Name the audit that the ledger tells of, and remove what is aside and in no line."""
    for entry in history.versions:
        path = audit_path(directory, entry.version)
        aside, hashed = aside_of(path), history.audits.get(entry.version)
        if not os.path.lexists(aside):
            continue
        if os.path.lexists(path) or sha256(read_plain(aside)) != hashed:
            disk.remove(aside)
        else:
            disk.put_in_place(path)


def check_none_lies_there(directory: Path, version: int) -> None:
    """Raise ``InputError`` where an audit of a version lies that the ledger does not know."""
    path = audit_path(directory, version)
    if os.path.lexists(path):
        raise InputError(
            not_in_the_ledger(path.relative_to(directory)),
            "a version that nothing lies there for",
            f"Nothing was changed. If an earlier {LEDGER} and {HEAD} were put back, put back the "
            f"later ones; or move it out of the workspace: mv {shlex.quote(str(path))} ELSEWHERE",
        )


def not_in_the_ledger(name: Path) -> str:
    """What is said of a file with the name of an audit that no line tells of."""
    return f"{name} has the name of an audit, and no line of {LEDGER} tells of it"

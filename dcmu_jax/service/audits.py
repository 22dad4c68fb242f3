"""The audits of a workspace: made of the current version, kept in files, read back.

One is written aside, then entered in the ledger, and named last. So what is left of interrupted
work lies aside, and what has the name of an audit and is in no line comes from something else.
"""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from dcmu_jax.audits.audit import FEWEST_ORACLES
from dcmu_jax.audits.checks import check_models
from dcmu_jax.data.requests import request_for_ids
from dcmu_jax.errors import InputError
from dcmu_jax.files import json_text
from dcmu_jax.reading import parse_json
from dcmu_jax.runs import stages
from dcmu_jax.runs.auditing import compared, plain_audit
from dcmu_jax.runs.comparable import check_comparable
from dcmu_jax.service.contents import Fixed, Version
from dcmu_jax.service.disk import Disk, aside_of
from dcmu_jax.service.entries import read_plain
from dcmu_jax.service.history import History
from dcmu_jax.service.ledger import HEAD, LEDGER, sha256
from dcmu_jax.service.manifest import not_as_written

AUDITS = "audits"
_WITHOUT = "A certificate without --audit needs no comparison"


def audit_path(directory: Path, version: int) -> Path:
    """The file of a version's audit."""
    return directory / AUDITS / f"{version:04d}.json"


def read_audit(directory: Path, history: History, version: int) -> Any:
    """The findings of a version's audit; None where there was none.

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
    """Write an audit under a temporary name; the ledger entry and the rename come next."""
    path = audit_path(directory, version)
    if not path.parent.is_dir():
        disk.make_folder(path.parent)
        disk.sync_folder(directory)
    disk.create(aside_of(path), data)
    disk.sync_folder(path.parent)


def settle_audits(disk: Disk, directory: Path, history: History) -> None:
    """Rename the audit that is in the ledger, and remove temporary ones that are not."""
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
    """Raise ``InputError`` for an audit file that the ledger does not know."""
    path = audit_path(directory, version)
    if os.path.lexists(path):
        raise InputError(
            not_in_the_ledger(path.relative_to(directory)),
            "a version that nothing lies there for",
            f"Nothing was changed. If an earlier {LEDGER} and {HEAD} were put back, put back the "
            f"later ones; or move it out of the workspace: mv {shlex.quote(str(path))} ELSEWHERE",
        )


def not_in_the_ledger(name: Path) -> str:
    """The message for an audit file that is in no line of the ledger."""
    return f"{name} has the name of an audit, and no line of {LEDGER} tells of it"


def audit_version(
    fixed: Fixed,
    version: Version,
    *,
    oracles: int = 16,
    notify: Callable[[int, int], None] = lambda done, of: None,
) -> bytes:
    """Train oracles on the retain set, and compare the network with them on all forgotten samples.

    Args:
        fixed: see ``Fixed``.
        version: the current one, whose forgotten images are not purged yet.
        oracles: how many, 4 or more.
        notify: told the number of trained oracles and of all.

    Returns:
        The audit as JSON.

    Raises:
        InputError: too few oracles; nothing forgotten whose images are still there; or too few
            samples for an attack.
    """
    check_models("oracle", oracles, FEWEST_ORACLES, "The audit")
    forgotten = np.setdiff1d(version.held.ids, version.train.ids)
    if not len(forgotten):
        raise InputError(
            "An audit of a version none of whose forgotten images are in the workspace",
            "a version that forgot something since the last purge",
            "Audit before dcmu purge; afterwards there is nothing to ask the network about",
        )
    config, splits = fixed.config, fixed.splits(version.held)
    usable = stages.usable_tests(config, splits, (config.preset,))
    request = request_for_ids(forgotten, version.held)
    check_comparable(config, splits, request, usable, _WITHOUT)
    (audit,), *_ = compared(
        config,
        fixed.model,
        splits,
        forgotten,
        {config.preset: version.network},
        usable=usable,
        oracles=oracles,
        notify=notify,
    )
    found: dict[str, Any] = plain_audit(audit) | {"forgotten": len(forgotten)}
    return (json_text(found, indent=1) + "\n").encode()

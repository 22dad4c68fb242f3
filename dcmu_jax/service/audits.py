"""Where the audits of a workspace lie, and how they are read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dcmu_jax.reading import parse_json
from dcmu_jax.service.entries import read_plain
from dcmu_jax.service.history import History
from dcmu_jax.service.ledger import sha256
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
    path = audit_path(directory, version)
    data = read_plain(path) if path.is_file() else b""
    if sha256(data) != history.audits[version]:
        raise not_as_written(str(path), "its bytes have changed, or it is missing")
    return parse_json(data, path, "the audit of a version", "Restore it from a copy")

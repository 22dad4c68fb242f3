"""The certificate of a version: what it forgot, when and how, at what cost, with what hashes."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from dcmu_jax.errors import InputError
from dcmu_jax.reading import parse_json
from dcmu_jax.service.contents import read_manifest, read_record
from dcmu_jax.service.entries import read_plain
from dcmu_jax.service.history import History
from dcmu_jax.service.ledger import sha256
from dcmu_jax.service.manifest import not_as_written
from dcmu_jax.service.remains import remains

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


def certificate(directory: Path, history: History, version: int) -> dict[str, Any]:
    """What is on record of a version, each piece checked against the hash that vouches for it.

    What it says of the forgotten images (``remains``) is read from the files as they are now.

    It says what was done; it is no proof that the network remembers nothing. Only an audit speaks
    of that, and only of what its attacks can see.

    Args:
        directory: of the workspace.
        history: of its ledger.
        version: its number.

    Raises:
        InputError: no such version, or one whose manifest or record has changed.
    """
    if not 0 <= version <= history.current.version:
        raise InputError(
            f"There is no version {version}",
            f"0..{history.current.version}",
            "dcmu status names the current one",
        )
    line, published = next(
        (line, entry) for line, entry in history.published.items() if entry.version == version
    )
    manifest = read_manifest(directory, history, version)
    left = remains(directory, history, version)
    return {
        "version": version,
        "published": published.time,
        "forgotten_in_all": len(history.forgotten_by(version)),
        "images_purged": not left.files,
        "remains": dataclasses.asdict(left),
        "record": read_record(directory, manifest),
        "audit": read_audit(directory, history, version),
        "hashes": {
            "ledger_line": line + 1,
            "ledger": history.ledger.hashes[line],
            "manifest": published.manifest,
            "manifest_before": manifest.previous,
            "parameters": manifest.parameters,
            "files": manifest.files,
        },
    }

"""The certificate of a version: what it forgot, when and how, at what cost, with what hashes."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dcmu_jax.data.copies import copies_of
from dcmu_jax.errors import InputError
from dcmu_jax.files import json_text
from dcmu_jax.reading import parse_json
from dcmu_jax.service.audits import read_audit
from dcmu_jax.service.contents import Fixed, agrees, read_held, read_manifest, read_record
from dcmu_jax.service.entries import read_plain
from dcmu_jax.service.given import is_whole
from dcmu_jax.service.history import History
from dcmu_jax.service.ledger import sha256
from dcmu_jax.service.remains import remains


def digest_of(certificate: Mapping[str, Any]) -> str:
    """SHA-256 (hex) of what a certificate says, without when the files were looked at."""
    left = {k: v for k, v in certificate["remains"].items() if k != "looked_at"}
    said = {name: certificate[name] for name in sorted(certificate)} | {"remains": left}
    return sha256(json_text(said).encode())


def named(folder: Path, certificate: Mapping[str, Any]) -> Path:
    """Where a certificate is written, without a suffix: never in the place of a different one.

    That is certificate-0001 for version 1. Where this is taken by a certificate that says something
    else, of another workspace or an earlier time, the first digits of its own digest are added.
    """
    plain = folder / f"certificate-{certificate['version']:04d}"
    taken = [plain.with_suffix(suffix) for suffix in (".json", ".html")]
    if not any(path.is_file() or path.is_symlink() for path in taken):
        return plain
    try:
        there = digest_of(parse_json(read_plain(taken[0]), taken[0], "a certificate", ""))
    except (InputError, OSError, KeyError, TypeError, AttributeError):
        there = ""
    own = digest_of(certificate)
    return plain if there == own else plain.with_name(f"{plain.name}-{own[:12]}")


_KINDS = ("train", "test", "remembrance")


def certificate(directory: Path, fixed: Fixed, history: History, version: int) -> dict[str, Any]:
    """The record of a version, each part checked against its hash.

    What it says of the forgotten images (``remains``) and of their copies (``copies``) is read from
    the files and the ledger as they are now.

    It says what was done; it is no proof that the network remembers nothing. Only an audit speaks
    of that, and only of what its attacks can see. ``images_purged`` is None where no image was
    found and what some files hold is not known.

    Args:
        directory: of the workspace.
        fixed: see ``Fixed``.
        history: of its ledger.
        version: its number.

    Raises:
        InputError: no such version, or one whose manifest or record has changed, or is contradicted
            by the ledger.
    """
    if not (is_whole(version) and 0 <= version <= history.current.version):
        raise InputError(
            f"There is no version {version!r}",
            f"0..{history.current.version}",
            "dcmu status names the current one",
        )
    line, published = next(
        (line, entry) for line, entry in history.published.items() if entry.version == version
    )
    manifest = read_manifest(directory, history, version)
    left = remains(directory, history, version)
    record = read_record(directory, manifest)
    if not agrees(record, history, version):
        raise InputError(
            f"The record of version {version}, which names other ids than the ledger",
            "a record and a ledger that say the same",
            "dcmu verify tells what else has changed; put back the workspace as it was",
        )
    return {
        "version": version,
        "published": published.time,
        "forgotten_in_all": len(history.forgotten_by(version)),
        "images_purged": None if left.unknown and not left.files else not left.files,
        "remains": dataclasses.asdict(left),
        "copies": _copies(directory, fixed, history, version, record),
        "record": record,
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


def _copies(
    directory: Path, fixed: Fixed, history: History, version: int, record: dict[str, Any]
) -> dict[str, Any] | None:
    """Copies of a batch's images, and whether they are kept, pending or forgotten by now.

    None for a version that forgot no batch, and where neither the images nor the record tell.
    """
    if version not in history.batches:
        return None
    ids = history.ids_of(history.batches[version].lines)
    known, read = record.get("copies"), False
    copies = {name: np.asarray((known or {}).get(name, ()), np.int64) for name in _KINDS}
    with contextlib.suppress(InputError, OSError):  # damaged images: the record tells what it knew
        held = read_held(directory, fixed, history)
        if np.isin(ids, held.ids).all():
            remembered = np.asarray(copies["remembrance"], np.int64)
            found = copies_of(ids, held, fixed.test, remembered)
            copies |= {"train": np.union1d(copies["train"], found.train), "test": found.test}
            read = True
    if known is None and not read:
        return None
    train = np.setdiff1d(copies["train"], ids)
    gone, waiting = history.forgotten, history.waiting
    return {
        "train": np.setdiff1d(train, np.union1d(gone, waiting)).tolist(),
        "test": copies["test"].tolist(),
        "remembrance": copies["remembrance"].tolist(),
        "waiting": np.intersect1d(train, waiting).tolist(),
        "forgotten": np.intersect1d(train, gone).tolist(),
        "images_read": read,
    }

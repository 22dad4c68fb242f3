"""The status of a workspace: counts from the ledger, and forgotten images in its files."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from dcmu_jax.service.contents import NETWORK, Fixed, version_folder
from dcmu_jax.service.history import History
from dcmu_jax.service.leftovers import (
    misplaced_notes,
    missing_of,
    notes_of,
    purge_undone,
    unpublished,
)
from dcmu_jax.service.remains import remains, unknown_note


@dataclasses.dataclass(frozen=True)
class Status:
    """The status of a workspace.

    Attributes:
        version: the current one.
        published: when, in UTC.
        network: the folder of its network.
        retained: samples that it can still train on.
        forgotten: samples that it and those before forgot.
        pending: samples that wait.
        refused: why the gate did not let the last try to forget them through; None where it did
            not refuse.
        max_accuracy_loss: points of test accuracy that a batch may cost.
        interrupted: the version that was begun and not published, if any.
        unpurged: forgotten samples whose images lie in the workspace, as its files say.
        head: SHA-256 of the ledger's last line: who keeps it elsewhere can tell a ledger that was
            written again.
        notes: what is missing of a version; what lies in the workspace, or beside it, and was not
            published.
    """

    version: int
    published: str
    network: Path
    retained: int
    forgotten: int
    pending: int
    refused: str | None
    max_accuracy_loss: float
    interrupted: int | None
    unpurged: int
    head: str
    notes: tuple[str, ...]


def status(directory: Path, fixed: Fixed, history: History) -> Status:
    """See ``Workspace.status``."""
    undone = purge_undone(directory, history, unpublished(directory, history))
    current, left = history.current, remains(directory, history)
    return Status(
        version=current.version,
        published=current.time,
        network=version_folder(directory, current.version) / NETWORK,
        retained=len(fixed.known) - len(history.forgotten),
        forgotten=len(history.forgotten),
        pending=len(history.waiting),
        refused=history.refusals[-1].entry.reason if history.refusals else None,
        max_accuracy_loss=history.max_accuracy_loss,
        interrupted=history.open.version if history.open else None,
        unpurged=left.images,
        head=history.ledger.hashes[-1],
        notes=(
            *([undone] if undone else missing_of(directory, history)),
            *misplaced_notes(directory, history),
            *notes_of(directory, history),
            *unknown_note(left),
        ),
    )

"""The state that a ledger describes: forgotten and pending ids, and the current version."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any

import numpy as np

from dcmu_jax.service.ledger import (
    MAX_ACCURACY_LOSS,
    Audited,
    Begun,
    Created,
    Ledger,
    Left,
    Limited,
    Published,
    Refused,
    Requested,
    damaged,
)


@dataclasses.dataclass(frozen=True)
class Batch:
    """The requests that one version forgets together.

    Attributes:
        version: that forgets them.
        through: line of the last of them.
        lines: of all of them; ascending.
        settings: see ``Begun``.
        accepted_loss: likewise.
        base: likewise.
    """

    version: int
    through: int
    lines: tuple[int, ...]
    settings: dict[str, Any] | None = None
    accepted_loss: float | None = None
    base: int | None = None


def batch_of(begun: Begun, lines: tuple[int, ...]) -> Batch:
    """The batch of these lines that was begun so."""
    return Batch(
        begun.version, begun.through, lines, begun.settings, begun.accepted_loss, begun.base
    )


@dataclasses.dataclass(frozen=True)
class Refusal:
    """A batch that the gate refused."""

    batch: Batch
    entry: Refused


@dataclasses.dataclass(frozen=True)
class History:
    """A ledger, replayed. Lines count from 0.

    Attributes:
        ledger: it.
        created: its first line.
        requests: line -> request.
        published: line -> publication, in the order of versions.
        batches: version -> the batch that it forgot.
        open: a batch that was begun and not published.
        pending: lines of requests that no batch holds yet, or none any more that was refused.
        audits: version -> SHA-256 of its audit.
        refusals: of what is pending or in the open batch.
        refused: version -> what was refused before it forgot the same requests.
        max_accuracy_loss: the gate's limit now.
    """

    ledger: Ledger
    created: Created
    requests: dict[int, Requested]
    published: dict[int, Published]
    batches: dict[int, Batch]
    open: Batch | None
    pending: tuple[int, ...]
    audits: dict[int, str]
    refusals: tuple[Refusal, ...]
    refused: dict[int, tuple[Refusal, ...]]
    max_accuracy_loss: float

    @property
    def versions(self) -> list[Published]:
        """Every version, ascending."""
        return list(self.published.values())

    @property
    def current(self) -> Published:
        """The version that is published."""
        return self.versions[-1]

    @property
    def purged_before(self) -> int:
        """Versions below this one hold no images, banks or networks any more."""
        return max((p.version for p in self.versions if p.change == "purge"), default=0)

    def ids_of(self, lines: tuple[int, ...]) -> np.ndarray:
        """The ids of some requests, int64, ascending."""
        ids = [np.asarray(self.requests[line].ids, np.int64) for line in lines]
        return np.sort(np.concatenate([np.empty(0, np.int64), *ids]))

    def forgotten_by(self, version: int) -> np.ndarray:
        """The ids that a version and all before it have forgotten, int64, ascending."""
        batches = [self.batches[v].lines for v in sorted(self.batches) if v <= version]
        return self.ids_of(tuple(line for lines in batches for line in lines))

    @property
    def forgotten(self) -> np.ndarray:
        """The ids that the current version has forgotten, int64, ascending."""
        return self.forgotten_by(self.current.version)

    @property
    def waiting(self) -> np.ndarray:
        """The ids that were acknowledged and are not forgotten yet, int64, ascending."""
        return self.ids_of((*(self.open.lines if self.open else ()), *self.pending))

    def digest(self, through: int | None = None) -> str:
        """SHA-256 of the ids of all requests in their order, up to a line.

        Nothing else enters, the time least of all: the same requests give the same digest, and
        with it the same seeds, whenever they were made and however often they were interrupted.
        """
        digest = hashlib.sha256()
        for line, request in self.requests.items():
            if (through is None or line <= through) and request.ids:
                digest.update(np.asarray([len(request.ids), *request.ids], "<i8").tobytes())
        return digest.hexdigest()


def replay(ledger: Ledger) -> History:
    """Replay a ledger line by line.

    Raises:
        InputError: its lines contradict each other.
    """
    requests: dict[int, Requested] = {}
    published: dict[int, Published] = {}
    batches: dict[int, Batch] = {}
    audits: dict[int, str] = {}
    seen: set[int] = set()
    opened: Batch | None = None
    pending: tuple[int, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    refused: dict[int, tuple[Refusal, ...]] = {}
    limit = MAX_ACCURACY_LOSS
    for line, entry in enumerate(ledger.entries):
        following = len(published)
        match entry:
            case Created():
                fits = line == 0
                limit = entry.max_accuracy_loss
            case Limited():
                fits = bool(published)
                limit = entry.max_accuracy_loss
            case Requested():
                fits = line > 0 and not seen.intersection(entry.ids)
                fits = fits and list(entry.ids) == sorted(set(entry.ids))
                fits = fits and bool(entry.ids or entry.reference)
                seen.update(entry.ids)
                requests[line] = entry
                pending = (*pending, line) if entry.ids else pending
            case Begun():
                chosen = tuple(request for request in pending if request <= entry.through)
                fits = opened is None and entry.version == following > 0
                # What is begun again of an earlier version may have nothing new to forget.
                fits = fits and (bool(chosen) or entry.base is not None)
                fits = fits and (entry.base is None or entry.base < following - 1)
                opened = batch_of(entry, chosen)
                pending = pending[len(chosen) :]
            case Left():
                fits = opened is not None and entry.version == opened.version
                pending = (*(opened.lines if opened else ()), *pending)
                opened = None
            case Refused():
                fits = opened is not None and entry.version == opened.version
                if opened is not None:
                    refusals = (*refusals, Refusal(opened, entry))
                    pending = (*opened.lines, *pending)
                opened = None
            case Published():
                fits = entry.version == following and (entry.change == "created") == (line == 1)
                if entry.change == "batch":
                    fits = fits and opened is not None
                    if opened is not None:
                        batches[entry.version] = opened
                        refused[entry.version], refusals = refusals, ()
                    opened = None
                fits = fits and opened is None
                published[line] = entry
            case Audited():
                fits = entry.version < following
                audits[entry.version] = entry.file
        if not fits:
            raise damaged(f"line {line + 1} ({entry.kind}) does not follow from those before")
    if len(ledger.entries) < 2 or not isinstance(ledger.entries[0], Created) or not published:
        raise damaged("it does not begin with a workspace and its first version")
    return History(
        ledger=ledger,
        created=ledger.entries[0],
        requests=requests,
        published=published,
        batches=batches,
        open=opened,
        pending=pending,
        audits=audits,
        refusals=refusals,
        refused=refused,
        max_accuracy_loss=limit,
    )

"""The ledger: an append-only file of JSON lines, each with the hash of the one before.

Beside it lies its *head*: how many bytes of the ledger are acknowledged, and the hash of the last
line among them. A line is acknowledged once it is on disk and the head that counts it is, too. So
what a crash left half-written lies beyond the head, and is known from damage to what was
acknowledged, which lies before it.
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import pydantic

from dcmu_jax.errors import InputError
from dcmu_jax.service.disk import Disk, aside_of
from dcmu_jax.service.entries import read_plain

LEDGER, HEAD = "ledger.jsonl", "ledger.head"
STRICT = pydantic.ConfigDict(extra="forbid")
"""For dataclasses that are read from files: an unknown field is refused."""
Hash = Annotated[str, pydantic.StringConstraints(pattern="^[0-9a-f]{64}$")]
Count = Annotated[int, pydantic.Field(ge=0, lt=2**63)]
Id = Annotated[int, pydantic.Field(ge=-(2**63), lt=2**63)]
Points = Annotated[float, pydantic.Field(ge=0, le=100)]
Percent = Annotated[float, pydantic.Field(ge=0, le=100)]
MAX_ACCURACY_LOSS = 5.0
"""Points of test accuracy that a batch may cost by default."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Line:
    """What every line has; ``append`` fills it in.

    Attributes:
        previous: SHA-256 of the line before; empty in the first. Its default is no hash, so that a
            line that lacks it breaks the chain.
        time: when, in UTC.
    """

    __pydantic_config__: ClassVar = STRICT
    previous: str = "-"
    time: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Created(_Line):
    """The first line: what never changes in the workspace.

    Attributes:
        files: name -> SHA-256 of the files that never change.
        max_accuracy_loss: the gate's limit until a ``Limited`` line sets another.
    """

    kind: Literal["created"] = "created"
    format: Literal[1] = 1
    files: dict[str, Hash]
    max_accuracy_loss: Points = MAX_ACCURACY_LOSS


@dataclasses.dataclass(frozen=True, kw_only=True)
class Requested(_Line):
    """A deletion request that was acknowledged.

    Attributes:
        text: as it was written.
        reference: the client's own name of it, if it gave one.
        ids: that it named and no earlier line did; ascending. None, where a request with a
            reference named only such as were known before.
        copies: how many of them it did not name: the same images under other ids, asked for too.
        asked: SHA-256 of all ids that it named or drew (``requesting.ids_digest``). None in
            ledgers that are older than this field.
        drawn: SHA-256 of what a ``random`` was drawn beside, and of its fraction
            (``requesting.Terms``). None where nothing was drawn, or as ``asked``.
        whole: SHA-256 of what it asked for together with all copies of it, by which a client may
            name the same request. None where no copies could be looked for, or as ``asked``.
    """

    kind: Literal["request"] = "request"
    text: str
    reference: str | None
    ids: tuple[Id, ...]
    copies: Count = 0
    asked: Hash | None = None
    drawn: Hash | None = None
    whole: Hash | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Begun(_Line):
    """A batch was closed: the next version forgets every request up to line ``through``.

    Attributes:
        version: that shall forget it.
        through: line of the last request in it.
        settings: ``gate.BatchSettings`` as JSON; None for those of the workspace.
        accepted_loss: the gate's limit for this batch alone; None for that of the workspace.
        base: the version that it starts from, where the network of the current one is of no use;
            None for the current one.
    """

    kind: Literal["begin"] = "begin"
    version: Count
    through: Count
    settings: dict[str, Any] | None = None
    accepted_loss: Points | None = None
    base: Count | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Left(_Line):
    """A batch was abandoned: its requests are pending again.

    Attributes:
        version: that it would have been.
    """

    kind: Literal["leave"] = "leave"
    version: Count


@dataclasses.dataclass(frozen=True, kw_only=True)
class Refused(_Line):
    """The gate refused a batch: its requests are pending again.

    Attributes:
        version: that it would have been.
        reason: in words.
        before: test accuracy (%) on the classes that stay, of the network before; None where there
            is nothing to measure it on.
        after: the same of the network that was refused; None also where that is of no use.
        limit: points that might have been lost.
    """

    kind: Literal["refuse"] = "refuse"
    version: Count
    reason: str
    before: Percent | None
    after: Percent | None
    limit: Points


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limited(_Line):
    """The gate's limit from here on, in points of test accuracy."""

    kind: Literal["limit"] = "limit"
    max_accuracy_loss: Points


@dataclasses.dataclass(frozen=True, kw_only=True)
class Published(_Line):
    """A version is the current one from here on.

    Attributes:
        change: from the version before: forgot a ``batch``, or a ``purge``.
        manifest: SHA-256 of its manifest.
    """

    kind: Literal["publish"] = "publish"
    version: Count
    change: Literal["created", "batch", "purge"]
    manifest: Hash


@dataclasses.dataclass(frozen=True, kw_only=True)
class Audited(_Line):
    """A version was audited; ``file`` is the SHA-256 of what came out."""

    kind: Literal["audit"] = "audit"
    version: Count
    file: Hash


Entry = Created | Requested | Begun | Left | Refused | Limited | Published | Audited
_ENTRY = pydantic.TypeAdapter(Annotated[Entry, pydantic.Field(discriminator="kind")])


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Head:
    __pydantic_config__: ClassVar = STRICT
    bytes: Count
    sha256: Hash


_HEAD = pydantic.TypeAdapter(_Head)


@dataclasses.dataclass(frozen=True)
class Ledger:
    """What was read.

    Attributes:
        entries: of every whole line, acknowledged or not.
        hashes: SHA-256 of each line, its line break included.
        size: bytes of these lines.
        acknowledged: bytes that the head counts; not above ``size``.
        torn: what lies beyond ``size``: of a line that was not finished.
    """

    entries: tuple[Entry, ...] = ()
    hashes: tuple[str, ...] = ()
    size: int = 0
    acknowledged: int = 0
    torn: bytes = dataclasses.field(default=b"", compare=False)


def sha256(data: bytes) -> str:
    """SHA-256 in hex."""
    return hashlib.sha256(data).hexdigest()


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def damaged(what: str) -> InputError:
    """The error for a damaged ledger."""
    return InputError(
        f"The ledger is damaged: {what}",
        "the ledger and its head as they were written",
        f"Nothing was changed. Put back {LEDGER} and {HEAD} as they were at the last request; "
        "of an earlier copy take the whole workspace, and ask again what was requested since",
    )


def read_ledger(directory: Path) -> Ledger:
    """Read the ledger of a workspace; changes nothing, and needs no lock.

    A crash leaves one line beyond the head, whole or not. Whole lines of the chain count, however
    many there are. A line that was not finished is taken for one that was never acknowledged: it is
    passed over here, and cut off by the next ``append``.

    Raises:
        InputError: anything acknowledged is not as it was written; or what is beyond the head
            cannot come from a crash: an earlier head was put back then, and what was acknowledged
            since has changed.
        OSError: a file cannot be read.
    """
    while True:
        raw_head = read_plain(directory / HEAD)  # first: the ledger only grows
        data = read_plain(directory / LEDGER)
        try:
            return _read(raw_head, data)
        except InputError:
            if read_plain(directory / HEAD) == raw_head:  # or others wrote meanwhile
                raise


def _read(raw_head: bytes, data: bytes) -> Ledger:
    try:
        head = _HEAD.validate_json(raw_head, strict=True)
    except pydantic.ValidationError as error:
        raise damaged(f"{HEAD}: {error.errors()[0]['msg']}") from error
    if _head_bytes(head.bytes, head.sha256) != raw_head:
        raise damaged(f"{HEAD} is not as it is written")
    known = _lines(data[: head.bytes])
    if known.size != head.bytes or len(data) < head.bytes:
        raise damaged(
            f"line {len(known.entries) + 1} is not as it was acknowledged"
            if len(data) >= head.bytes
            else f"{head.bytes} bytes were acknowledged, {len(data)} are there"
        )
    if not known.hashes or known.hashes[-1] != head.sha256:
        raise damaged(f"line {len(known.entries)} does not have the hash in {HEAD}")
    found = _lines(data, known)
    torn = data[found.size :]
    # Whoever adds a line acknowledges first what is there, so no crash leaves more than one.
    if torn and (found.size > known.size or b"\n" in torn or _holds_more_than_an_entry(torn)):
        raise damaged(
            f"line {len(found.entries) + 1} is not as it was written, and no crash leaves such a "
            f"line behind what {HEAD} counts, so that {HEAD} may be an earlier one"
        )
    return dataclasses.replace(found, acknowledged=head.bytes, torn=torn)


def _holds_more_than_an_entry(torn: bytes) -> bool:
    """Whether something else follows where the end of the line should."""
    try:
        text = torn.decode()
        return json.JSONDecoder().raw_decode(text)[1] < len(text)
    except (ValueError, RecursionError):
        return False


def _lines(data: bytes, start: Ledger | None = None) -> Ledger:
    """The lines of ``data`` up to the first that is incomplete or breaks the chain."""
    start = start or Ledger()
    entries, hashes, size = list(start.entries), list(start.hashes), start.size
    while (end := data.find(b"\n", size) + 1) > 0:
        line = data[size:end]
        try:
            entry = _ENTRY.validate_json(line, strict=True)
        except pydantic.ValidationError:
            break
        if not entry.time or entry.previous != (hashes[-1] if hashes else ""):
            break
        entries.append(entry)
        hashes.append(sha256(line))
        size = end
    return Ledger(tuple(entries), tuple(hashes), size)


def _head_bytes(size: int, hashed: str) -> bytes:
    return (json.dumps({"bytes": size, "sha256": hashed}) + "\n").encode()


def create_ledger(
    disk: Disk,
    directory: Path,
    files: dict[str, str],
    max_accuracy_loss: float = MAX_ACCURACY_LOSS,
) -> Ledger:
    """The first line of a new ledger, and its head."""
    disk.create(directory / LEDGER, b"")
    first = Created(files=files, max_accuracy_loss=max_accuracy_loss)
    return append(disk, directory, Ledger(), first)


def settle(disk: Disk, directory: Path, ledger: Ledger) -> Ledger:
    """Acknowledge complete lines beyond the head, whose writer died before it could.

    What an interrupted replacement of the head left is removed. To be called under the ledger's
    lock, before anything is answered or added.
    """
    disk.remove(aside_of(directory / HEAD))
    if ledger.size == ledger.acknowledged:
        return ledger
    disk.sync(directory / LEDGER)
    disk.replace(directory / HEAD, _head_bytes(ledger.size, ledger.hashes[-1]))
    return dataclasses.replace(ledger, acknowledged=ledger.size)


def append(disk: Disk, directory: Path, ledger: Ledger, entry: Entry) -> Ledger:
    """Add a line; it is acknowledged when this returns. To be called under the ledger's lock.

    Args:
        disk: see ``Disk``.
        directory: of the workspace.
        ledger: as it was just read and settled.
        entry: its ``previous`` is filled in here, and its ``time`` where it has none.
    """
    previous = ledger.hashes[-1] if ledger.hashes else ""
    entry = dataclasses.replace(entry, previous=previous, time=entry.time or now())
    fields = dataclasses.asdict(entry)
    last = {name: fields.pop(name) for name in ("previous", "time")}
    line = (json.dumps(fields | last, separators=(",", ":"), allow_nan=False) + "\n").encode()
    # What could not be read back must never be acknowledged.
    if _ENTRY.validate_json(line, strict=True) != entry:
        raise damaged(f"a line of kind {entry.kind!r} that reads back as another")
    disk.append(directory / LEDGER, ledger.size, line)
    size = ledger.size + len(line)
    disk.replace(directory / HEAD, _head_bytes(size, sha256(line)))
    return Ledger((*ledger.entries, entry), (*ledger.hashes, sha256(line)), size, size)

"""Which forgotten images are still in a workspace, read from its files each time."""

from __future__ import annotations

import dataclasses
import zipfile
from pathlib import Path

import numpy as np

from dcmu_jax.errors import InputError
from dcmu_jax.reading import Archive
from dcmu_jax.service import contents
from dcmu_jax.service.audits import audit_path
from dcmu_jax.service.disk import aside_of
from dcmu_jax.service.entries import open_plain, read_plain
from dcmu_jax.service.given import LOCKS
from dcmu_jax.service.history import History
from dcmu_jax.service.ledger import HEAD, LEDGER, now, sha256
from dcmu_jax.service.manifest import MANIFEST, decode, files_below, hash_file

_HEAD_STARTS, _HEAD_FITS, _LINE_STARTS = b'{"bytes": ', 200, b'{"kind":"'


@dataclasses.dataclass(frozen=True)
class Remains:
    """What was found.

    Attributes:
        looked_at: when, in UTC.
        images: forgotten samples whose images were found in the workspace.
        files: path below the workspace -> how many of them it holds; None where the service kept
            images in it and it cannot be read, so that it may hold any.
        made_of_them: paths of earlier banks and networks, which the images have a part in.
        unknown: paths of all other files that are not, byte for byte, what the service wrote under
            their names: what they hold is not known. The folder of a version that is being written
            is one of them.
    """

    looked_at: str
    images: int
    files: dict[str, int | None]
    made_of_them: list[str]
    unknown: list[str]


def remains(directory: Path, history: History, version: int | None = None) -> Remains:
    """Look for the images of forgotten samples and for files made from them.

    Every file below the workspace is compared with the hash that vouches for it. What has none, or
    another, is opened: an archive that names a forgotten id holds its image. That it names none
    says nothing, as anybody may have written it, but for copies of the service's own archives.

    Args:
        directory: of the workspace.
        history: of its ledger.
        version: look for what this batch forgot, or for all that this version and those before
            forgot if it is none; for all that was forgotten if not given.
    """
    number = history.current.version if version is None else version
    gone = history.forgotten_by(number)
    if version in history.batches:
        gone = history.ids_of(history.batches[version].lines)
    vouched = _vouched_for(directory, history)
    data = {hashed for name, hashed in vouched.items() if Path(name).name == contents.DATA}
    numbers = range(history.current.version + 1)
    places = {contents.version_folder(directory, n) / contents.DATA for n in numbers}
    files: dict[str, int | None] = {}
    present, unknown, below = np.empty(0, np.int64), set(), files_below(directory)
    for name, path in below.items():
        try:
            hashed = _hash(path)
            as_written = hashed == vouched.get(name, "") or _is_of_the_ledger(name, path, history)
            if as_written and path.name != contents.DATA:
                continue
            ids = _ids_in(path)
        except FileNotFoundError:  # a purge goes on
            continue
        here = np.empty(0, np.int64) if ids is None else np.intersect1d(gone, ids)
        if len(here):
            files[name] = len(here)
        elif ids is None and path in places and len(gone):
            files[name], here = None, gone
        elif hashed not in data:
            unknown.add(_shown(directory, history, path, name))
        present = np.union1d(present, here)
    made = [
        inside
        for earlier in range(number if len(gone) else 0)
        for part in (contents.BANK, contents.NETWORK, contents.START)
        for inside in [(contents.version_folder(directory, earlier) / part).relative_to(directory)]
        if any(Path(name).is_relative_to(inside) for name in below)
    ]
    made_of_them = [path.as_posix() for path in made]
    return Remains(now(), len(present), files, made_of_them, sorted(unknown))


def unknown_note(left: Remains) -> list[str]:
    """A note of ``status`` and ``verify``; none where every file is known."""
    if not left.unknown:
        return []
    return [f"What these files hold is not known, forgotten images perhaps: {listed(left.unknown)}"]


_SHOWN_FILES = 20


def listed(names: list[str]) -> str:
    """Names in one line, twenty at most."""
    more = f" and {len(names) - _SHOWN_FILES} more" if len(names) > _SHOWN_FILES else ""
    return ", ".join(names[:_SHOWN_FILES]) + more


def _vouched_for(directory: Path, history: History) -> dict[str, str]:
    """Path below the workspace -> hash, for every file in the ledger or a manifest.

    A manifest that cannot be read vouches for nothing.
    """
    current = history.current.version
    vouched = dict(history.created.files) | dict.fromkeys(LOCKS, sha256(b""))
    for version, hashed in history.audits.items():
        path = audit_path(directory, version)
        for place in (path, aside_of(path)):
            vouched[place.relative_to(directory).as_posix()] = hashed
    for number in range(current + 2):
        folder = contents.version_folder(directory, number)
        path = folder / MANIFEST
        try:
            if number <= current:
                files = contents.read_manifest(directory, history, number).files
            else:  # finished perhaps, and not published
                manifest = decode(read_plain(path), path)
                files = manifest.files if manifest.previous == history.current.manifest else {}
            files = {MANIFEST: hash_file(path), **files}
        except (InputError, OSError):
            continue
        inside = folder.relative_to(directory)
        vouched |= {(inside / name).as_posix(): hashed for name, hashed in files.items()}
    return vouched


def _is_of_the_ledger(name: str, path: Path, history: History) -> bool:
    """Whether a file is the ledger or its head, which were read, or a head being replaced."""
    if name == LEDGER:
        torn = history.ledger.torn
        return torn.isascii() and torn[: len(_LINE_STARTS)] == _LINE_STARTS[: len(torn)]
    if name == aside_of(Path(HEAD)).name:
        with open_plain(path) as file:
            start = file.read(_HEAD_FITS + 1)
        starts = start[: len(_HEAD_STARTS)] == _HEAD_STARTS[: len(start)]
        return starts and start.isascii() and len(start) <= _HEAD_FITS
    return name == HEAD


def _shown(directory: Path, history: History, path: Path, name: str) -> str:
    """What names a file: itself, or the folder in which the next version is being written."""
    part = contents.part_of(directory, history.current.version + 1)
    return part.relative_to(directory).as_posix() if part in path.parents else name


def _hash(path: Path) -> str | None:
    """The hash of a file; None if it cannot be read."""
    try:
        return hash_file(path)
    except FileNotFoundError:
        raise
    except (OSError, InputError):
        return None


def _ids_in(path: Path) -> np.ndarray | None:
    """The ids in an archive of images; None if it is none, or cannot be read."""
    try:
        with open_plain(path) as file:
            if not zipfile.is_zipfile(file):  # another file may be of any size
                return None
            file.seek(0)
            with Archive(file) as archive:
                members = archive.members
                if "images" not in members or "cluster" in members:  # of a bank
                    return None
                return archive.read("ids").astype(np.int64)
    except FileNotFoundError:
        raise
    except Exception:  # of any kind: see reading.Archive
        return None

"""What of forgotten images lies in a workspace: read from its files whenever something is said."""

from __future__ import annotations

import dataclasses
import zipfile
from pathlib import Path

import numpy as np

from dcmu_jax.errors import InputError
from dcmu_jax.service.audits import audit_path
from dcmu_jax.service.contents import (
    BANK,
    DATA,
    NETWORK,
    START,
    part_of,
    read_manifest,
    version_folder,
)
from dcmu_jax.service.creating import TOP
from dcmu_jax.service.disk import aside_of
from dcmu_jax.service.entries import open_plain
from dcmu_jax.service.history import History
from dcmu_jax.service.ledger import HEAD, now
from dcmu_jax.service.manifest import MANIFEST, files_below


@dataclasses.dataclass(frozen=True)
class Remains:
    """What was found.

    Attributes:
        looked_at: when, in UTC.
        images: forgotten samples whose images lie in the workspace.
        files: path below the workspace -> how many of them it holds; None where it holds images
            and cannot be read, so that it may hold any.
        made_of_them: paths of earlier banks and networks, which the images have a part in.
        unknown: paths of files that the service did not write and that are no archives of images:
            what they hold is not known.
    """

    looked_at: str
    images: int
    files: dict[str, int | None]
    made_of_them: list[str]
    unknown: list[str]


def remains(directory: Path, history: History, version: int | None = None) -> Remains:
    """Look for the images of forgotten samples, and for what was made of them.

    Every archive of images below the workspace is read, in whatever folder it lies and whatever
    its name is. Of other files that the service did not write only the names are known.

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
    files: dict[str, int | None] = {}
    present, unknown = np.empty(0, np.int64), []
    strange = strangers(directory, history)
    for path in sorted({*directory.rglob(DATA), *strange}) if len(gone) else strange:
        name = path.relative_to(directory).as_posix()
        try:
            ids = _ids_in(path)
        except FileNotFoundError:  # a purge goes on
            continue
        if ids is None and path.name != DATA:
            unknown.append(name)
            continue
        here = gone if ids is None else np.intersect1d(gone, ids)
        if len(here):
            files[name] = None if ids is None else len(here)
        present = np.union1d(present, here)
    made = [
        (version_folder(directory, earlier) / name).relative_to(directory).as_posix()
        for earlier in range(number if len(gone) else 0)
        for name in (BANK, NETWORK, START)
        if (version_folder(directory, earlier) / name).exists()
    ]
    return Remains(now(), len(present), files, made, unknown)


def strangers(directory: Path, history: History) -> list[Path]:
    """The files below a workspace that are none of the service's, ascending.

    Where a manifest cannot be read, what lies under the names that the service gives is not one.
    """
    numbers = range(history.current.version + 1)
    known = {Path(name) for name in (*TOP, aside_of(directory / HEAD).name)}
    audits = [audit_path(directory, number) for number in numbers]
    known |= {path.relative_to(directory) for a in audits for path in (a, aside_of(a))}
    beginnings = [part_of(directory, len(numbers)), version_folder(directory, len(numbers))]
    for number in numbers:
        folder = version_folder(directory, number)
        try:
            names = [*read_manifest(directory, history, number).files, MANIFEST]
            known |= {(folder / name).relative_to(directory) for name in names}
        except (InputError, OSError):
            beginnings.append(folder)
    started = tuple(f"{path.relative_to(directory).as_posix()}/" for path in beginnings)
    return [
        path
        for name, path in files_below(directory).items()
        if Path(name) not in known and not name.startswith(started)
    ]


def _ids_in(path: Path) -> np.ndarray | None:
    """The ids in an archive of images; None if it is none, or cannot be read."""
    try:
        with open_plain(path) as file:
            if not zipfile.is_zipfile(file):  # another file may be of any size
                return None
            file.seek(0)
            with np.load(file, allow_pickle=False) as archive:
                if "images" not in archive.files or "cluster" in archive.files:  # of a bank
                    return None
                return np.asarray(archive["ids"]).astype(np.int64)
    except FileNotFoundError:
        raise
    except (OSError, ValueError, KeyError, EOFError, TypeError, InputError, zipfile.BadZipFile):
        return None

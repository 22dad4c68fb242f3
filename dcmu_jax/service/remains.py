"""What of forgotten images lies in a workspace: read from its files whenever something is said."""

from __future__ import annotations

import dataclasses
import zipfile
from pathlib import Path

import numpy as np

from dcmu_jax.errors import InputError
from dcmu_jax.service.contents import BANK, DATA, NETWORK, START, version_folder
from dcmu_jax.service.entries import open_plain
from dcmu_jax.service.history import History
from dcmu_jax.service.ledger import now


@dataclasses.dataclass(frozen=True)
class Remains:
    """What was found.

    Attributes:
        looked_at: when, in UTC.
        images: forgotten samples whose images lie in the workspace.
        files: path below the workspace -> how many of them it holds; None where it holds images
            and cannot be read, so that it may hold any.
        made_of_them: paths of earlier banks and networks, which the images have a part in.
    """

    looked_at: str
    images: int
    files: dict[str, int | None]
    made_of_them: list[str]


def remains(directory: Path, history: History, version: int | None = None) -> Remains:
    """Look for the images of forgotten samples, and for what was made of them.

    Every file of images below the workspace is read, in whatever folder it lies.

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
    present = np.empty(0, np.int64)
    for path in sorted(directory.rglob(DATA)) if len(gone) else ():
        try:
            ids = _ids_in(path)
        except FileNotFoundError:  # a purge goes on
            continue
        here = gone if ids is None else np.intersect1d(gone, ids)
        if len(here):
            files[path.relative_to(directory).as_posix()] = None if ids is None else len(here)
        present = np.union1d(present, here)
    made = [
        (version_folder(directory, earlier) / name).relative_to(directory).as_posix()
        for earlier in range(number if len(gone) else 0)
        for name in (BANK, NETWORK, START)
        if (version_folder(directory, earlier) / name).exists()
    ]
    return Remains(now(), len(present), files, made)


def _ids_in(path: Path) -> np.ndarray | None:
    """The ids in a file of images; None if it cannot be read."""
    try:
        with open_plain(path) as file, np.load(file, allow_pickle=False) as archive:
            return np.asarray(archive["ids"]).astype(np.int64)
    except FileNotFoundError:
        raise
    except (OSError, ValueError, KeyError, EOFError, TypeError, InputError, zipfile.BadZipFile):
        return None

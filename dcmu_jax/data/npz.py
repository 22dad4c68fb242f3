"""Reading a user's own ``.npz`` archive, which is never trusted: nothing in it is unpickled."""

from __future__ import annotations

import contextlib
import difflib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

import numpy as np

from dcmu_jax.data.arrays import splits_from_arrays
from dcmu_jax.data.dataset import Splits
from dcmu_jax.errors import InputError
from dcmu_jax.files import expanded
from dcmu_jax.reading import Archive, NoArray, is_there, opened, unreadable

_WANTED = "an .npz archive with x_train, y_train and, if there is a test set, x_test, y_test"
_HOW_TO_WRITE = "Write one with np.savez(path, x_train=..., y_train=...)"

REQUIRED = ("x_train", "y_train")
"""Arrays that a source of one's own must have."""
OPTIONAL = ("x_test", "y_test", "ids")
"""Arrays that it may have."""


def load_npz(path: str | os.PathLike[str], *, test_fraction: float = 0.2) -> Splits:
    """The training and test set of an archive.

    The archive holds ``x_train``, ``y_train``, and optionally ``x_test``, ``y_test`` and ``ids``
    (one integer for each image of ``x_train``), in the shapes and types that
    ``arrays.splits_from_arrays`` takes; other arrays are ignored. Without test arrays a test set
    is cut from the training arrays: stratified, ``test_fraction`` of each class, by a fixed seed.

    Raises:
        InputError: there is no such file, it is not an archive, an array is missing, damaged or
            of Python objects, or breaks a rule of ``splits_from_arrays``.
    """
    path = expanded(path)
    return splits_of(_read(path), path.stem, test_fraction)


def splits_of(arrays: Mapping[str, np.ndarray], name: str, test_fraction: float) -> Splits:
    """The sets of arrays that are known by their names; see ``splits_from_arrays``."""
    return splits_from_arrays(
        arrays["x_train"],
        arrays["y_train"],
        arrays.get("x_test"),
        arrays.get("y_test"),
        ids=arrays.get("ids"),
        name=name,
        test_fraction=test_fraction,
    )


def _read(path: Path) -> dict[str, np.ndarray]:
    with _opened(path) as file:
        start = file.read(6)
        if start == b"\x93NUMPY":
            raise InputError(
                f"{path} is a single .npy array, not an .npz archive", _WANTED, _HOW_TO_WRITE
            )
        if start[:4] not in (b"PK\x03\x04", b"PK\x05\x06"):
            raise InputError(f"{path} is not an .npz archive", _WANTED, _HOW_TO_WRITE)
        try:
            archive = Archive(file)
        except Exception as error:  # whatever zipfile says of a damaged file
            raise damaged(path, "archive", error, _WANTED) from error
        for name in REQUIRED:
            if name not in archive.members:
                raise missing(path, name, list(archive.members), _WANTED)
        return {
            name: _read_array(path, archive, name)
            for name in (*REQUIRED, *OPTIONAL)
            if name in archive.members
        }


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """The file, if there is a plain one."""
    if not is_there(path):
        raise InputError(f"There is no file {path}", _WANTED, "Check the path")
    try:
        if path.is_dir():
            raise InputError(f"{path} is a folder", _WANTED, "Give the path of the archive itself")
        with opened(path) as file:
            yield file
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror})", _WANTED, "Check it and its permissions"
        ) from error


def _read_array(path: Path, archive: Archive, name: str) -> np.ndarray:
    try:
        return archive.read(name)
    except NoArray as error:
        raise InputError(f"{name} in {path} is not an array", _WANTED, _HOW_TO_WRITE) from error
    except MemoryError as error:
        raise InputError(
            f"{name} in {path} does not fit in memory ({error})",
            "an archive that does",
            f"Save {name}.npy and the others in a folder, and give npy:FOLDER, which stays on disk",
        ) from error
    except Exception as error:  # of many kinds: the header and the bytes are not to be trusted
        if "Python objects" in str(error):
            raise of_objects(path, name) from error
        raise damaged(path, "archive", error, _WANTED) from error


def of_objects(path: Path, name: str) -> InputError:
    """The error for an array that would have to be unpickled."""
    return InputError(
        f"{name} in {path} is an array of Python objects, which is never unpickled",
        "arrays of numbers",
        f"Save {name} with a numeric dtype; images must all have one size",
    )


def damaged(path: Path, what: str, error: Exception, wanted: str) -> InputError:
    """The error for a file that cannot be read as ``what`` it is, or not at all."""
    return unreadable(path, error) or InputError(
        f"{path} is a damaged or truncated {what} ({type(error).__name__}: {error})",
        wanted,
        "Write or copy it again",
    )


def missing(path: Path, name: str, found: Sequence[str], wanted: str) -> InputError:
    """The error for an array that is not among those found, with the nearest that has no use."""
    free = [other for other in found if Path(other).stem not in (*REQUIRED, *OPTIONAL)]
    near = difflib.get_close_matches(name, free, n=1)
    return InputError(
        f"{path} has no array {name}; it has {', '.join(found[:12]) or 'none'}",
        wanted,
        f"Rename {near[0]} to {name}" if near else f"Add {name}",
    )

"""Reading a user's own ``.npz`` archive, which is never trusted: nothing in it is unpickled."""

from __future__ import annotations

import difflib
import os
from pathlib import Path

import numpy as np

from dcmu_jax.data.arrays import splits_from_arrays
from dcmu_jax.data.dataset import Splits
from dcmu_jax.errors import InputError

_WANTED = "an .npz archive with x_train, y_train and, if there is a test set, x_test, y_test"
_HOW_TO_WRITE = "Write one with np.savez(path, x_train=..., y_train=...)"


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
    path = Path(path).expanduser()
    arrays = _read(path, required=("x_train", "y_train"), optional=("x_test", "y_test", "ids"))
    return splits_from_arrays(
        arrays["x_train"],
        arrays["y_train"],
        arrays.get("x_test"),
        arrays.get("y_test"),
        ids=arrays.get("ids"),
        name=path.stem,
        test_fraction=test_fraction,
    )


def _read(
    path: Path, required: tuple[str, ...], optional: tuple[str, ...]
) -> dict[str, np.ndarray]:
    _check_is_archive(path)
    with path.open("rb") as file:  # opened here: numpy leaves a damaged archive open
        try:
            archive = np.load(file, allow_pickle=False)
        except Exception as error:  # whatever numpy or zipfile say of a damaged file
            raise _damaged(path, error) from error
        for name in required:
            if name not in archive.files:
                raise _missing(path, name, archive.files)
        return {
            name: _read_array(path, archive, name)
            for name in (*required, *optional)
            if name in archive.files
        }


def _check_is_archive(path: Path) -> None:
    if not path.exists():
        raise InputError(f"There is no file {path}", _WANTED, "Check the path")
    if path.is_dir():
        raise InputError(f"{path} is a folder", _WANTED, "Give the path of the archive itself")
    try:
        with path.open("rb") as file:
            start = file.read(6)
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror})", _WANTED, "Check its permissions"
        ) from error
    if start == b"\x93NUMPY":
        raise InputError(
            f"{path} is a single .npy array, not an .npz archive", _WANTED, _HOW_TO_WRITE
        )
    if start[:4] not in (b"PK\x03\x04", b"PK\x05\x06"):
        raise InputError(f"{path} is not an .npz archive", _WANTED, _HOW_TO_WRITE)


def _read_array(path: Path, archive: np.lib.npyio.NpzFile, name: str) -> np.ndarray:
    try:
        array = archive[name]
    except Exception as error:  # of many kinds: the header and the bytes are not to be trusted
        if "allow_pickle" in str(error):
            raise InputError(
                f"{name} in {path} is an array of Python objects, which is never unpickled",
                "arrays of numbers",
                f"Save {name} with a numeric dtype; images must all have one size",
            ) from error
        raise _damaged(path, error) from error
    if not isinstance(array, np.ndarray):
        raise InputError(f"{name} in {path} is not an array", _WANTED, _HOW_TO_WRITE)
    return array


def _damaged(path: Path, error: Exception) -> InputError:
    return InputError(
        f"{path} is a damaged or truncated archive ({type(error).__name__}: {error})",
        _WANTED,
        "Write or copy it again",
    )


def _missing(path: Path, name: str, found: list[str]) -> InputError:
    near = difflib.get_close_matches(name, found, n=1)
    return InputError(
        f"{path} has no array {name}; it has {', '.join(found[:12]) or 'none'}",
        _WANTED,
        f"Rename {near[0]} to {name}" if near else f"Add {name}",
    )

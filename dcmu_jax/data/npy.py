"""Reading a folder of ``.npy`` files, whose images stay on disk; nothing is unpickled."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from dcmu_jax.data.dataset import Splits
from dcmu_jax.data.npz import OPTIONAL, REQUIRED, damaged, missing, of_objects, splits_of
from dcmu_jax.errors import InputError
from dcmu_jax.files import expanded
from dcmu_jax.reading import is_there, opened

_WANTED = "a folder with x_train.npy, y_train.npy and perhaps x_test.npy, y_test.npy, ids.npy"


def load_npy(folder: str | os.PathLike[str], *, test_fraction: float = 0.2) -> Splits:
    """The training and test set of a folder, whose images are memory-mapped.

    The folder holds the arrays of an archive (``npz.load_npz``) in a file each: ``x_train.npy``,
    ``y_train.npy``, and optionally ``x_test.npy``, ``y_test.npy`` and ``ids.npy``. They follow the
    same rules, with one more: images are uint8. Floats would have to be rounded to 8 bits, which
    makes a copy in memory. Labels and ids are read.

    The images of the sets are those of the files, opened for reading: nobody may change the files
    meanwhile. Without test arrays a test set is cut off, and that copies the images of both sets
    to memory: give test arrays where memory cannot hold them.

    Raises:
        InputError: there is no such folder, a file is missing, damaged or of Python objects,
            images are not uint8, or an array breaks a rule of ``splits_from_arrays``.
    """
    folder = expanded(folder)
    try:
        if not is_there(folder):
            raise InputError(f"There is no folder {folder}", _WANTED, "Check the path")
        if not folder.is_dir():
            raise InputError(f"{folder} is a file", _WANTED, "Give the path of the folder itself")
        found = sorted(path.name for path in folder.iterdir() if path.suffix == ".npy")
    except OSError as error:
        raise InputError(
            f"{folder} cannot be read ({error.strerror})", _WANTED, "Check its permissions"
        ) from error
    for name in REQUIRED:
        if f"{name}.npy" not in found:
            raise missing(folder, f"{name}.npy", found, _WANTED)
    arrays = {
        name: _open(folder / f"{name}.npy", name)
        for name in (*REQUIRED, *OPTIONAL)
        if f"{name}.npy" in found
    }
    for name in ("x_train", "x_test"):
        if name in arrays and arrays[name].dtype.kind == "f":
            raise InputError(
                f"{name} in {folder / name}.npy holds {arrays[name].dtype}",
                "uint8 in 0..255, which can stay on disk",
                f"Save np.rint(255 * {name}).astype('uint8') if its values are in [0, 1]",
            )
    return splits_of(arrays, folder.resolve().name, test_fraction)


def _open(path: Path, name: str) -> np.ndarray:
    """The array of a file, mapped."""
    try:
        with opened(path):  # a plain file, and no FIFO to wait for
            pass
        return np.lib.format.open_memmap(path, mode="r")
    except Exception as error:  # of many kinds: the header and the length are not to be trusted
        if "Python objects" in str(error):
            raise of_objects(path, name) from error
        raise damaged(path, "array", error, _WANTED) from error

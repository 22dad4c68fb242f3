"""Archives that must be refused, each with how to write it and what its error must say.

For every test that gives archives to the library or to the command line:
``BAD_ARCHIVES[kind] = (write, message)``; ``write(path)`` writes the file (or leaves it missing)
and ``message`` is a regular expression that the error must match.
"""

import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

Writer = Callable[[Path], None]


class Unpickled(Exception):
    """Raised if one of these archives is ever unpickled."""


class Trap:
    """An object that raises ``Unpickled`` as soon as it is unpickled."""

    def __reduce__(self):
        return _spring, ()


def _spring():
    raise Unpickled


def good_arrays() -> dict[str, np.ndarray]:
    """A small archive that is fine: 24 + 9 images of 8x10 pixels, 3 channels, 3 classes."""
    rng = np.random.default_rng(0)
    return {
        "x_train": rng.integers(0, 256, (24, 8, 10, 3), np.uint8),
        "y_train": np.arange(24) % 3,
        "x_test": rng.integers(0, 256, (9, 8, 10, 3), np.uint8),
        "y_test": np.arange(9) % 3,
    }


def _with(**changes) -> Writer:
    """A good archive with some arrays replaced, or left out where the value is None."""

    def write(path: Path) -> None:
        arrays = {**good_arrays(), **changes}
        np.savez(path, **{name: array for name, array in arrays.items() if array is not None})

    return write


def _write_nothing(path: Path) -> None:
    pass


def _write_folder(path: Path) -> None:
    path.mkdir()


def _write_text(path: Path) -> None:
    path.write_text("x_train, y_train\n1, 2\n")


def _write_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps({"x_train": Trap()}))


def _write_npy(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, good_arrays()["x_train"])


def _write_truncated(path: Path) -> None:
    np.savez(path, **good_arrays())
    path.write_bytes(path.read_bytes()[:-200])


def _write_flipped(path: Path) -> None:
    np.savez(path, **good_arrays())
    content = bytearray(path.read_bytes())
    content[1000] ^= 0xFF  # within the pixels of x_train: the checksum no longer holds
    path.write_bytes(content)


def _write_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("x_train", "not an array")
        file.writestr("y_train", "nor this")


def _write_trap(path: Path) -> None:
    arrays = good_arrays()
    arrays["x_train"] = np.array([Trap()] * 24, dtype=object)
    np.savez(path, **arrays)


def _noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, shape, np.uint8)


def _floats(value: float) -> np.ndarray:
    pixels = np.full((24, 8, 10, 3), 0.5, np.float32)
    pixels[5, 2, 3, 1] = value
    return pixels


def _labels(at: int, value: float, dtype: type = np.int64) -> np.ndarray:
    labels = (np.arange(24) % 3).astype(dtype)
    labels[at] = value
    return labels


BAD_ARCHIVES: dict[str, tuple[Writer, str]] = {
    # the file
    "missing file": (_write_nothing, r"There is no file .*Check the path"),
    "folder": (_write_folder, r"is a folder"),
    "text": (_write_text, r"is not an \.npz archive"),
    "empty file": (lambda path: path.write_bytes(b"") and None, r"is not an \.npz archive"),
    "pickle": (_write_pickle, r"is not an \.npz archive"),
    "plain npy": (_write_npy, r"single \.npy array"),
    "truncated": (_write_truncated, r"damaged or truncated"),
    "flipped byte": (_write_flipped, r"damaged or truncated.*CRC"),
    "zip of texts": (_write_zip, r"x_train in .* is not an array"),
    # arrays that are there
    "no x_train": (
        _with(x_train=None),
        r"has no array x_train; it has y_train, x_test, y_test\..*Add x_train",
    ),
    "no y_train": (_with(y_train=None), r"has no array y_train"),
    "misspelt": (_with(y_train=None, y_tran=np.arange(24)), r"Rename y_tran to y_train"),
    "x_test alone": (_with(y_test=None), r"x_test without y_test"),
    "y_test alone": (_with(x_test=None), r"y_test without x_test"),
    # images
    "object images": (_write_trap, r"x_train .*Python objects, which is never unpickled"),
    "object labels": (
        _with(y_train=np.array([0, "a"] * 12, dtype=object)),
        r"y_train .*Python objects, which is never unpickled",
    ),
    "rank 2": (_with(x_train=_noise(24, 64)), r"x_train of rank 2, shape \(24, 64\)"),
    "rank 5": (_with(x_train=_noise(24, 1, 8, 8, 3)), r"x_train of rank 5"),
    "int64 images": (_with(x_train=_noise(24, 8, 10, 3).astype(np.int64)), r"x_train.*int64"),
    "bool images": (_with(x_train=_noise(24, 8, 10, 3) > 9), r"x_train of dtype bool"),
    "complex images": (_with(x_train=_noise(24, 8, 10, 3) * 1j), r"x_train of dtype complex"),
    "text images": (_with(x_train=np.full((24, 8, 10, 3), "a")), r"x_train of dtype <U1"),
    "NaN": (_with(x_train=_floats(np.nan)), r"x_train holds NaN or infinite"),
    "inf": (_with(x_train=_floats(np.inf)), r"x_train holds NaN or infinite"),
    "NaN in test": (_with(x_test=_floats(np.nan)[:9]), r"x_test holds NaN or infinite"),
    "above 1": (_with(x_train=_floats(200)), r"x_train holds floats from 0\.5 to 200"),
    "below 0": (_with(x_train=_floats(-0.25)), r"x_train holds floats from -0\.25 to 0\.5"),
    "two channels": (_with(x_train=_noise(24, 8, 10, 2)), r"x_train has 2 channels"),
    "channels first": (_with(x_train=_noise(24, 3, 8, 10)), r"10 channels.*transpose\(0, 2, 3, 1"),
    "too small": (_with(x_train=_noise(24, 8, 7, 3)), r"images of 8x7 pixels.*8x8 or larger"),
    "no image": (_with(x_train=_noise(0, 8, 10, 3), y_train=np.arange(0)), r"x_train is empty"),
    "no test image": (_with(x_test=_noise(0, 8, 10, 3), y_test=np.arange(0)), r"x_test is empty"),
    "other test shape": (
        _with(x_test=_noise(9, 10, 8, 3)),
        r"x_test has images of shape \(10, 8, 3\), x_train of \(8, 10, 3\)",
    ),
    # labels
    "unequal length": (_with(y_train=np.arange(23) % 3), r"23 labels for the 24 images of x_train"),
    "unequal test": (_with(y_test=np.arange(8) % 3), r"8 labels for the 9 images of x_test"),
    "one-hot": (_with(y_train=np.eye(3)[np.arange(24) % 3]), r"y_train of rank 2.*argmax"),
    "text labels": (_with(y_train=np.array(["a", "b", "c"] * 8)), r"y_train of dtype <U1"),
    "negative": (_with(y_train=_labels(4, -1)), r"y_train holds negative labels, such as -1"),
    "fractional": (_with(y_train=_labels(4, 0.5, float)), r"y_train holds fractional.*0\.5"),
    "NaN label": (_with(y_train=_labels(4, np.nan, float)), r"y_train holds fractional.*nan"),
    "gap": (_with(y_train=np.array([0, 1, 3] * 8)), r"the classes 0, 1, 3: a gap, 2 is missing"),
    "from one": (_with(y_train=np.arange(24) % 3 + 1), r"1, 2, 3: a gap, 0 is missing"),
    "huge label": (_with(y_train=_labels(4, 2**40)), r"y_train holds the label 1099511627776"),
    "one class": (_with(y_train=np.zeros(24, int)), r"y_train holds one class only: 0"),
    "unknown test label": (_with(y_test=np.arange(9) % 4), r"y_test holds the class 3, which"),
    "lone sample": (
        _with(x_test=None, y_test=None, y_train=np.array([1] + [0] * 23)),
        r"Class 1 has one sample and there are no test arrays",
    ),
    # ids
    "duplicate ids": (_with(ids=np.arange(24) // 2), r"ids holds duplicates: 0, 1, 2, 3, 4"),
    "too few ids": (_with(ids=np.arange(23)), r"ids of shape \(23,\) for 24 training images"),
    "float ids": (_with(ids=np.arange(24.0)), r"ids of dtype float64"),
    "negative ids": (_with(ids=np.arange(24) - 5), r"ids holds -5"),
    "huge ids": (_with(ids=np.arange(24, dtype=np.uint64) + 2**63), r"ids holds 9223372036854775"),
}

"""Checks a user's arrays: all rules about images, labels and ids are here."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dcmu_jax.data.dataset import Dataset, Splits
from dcmu_jax.errors import InputError, as_names, check_fraction

LEAST_SIDE = 8
"""Smallest height and width of an image, in pixels."""

CUT_SEED = 0
"""Seed of the cut into training and test set: fixed, so that the test set is always the same."""

_LARGEST_ID = 2**62  # the ids given to test samples, counted on from here, still fit int64


def splits_from_arrays(
    x_train: np.ndarray,
    y_train: np.ndarray,
    x_test: np.ndarray | None = None,
    y_test: np.ndarray | None = None,
    *,
    ids: np.ndarray | None = None,
    name: str = "arrays",
    class_names: Sequence[str] | None = None,
    test_fraction: float = 0.2,
) -> Splits:
    """Check a user's arrays and make a training and a test set of them.

    Without test arrays a test set is cut from the training arrays: stratified by class, always
    the same cut (its seed is fixed), at least one sample of each class on either side.

    Args:
        x_train: images ``(N, height, width)`` or ``(N, height, width, channels)`` with 1 or 3
            channels and sides of 8 pixels or more; uint8 (0..255), or float in [0, 1], which is
            rounded to 8 bits.
        y_train: labels ``(N,)``, whole numbers; the classes must be ``0..C-1``, C at least 2.
        x_test: test images, of the shape and number of channels of ``x_train``.
        y_test: test labels, none of them unknown to ``y_train``.
        ids: integers ``(N,)`` from 0 up, unique: the name of each sample in ``x_train``.
            By default its position.
        name: short name for titles and file names.
        class_names: one label per class, by default its number.
        test_fraction: share of each class that is cut off for the test set; only used without
            test arrays.

    Returns:
        The two sets. Samples keep their order and their ids; test images given as arrays get
        the ids that follow the largest training id.

    Raises:
        InputError: one of the rules above is broken; the message says which, and by what.

    >>> images, labels = np.zeros((20, 8, 8)), np.repeat([0, 1], 10)
    >>> splits = splits_from_arrays(images, labels, ids=100 + np.arange(20), name="mine")
    >>> splits.train.images.shape, splits.train.images.dtype, len(splits.test)
    ((16, 8, 8, 1), dtype('uint8'), 4)
    """
    if (x_test is None) != (y_test is None):
        given, lacking = ("y_test", "x_test") if x_test is None else ("x_test", "y_test")
        raise InputError(
            f"{given} without {lacking}",
            "x_test and y_test together, or neither",
            f"Add {lacking}, or leave out {given} to have a test set cut from the training set",
        )
    images = _images("x_train", x_train)
    labels = _labels("y_train", y_train, len(images))
    num_classes = _count_classes(labels)
    train = Dataset(images, labels.astype(np.int32), _ids(ids, len(images)), num_classes)
    if x_test is None or y_test is None:
        train, test = _cut(train, test_fraction)
    else:
        test = _test_set(x_test, y_test, train)
    if class_names is None:
        class_names = [str(c) for c in range(num_classes)]
    elif len(class_names := as_names(class_names)) != num_classes:
        raise InputError(
            f"{len(class_names)} class names",
            f"{num_classes}, one for each class",
            "Give one name per class",
        )
    return Splits(name, train, test, tuple(class_names))


def _unmasked(name: str, array: np.ndarray) -> np.ndarray:
    if isinstance(array, np.ma.MaskedArray):
        raise InputError(
            f"{name} is a masked array, which says that values are missing",
            "an array",
            f"Leave those samples out, or give {name}.filled(...)",
        )
    return np.asarray(array)


def _images(name: str, images: np.ndarray) -> np.ndarray:
    """Images checked and brought to uint8 NHWC."""
    images = _unmasked(name, images)
    if images.ndim not in (3, 4):
        raise InputError(
            f"{name} of rank {images.ndim}, shape {images.shape}",
            "(N, height, width) or (N, height, width, channels)",
            f"Reshape {name} to one of these",
        )
    if images.dtype != np.uint8 and images.dtype.kind != "f":
        raise InputError(
            f"{name} of dtype {images.dtype}",
            "uint8 in 0..255, or float in [0, 1]",
            f"Give 255 * {name}.astype('uint8'), which is black and white"
            if images.dtype == np.bool_
            else f"Give {name}.astype('uint8') if its values are 0..255",
        )
    if len(images) == 0:
        raise InputError(f"{name} is empty, shape {images.shape}", "at least one image", "Add some")
    if images.ndim == 3:
        images = images[..., None]
    _, height, width, channels = images.shape
    if channels not in (1, 3):
        raise InputError(
            f"{name} has {channels} channels, shape {images.shape}",
            "1 or 3 channels, in the last axis",
            f"If the channels come first, save {name}.transpose(0, 2, 3, 1)",
        )
    if min(height, width) < LEAST_SIDE:
        raise InputError(
            f"{name} has images of {height}x{width} pixels",
            f"{LEAST_SIDE}x{LEAST_SIDE} or larger",
            "Enlarge the images",
        )
    return images if images.dtype == np.uint8 else _to_8_bits(name, images)


def _to_8_bits(name: str, images: np.ndarray) -> np.ndarray:
    least, largest = images.min(), images.max()  # both are NaN if one pixel is
    if not (np.isfinite(least) and np.isfinite(largest)):
        raise InputError(
            f"{name} holds NaN or infinite pixels", "finite numbers in [0, 1]", "Mend the images"
        )
    if least < 0 or largest > 1:
        raise InputError(
            f"{name} holds floats from {least:.6g} to {largest:.6g}",
            "floats in [0, 1], or uint8 in 0..255",
            f"Save {name}.astype('uint8') if its values are 0..255, else scale them to [0, 1]",
        )
    scaled = images * images.dtype.type(255)
    return np.rint(scaled, out=scaled).astype(np.uint8)


def _labels(name: str, labels: np.ndarray, expected: int) -> np.ndarray:
    """Labels checked one by one, as int64."""
    labels = _unmasked(name, labels)
    if labels.dtype.kind not in "iufb":
        raise InputError(
            f"{name} of dtype {labels.dtype}", "whole numbers 0..C-1", "Number the classes from 0"
        )
    if labels.ndim != 1:
        raise InputError(
            f"{name} of rank {labels.ndim}, shape {labels.shape}",
            "one label per image, shape (N,)",
            f"Save {name}.reshape(-1), or {name}.argmax(-1) if the labels are one-hot",
        )
    if len(labels) != expected:
        images = name.replace("y_", "x_")
        raise InputError(
            f"{name} has {len(labels)} labels for the {expected} images of {images}",
            "arrays of equal length",
            "Give one label per image",
        )
    if labels.dtype.kind == "f":
        strange = labels[~np.isfinite(labels) | (labels != np.floor(labels))]
        if len(strange):
            raise InputError(
                f"{name} holds fractional labels, such as {strange[0]}",
                "whole numbers 0..C-1",
                "Number the classes from 0",
            )
    if labels.min() < 0:
        raise InputError(
            f"{name} holds negative labels, such as {labels.min()}",
            "whole numbers 0..C-1",
            "Number the classes from 0, and leave out samples without a class",
        )
    if labels.max() >= 2**31:
        raise InputError(
            f"{name} holds the label {labels.max()}",
            "whole numbers 0..C-1",
            "Number the classes from 0 without gaps",
        )
    return labels.astype(np.int64)


def _count_classes(labels: np.ndarray) -> int:
    classes = np.unique(labels)
    if len(classes) == 1:
        raise InputError(
            f"y_train holds one class only: {classes[0]}",
            "two classes or more",
            "Add samples of another class",
        )
    if classes[-1] != len(classes) - 1:
        missing = int(np.argmax(classes != np.arange(len(classes))))
        shown = ", ".join(map(str, classes[:12])) + (", ..." if len(classes) > 12 else "")
        raise InputError(
            f"y_train holds the classes {shown}: a gap, {missing} is missing",
            "every class from 0 up, without gaps",
            "Renumber them: classes, y_train = np.unique(y_train, return_inverse=True)",
        )
    return len(classes)


def _ids(ids: np.ndarray | None, expected: int) -> np.ndarray:
    if ids is None:
        return np.arange(expected, dtype=np.int64)
    ids = np.asarray(ids)
    if ids.dtype.kind not in "iu":
        raise InputError(f"ids of dtype {ids.dtype}", "integers", "Give an integer per sample")
    if ids.shape != (expected,):
        raise InputError(
            f"ids of shape {ids.shape} for {expected} training images",
            f"one id per training image, shape ({expected},)",
            "Give as many ids as x_train has images",
        )
    if ids.min() < 0 or ids.max() > _LARGEST_ID:
        outside = ids.min() if ids.min() < 0 else ids.max()
        raise InputError(f"ids holds {outside}", "integers in 0..2**62", "Renumber the samples")
    values, counts = np.unique(ids, return_counts=True)
    if len(values) != expected:
        shown = ", ".join(map(str, values[counts > 1][:5]))
        raise InputError(
            f"ids holds duplicates: {shown}", "each id once", "Give every sample an id of its own"
        )
    return ids.astype(np.int64)


def _test_set(x_test: np.ndarray, y_test: np.ndarray, train: Dataset) -> Dataset:
    images = _images("x_test", x_test)
    if images.shape[1:] != train.images.shape[1:]:
        raise InputError(
            f"x_test has images of shape {images.shape[1:]}, x_train of {train.images.shape[1:]}",
            "the same height, width and channels in both",
            "Resize one of the two",
        )
    labels = _labels("y_test", y_test, len(images))
    if labels.max() >= train.num_classes:
        raise InputError(
            f"y_test holds the class {labels.max()}, which y_train does not have",
            f"classes of the training labels, 0..{train.num_classes - 1}",
            "Leave out test samples of classes that are not trained on",
        )
    ids = train.ids.max() + 1 + np.arange(len(images), dtype=np.int64)
    return Dataset(images, labels.astype(np.int32), ids, train.num_classes)


def _cut(data: Dataset, test_fraction: float) -> tuple[Dataset, Dataset]:
    """Cut a test set off, stratified: about ``test_fraction`` of each class, by a fixed seed."""
    check_fraction("test_fraction", test_fraction)
    rng = np.random.default_rng(CUT_SEED)
    in_test = np.zeros(len(data), bool)
    for label in range(data.num_classes):
        members = np.flatnonzero(data.labels == label)
        if len(members) < 2:
            raise InputError(
                f"Class {label} has one sample and there are no test arrays to go with it",
                "two samples of each class, so that one can be tested on",
                "Add samples of that class, or give x_test and y_test",
            )
        count = min(max(round(test_fraction * len(members)), 1), len(members) - 1)
        in_test[rng.permutation(members)[:count]] = True
    return data.take(~in_test), data.take(in_test)

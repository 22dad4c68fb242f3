"""TensorFlow Datasets as a source, read through its data sources without TensorFlow."""

from __future__ import annotations

import difflib
import importlib.util
import os
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from dcmu_jax.data.arrays import splits_from_arrays
from dcmu_jax.data.dataset import Splits
from dcmu_jax.errors import InputError

SHORT_NAMES = {"cifar10": "cifar10", "svhn": "svhn_cropped"}
"""Names usable without ``tfds:`` in front, and what TFDS calls them."""

# The format that can be read without TensorFlow; TFDS's own default cannot.
_FILE_FORMAT = "array_record"


def load_tfds(
    name: str,
    *,
    test_fraction: float = 0.2,
    download: bool = False,
    data_dir: str | os.PathLike[str] | None = None,
) -> Splits:
    """An image classification set of TFDS: its ``train`` split, and ``test`` or ``validation``.

    Reading needs no TensorFlow. Downloading, which TFDS does once together with encoding the
    images, does; it may happen in another environment or on another machine.

    Samples stand in the order of the numbers at the end of TFDS's own ``id`` (``train_00042``)
    and have these as their ids, where it gives such; so they are those of the official files,
    whatever order TFDS stores. Elsewhere the order and the positions are those stored.

    Args:
        name: a short name, or any name TFDS takes (``set``, ``set/config``, ``set:1.2.3``) of a
            set whose features ``image`` and ``label`` are one image and one class.
        test_fraction: share of each class cut off by a fixed seed if the set has no test split.
        download: download and prepare the set if it is absent.
        data_dir: where sets are kept, by default where TFDS keeps them.

    Raises:
        InputError: there is no such set, it is not prepared (the message says what to run), it is
            not one of images of one size with one label each, or the download fails.
    """
    # Imported here: it takes a second, and no other source needs it.
    import tensorflow_datasets as tfds

    tfds_name = SHORT_NAMES.get(name, name)
    builder = _builder(tfds, tfds_name, data_dir)
    _check_features(tfds, name, builder.info.features)
    if download and not builder.is_prepared():
        _download(tfds, builder, tfds_name, data_dir)
    test_split = _test_split(list(builder.info.splits))
    try:
        train = builder.as_data_source(split="train")
        test = None if test_split is None else builder.as_data_source(split=test_split)
    except (KeyError, AssertionError, NotImplementedError, ValueError, OSError) as error:
        raise _absent(tfds_name, data_dir, f"{name} is not prepared in {builder.data_dir}") from (
            error
        )
    class_names = builder.info.features["label"].names  # known for certain once prepared
    x_train, y_train, ids = _read(train)
    x_test, y_test, _ = (None, None, None) if test is None else _read(test)
    return splits_from_arrays(
        x_train,
        y_train,
        x_test,
        y_test,
        ids=ids,
        name=re.sub(r"[^\w.-]+", "-", name),
        class_names=class_names if len(class_names) == len(np.unique(y_train)) else None,
        test_fraction=test_fraction,
    )


def _builder(tfds: Any, name: str, data_dir: str | os.PathLike[str] | None) -> Any:
    try:
        return tfds.builder(name, data_dir=data_dir, file_format=_FILE_FORMAT)
    except tfds.core.DatasetNotFoundError as error:
        known = tfds.list_builders(with_community_datasets=False)
        near = difflib.get_close_matches(name, [*SHORT_NAMES, *known], n=1, cutoff=0.5)
        raise InputError(
            f"Unknown TFDS set {name!r}",
            f"{', '.join(SHORT_NAMES)}, and the image classification sets of TFDS",
            f"Did you mean {near[0]!r}?" if near else "Look the name up in the catalogue of TFDS",
        ) from error
    except Exception as error:  # the set's own code: a wrong version, a package it lacks, ...
        if "File format is already set" in str(error):
            raise _absent(
                name, data_dir, f"{name} is prepared, but not as {_FILE_FORMAT}"
            ) from error
        raise InputError(
            f"TFDS cannot open {name!r} ({_brief(error)})",
            "an image classification set, named as TFDS does: set, set/config or set:version",
            "Check the name, the configuration and the version",
        ) from error


def _check_features(tfds: Any, name: str, features: Any) -> None:
    """Raise unless the set is one of images of one size with one label each."""
    parts = dict(features) if isinstance(features, tfds.features.FeaturesDict) else {}
    if not (
        isinstance(parts.get("image"), tfds.features.Image)
        and isinstance(parts.get("label"), tfds.features.ClassLabel)
    ):
        raise InputError(
            f"The TFDS set {name!r} has no features image and label of one image and one class",
            "sets for image classification",
            "Save its images and labels as an archive and load npz:PATH",
        )
    if None in parts["image"].shape:
        raise InputError(
            f"The images of the TFDS set {name!r} differ in size",
            "images of one size",
            "Resize them, save them as an archive and load npz:PATH",
        )


def _test_split(splits: Sequence[str]) -> str | None:
    """The split to test on; a set that is not prepared does not know its splits: ``test``."""
    if not splits:
        return "test"
    return next((split for split in ("test", "validation") if split in splits), None)


def _download(tfds: Any, builder: Any, name: str, data_dir: str | os.PathLike[str] | None) -> None:
    if not _has_tensorflow():  # said before the download, not by a crash after it
        raise _absent(name, data_dir, f"Downloading {name} needs TensorFlow, which is absent")
    # TFDS offers prepared files too, but in a format that needs TensorFlow: build from the source.
    config = tfds.download.DownloadConfig(try_download_gcs=False)
    try:
        builder.download_and_prepare(download_config=config, file_format=_FILE_FORMAT)
    except Exception as error:  # the network, the disk, the set's own code
        raise _absent(name, data_dir, f"Downloading {name} failed ({_brief(error)})") from (error)


def _has_tensorflow() -> bool:
    return importlib.util.find_spec("tensorflow") is not None


def _brief(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error)[:300]}".replace("\n", " ")


def _absent(name: str, data_dir: str | os.PathLike[str] | None, given: str) -> InputError:
    where = "" if data_dir is None else f", data_dir={os.fspath(data_dir)!r}"
    return InputError(
        given,
        f"a set that TFDS has prepared as {_FILE_FORMAT}, which needs TensorFlow once; reading "
        "it does not",
        "Where there is a network, run: pip install tensorflow; then repeat with "
        "--data.download (dcmu condensed-model: --download; in Python: download=True). Or prepare "
        "it on any machine and copy its folder, by: "
        f'python -c "import tensorflow_datasets as tfds; tfds.builder({name!r}, '
        f'file_format={_FILE_FORMAT!r}{where}).download_and_prepare()". If it is there in another '
        "format, give another --data.directory (dcmu condensed-model: --directory; in Python: "
        "data_dir)",
    )


def _read(source: Sequence[Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Images, labels and, where TFDS numbers the samples, these numbers, in their order."""
    first = source[0]
    images = np.empty((len(source), *first["image"].shape), first["image"].dtype)
    labels = np.empty(len(source), np.int64)
    numbers: list[int] = []
    for at in range(len(source)):
        sample = source[at]
        images[at] = sample["image"]
        labels[at] = sample["label"]
        numbers.extend(_number(sample.get("id")))
    if len(numbers) != len(source) or len(set(numbers)) != len(numbers):
        return images, labels, None
    order = np.argsort(numbers)
    return images[order], labels[order], np.array(numbers, np.int64)[order]


def _number(name: Any) -> list[int]:
    """The number at the end of a sample's name, as a list of none or one."""
    if isinstance(name, bytes):
        name = name.decode("utf-8", "replace")
    found = re.search(r"_([0-9]{1,15})$", name) if isinstance(name, str) else None
    return [int(found.group(1))] if found else []

"""``load``: from the name of a source to a training and a test set."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from dcmu_jax.data.arrays import splits_from_arrays
from dcmu_jax.data.dataset import Splits
from dcmu_jax.data.npy import load_npy
from dcmu_jax.data.npz import load_npz
from dcmu_jax.data.synthetic import load_synthetic, parse_options
from dcmu_jax.data.tfds_source import SHORT_NAMES, load_tfds
from dcmu_jax.errors import InputError, kind_of, unknown_name

SOURCES = ("digits", "npz:PATH", "npy:FOLDER", "tfds:NAME", *SHORT_NAMES, "synthetic")
"""What ``load`` takes, as it is shown to users."""


def load(
    source: str,
    *,
    test_fraction: float = 0.2,
    download: bool = False,
    data_dir: str | os.PathLike[str] | None = None,
) -> Splits:
    """Load a training and a test set.

    Args:
        source: one of

            - ``digits``: scikit-learn's 1,797 handwritten digits, 8x8, grey; nothing to download.
              Ids are positions in that set; the test set is cut off by a fixed seed.
            - ``npz:PATH``: an archive of your own, see ``npz.load_npz``.
            - ``npy:FOLDER``: the same arrays in files of their own, whose images stay on disk; see
              ``npy.load_npy``.
            - ``tfds:NAME``: a set of TensorFlow Datasets; ``cifar10`` and ``svhn`` for short.
              See ``tfds_source.load_tfds``.
            - ``synthetic`` or ``synthetic:classes=4,per_class=100,size=16,channels=3,seed=0``:
              made-up images that are easy to tell apart.
        test_fraction: share of the test set where the source has none of its own.
        download: allow a TFDS set to be downloaded and prepared if it is absent.
        data_dir: where TFDS sets are kept, by default where TFDS keeps them.

    Returns:
        Two sets with disjoint ids. The same source always gives the same bits.

    Raises:
        InputError: unknown source, or one that cannot be read.

    >>> splits = load("synthetic:classes=2,per_class=40,size=8,channels=1")
    >>> len(splits.train), len(splits.test), splits.image_shape
    (80, 20, (8, 8, 1))
    >>> splits.train.images.dtype, splits.train.labels.dtype, splits.train.ids.dtype
    (dtype('uint8'), dtype('int32'), dtype('int64'))
    """
    if not isinstance(source, str):
        raise _no_source(source)
    kind, colon, argument = source.strip().partition(":")
    if kind == "digits" and not colon:
        return _load_digits(test_fraction)
    if kind in SHORT_NAMES and not colon:
        return load_tfds(kind, test_fraction=test_fraction, download=download, data_dir=data_dir)
    if kind == "synthetic":
        return load_synthetic(parse_options(argument), test_fraction=test_fraction)
    if kind == "npz" and argument:
        return load_npz(argument, test_fraction=test_fraction)
    if kind == "npy" and argument:
        return load_npy(argument, test_fraction=test_fraction)
    if kind == "tfds" and argument:
        return load_tfds(
            argument, test_fraction=test_fraction, download=download, data_dir=data_dir
        )
    raise _unknown_source(source, kind)


def _no_source(given: Any) -> InputError:
    """For what is no text."""
    remedy = f"Give {SOURCES[0]!r}, say; for arrays, splits_from_arrays(x_train, y_train)"
    if isinstance(given, os.PathLike):
        path = os.fspath(given)
        remedy = f"Give {('npz:' if str(path).endswith('.npz') else 'npy:') + str(path)!r}"
    shown = repr(given) if given is None or isinstance(given, int | float) else kind_of(given)
    return InputError(f"A source given as {shown}", ", ".join(SOURCES), remedy)


def _unknown_source(source: str, kind: str) -> InputError:
    allowed = ", ".join(SOURCES)
    if source.endswith(".npz"):
        return InputError(f"Unknown source {source!r}", allowed, f"Write npz:{source}")
    if kind in ("npz", "npy", "tfds"):
        return InputError(
            f"Source {source!r} without a name", allowed, f"Write {kind}: and a name behind it"
        )
    if kind == "digits" or kind in SHORT_NAMES:
        return InputError(f"Source {source!r}", allowed, f"{kind} takes no options: write {kind}")
    return unknown_name("source", kind, [name.partition(":")[0] for name in SOURCES])


def _load_digits(test_fraction: float) -> Splits:
    # Imported here: scikit-learn takes a second to import, and a source of your own needs none.
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)  # grey values 0..16
    images = np.rint(np.asarray(pixels) * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8)
    return splits_from_arrays(
        images, np.asarray(labels), name="digits", test_fraction=test_fraction
    )

"""What a dataset is: uint8 images, labels and stable ids, held together."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float

from dcmu_jax.data.chunks import chunks
from dcmu_jax.data.selections import Ids, Mask, as_ids, as_positions, check_names, shape_of
from dcmu_jax.errors import InputError, check_at_least, kind_of


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """Labelled images whose samples are named by ids.

    Attributes:
        images: uint8 ``(N, height, width, channels)``, 0..255. May be a ``numpy.memmap``: nothing
            here reads all of them at once, but a selection (``take``, ``without``) is in memory.
        labels: int32 ``(N,)``, classes ``0..num_classes-1``.
        ids: int64 ``(N,)``, unique; they stay with their sample through every selection.
        num_classes: number of classes of the whole problem (a subset may lack some).

    Raises:
        InputError: not as many of each, images of another rank, labels that are no integers in
            ``0..num_classes-1``, or ids that are no integers or there twice.
    """

    images: np.ndarray
    labels: np.ndarray
    ids: np.ndarray
    num_classes: int

    def __post_init__(self):
        shapes = [
            shape_of(f"{name} of a dataset", getattr(self, name))
            for name in ("images", "labels", "ids")
        ]
        count = shapes[0][:1]
        if len(shapes[0]) != 4 or shapes[1] != count or shapes[2] != count:
            raise InputError(
                "A dataset of images {}, labels {} and ids {}".format(*shapes),
                "images (N, height, width, channels), labels (N,) and ids (N,)",
                "Give one label and one id for each image; splits_from_arrays makes the ids",
            )
        if np.asarray(self.images[:0]).dtype == np.bool_:
            raise InputError(
                "Images of dtype bool",
                "pixels in 0..255",
                "Give 255 * images.astype('uint8'), which is black and white",
            )
        labels = np.asarray(self.labels)
        if labels.dtype.kind not in "iu" or (
            labels.size and not 0 <= labels.min() <= labels.max() < self.num_classes
        ):
            spread = f" from {labels.min()} to {labels.max()}" if labels.size else ""
            raise InputError(
                f"Labels of dtype {labels.dtype}{spread} for {self.num_classes} classes",
                f"integers 0..{self.num_classes - 1}",
                "Number the classes from 0, and pass labels.astype('int32')",
            )
        check_names("ids of a dataset", self.ids)

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        sides = "x".join(map(str, np.shape(self.images)[1:]))
        return f"Dataset({len(self)} images {sides}, {self.num_classes} classes)"

    def take(self, positions: Mask | Ids) -> Dataset:
        """The samples at ``positions`` (integer positions or a boolean mask), ids kept.

        Raises:
            InputError: a mask of another length; positions that are negative, out of range or
                there twice.
        """
        at = as_positions("positions to take", positions, len(self))
        return dataclasses.replace(
            self, images=self.images[at], labels=self.labels[at], ids=self.ids[at]
        )

    def positions(self, ids: Ids | Any) -> np.ndarray:
        """Where ``ids`` stand in this dataset, int64 ``(len(ids),)``.

        Args:
            ids: integers; or a request or another data set, which has ids.

        Raises:
            InputError: an id that is not in the dataset, or there twice; a mask.
        """
        ids = as_ids("ids", getattr(ids, "ids", ids))
        order = np.argsort(self.ids)
        at = np.searchsorted(self.ids, ids, sorter=order)
        found = order[np.minimum(at, len(order) - 1)] if len(order) else at
        missing = ids[self.ids[found] != ids] if len(order) else ids
        if len(missing):
            shown = ", ".join(map(str, missing[:5].tolist()))
            known = f", {self.ids.min()}..{self.ids.max()}" if len(order) else ""
            if len(order) and int(self.ids.max()) - int(self.ids.min()) >= len(self):
                known += " with gaps"
            raise InputError(
                f"Unknown id(s): {shown}{', ...' if len(missing) > 5 else ''}",
                f"ids of the {len(self)} samples{known}",
                "Check the ids against those of this set: where one lies in a gap, it is that of a "
                "sample elsewhere, such as a test sample",
            )
        return found

    def only(self, ids: Ids | Any) -> Dataset:
        """The samples with these ids, in their order; see ``positions`` for what it raises."""
        return self.take(self.positions(ids))

    def without(self, ids: Ids | Any) -> Dataset:
        """The samples with other ids than these; see ``positions`` for what it raises."""
        stays = np.ones(len(self), bool)
        stays[self.positions(ids)] = False
        return self.take(stays)

    def first(self, per_class: int) -> Dataset:
        """The first ``per_class`` samples of each class, fewer where there are fewer."""
        check_at_least("per_class", per_class, 1)
        order = np.argsort(self.labels, kind="stable")
        labels = self.labels[order]
        rank = np.arange(len(labels)) - np.searchsorted(labels, labels)
        return self.take(np.sort(order[rank < per_class]))

    @property
    def samples_per_class(self) -> float:
        """Mean number of samples of the classes that have some."""
        return len(self) / max(1, len(np.unique(self.labels)))

    def fingerprint(self) -> str:
        """SHA-256 (hex) over images, labels and ids: the identity of the data.

        Read in chunks, so that images on disk are never in memory as a whole.
        """
        digest = hashlib.sha256()
        for array in (self.images, self.labels, self.ids):
            digest.update(str((array.dtype.str, array.shape)).encode())
            for rows in chunks(array):
                digest.update(np.ascontiguousarray(array[rows]).data)
        return digest.hexdigest()


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Splits:
    """A training and a test set of the same problem; their ids are disjoint.

    Attributes:
        name: short name of the source, for titles and file names.
        class_names: one label per class, for figures.
    """

    name: str
    train: Dataset
    test: Dataset
    class_names: tuple[str, ...]

    def __repr__(self) -> str:
        return f"Splits({self.name!r}, train={self.train!r}, test={self.test!r})"

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return self.train.num_classes

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """``(height, width, channels)`` of every image."""
        height, width, channels = self.train.images.shape[1:]
        return height, width, channels


def check_dataset(name: str, given: Any) -> None:
    """Raise unless ``given`` is a ``Dataset``.

    Args:
        name: what it is, for the message.
        given: what a user brought.

    Raises:
        InputError: a ``Splits``, arrays, or anything else.
    """
    if isinstance(given, Dataset):
        return
    raise InputError(
        f"{name} given as {kind_of(given)}",
        "a Dataset, which holds images, labels and ids",
        "Give splits.train or splits.test of it"
        if isinstance(given, Splits)
        else "Give splits.train or splits.test of splits_from_arrays(x, y)",
    )


def lent(value: Any) -> Any:
    """A data set or network that a user's function cannot change: its arrays are read-only.

    Dictionaries are the copy's own, so that nothing put into them reaches the original.
    """

    def view(leaf: Any) -> Any:
        if isinstance(leaf, np.ndarray):
            leaf = leaf.view()
            leaf.setflags(write=False)
        return leaf

    held = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    return dataclasses.replace(
        value,
        **{k: jax.tree.map(view, v) for k, v in held.items() if isinstance(v, dict | np.ndarray)},
    )


class Normalisation(NamedTuple):
    """Per-channel mean and standard deviation of pixels in [0, 1]; a pytree.

    Pixels everywhere in this library are in 0..255, as uint8 or as float32 (condensed images);
    a network sees ``(pixels / 255 - mean) / std``.
    """

    mean: Float[Array | np.ndarray, " channels"]
    std: Float[Array | np.ndarray, " channels"]

    def apply(self, pixels: Array | np.ndarray) -> Float[Array, "*batch height width channels"]:
        """Pixels (0..255) to what a network sees, float32."""
        x = jax.numpy.asarray(pixels, jax.numpy.float32) / 255.0
        return (x - self._row(self.mean, x)) / self._row(self.std, x)

    def invert(self, x: Array) -> Float[Array, "*batch height width channels"]:
        """What a network sees back to pixels (0..255, not clipped), float32."""
        return (x * self._row(self.std, x) + self._row(self.mean, x)) * 255.0

    @staticmethod
    def _row(value, x) -> Array:
        return jax.numpy.asarray(value, x.dtype).reshape((1,) * (x.ndim - 1) + (-1,))


_LARGEST = 1.001
"""Of a mean and a standard deviation of pixels in [0, 1], rounding allowed for."""


def check_normalisation(name: str, value: np.ndarray, channels: int) -> None:
    """Raise unless ``value`` can be the mean or the standard deviation of pixels in [0, 1].

    Args:
        name: ``mean`` or ``std``, or a name that ends so.
        value: one for each channel.
        channels: how many there are.

    Raises:
        InputError: another shape, numbers that are not finite, standard deviations that are not
            above 0, or numbers as of pixels in 0..255.
    """
    spread = name.endswith("std")
    shown, value = np.asarray(value).tolist(), np.asarray(value, np.float64)
    finite = value.shape[-1:] == (channels,) and bool(np.isfinite(value).all())
    if not finite or (spread and not (value > 0).all()):
        raise InputError(
            f"A normalisation whose {name} is {shown}",
            f"{channels} finite number{'s' if channels > 1 else ''}, one for each channel"
            f"{', above 0' if spread else ''}",
            "Give them for pixels in [0, 1], or take channel_statistics(images)",
        )
    if value.max() > _LARGEST:
        eighth = [float(f"{number / 255:.4g}") for number in value.ravel()]
        raise InputError(
            f"A normalisation whose {name} is {shown}, as of pixels in 0..255",
            "mean and standard deviation of pixels in [0, 1], so of 1 at most",
            f"Divide both by 255: {name} = {eighth}",
        )


def channel_statistics(images: np.ndarray) -> Normalisation:
    """Mean and standard deviation of each channel of uint8 ``(N, H, W, C)`` images, in [0, 1].

    Computed from the histogram of pixel values, so exactly, and of a chunk of the data at a time.
    A constant channel gets standard deviation 1.
    """
    values = np.arange(256) / 255.0
    counts = np.zeros((images.shape[-1], 256), np.int64)
    for rows in chunks(images):
        for channel in range(len(counts)):
            counts[channel] += np.bincount(images[rows][..., channel].reshape(-1), minlength=256)
    means, stds = [], []
    for count in counts:
        share = count / images[..., 0].size
        mean = float(share @ values)
        std = float(np.sqrt(share @ (values - mean) ** 2))
        means.append(mean)
        stds.append(std if std > 1e-6 else 1.0)
    return Normalisation(np.array(means, np.float32), np.array(stds, np.float32))

"""What every method of dataset condensation takes and gives."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dcmu_jax.data.dataset import Dataset
from dcmu_jax.errors import InputError, check_at_least, check_seed
from dcmu_jax.files import write_archive
from dcmu_jax.networks.catalogue import create
from dcmu_jax.reading import read_archive
from dcmu_jax.training.classifier import Classifier, fresh_classifier
from dcmu_jax.training.divergence import Diverged, all_finite


@dataclasses.dataclass(frozen=True, eq=False)
class CondensedImages:
    """A few images per class that stand for a training set.

    Attributes:
        images: float32 ``(B, H, W, C)``, pixels on the scale 0..255, not clipped; class after
            class, equally many of each.
        labels: int32 ``(B,)``, ascending.
    """

    images: np.ndarray
    labels: np.ndarray

    def __post_init__(self):
        if not all_finite(self.images):
            raise Diverged("condensed images are not finite")

    @property
    def images_per_class(self) -> int:
        """How many there are of each class."""
        return len(self.labels) // len(np.unique(self.labels))

    def save(self, path: str | Path) -> None:
        """Write an ``npz`` archive; the file appears whole or not at all."""
        write_archive(path, {"images": self.images, "labels": self.labels})

    @classmethod
    def load(cls, path: str | Path, remedy: str = "Condense again") -> CondensedImages:
        """Read what ``save`` wrote. Nothing is unpickled.

        Args:
            path: of the file.
            remedy: what an error says to do.

        Raises:
            InputError: no such file, or not such an archive.
        """
        what = "a set of condensed images"
        found = read_archive(path, what, remedy)
        images, labels = (found.get(name, np.zeros(())) for name in ("images", "labels"))
        kinds = images.dtype.kind + labels.dtype.kind
        if images.ndim != 4 or labels.shape != images.shape[:1] or kinds not in ("fi", "ui"):
            raise InputError(
                f"{path} cannot be read as {what} (images of {images.shape}, labels of "
                f"{labels.shape})",
                "a file written by save",
                remedy,
            )
        try:
            return cls(images, labels)
        except Diverged as error:
            raise InputError(f"{path}: {error.given}", "a file written by save", remedy) from error


class Given(NamedTuple):
    """What a method condenses, once it was checked; see ``Condenser``.

    Attributes:
        dataset: the training set.
        images_per_class: how many images of each class.
        classes: int32, those that have samples, ascending.
        classifier: the network given, if any.
        seed: of all that is random.
    """

    dataset: Dataset
    images_per_class: int
    classes: np.ndarray
    classifier: Classifier | None
    seed: int


class Condenser:
    """A method: a frozen dataclass of its settings that is called with data.

    What it does stands in its ``_condense``; what is checked before is the same for all.
    """

    def __call__(
        self,
        dataset: Dataset,
        images_per_class: int,
        *,
        classifier: Classifier | None = None,
        seed: int = 0,
    ) -> CondensedImages:
        """Condense ``dataset``. The same arguments give the same bits on one machine.

        Args:
            dataset: the training set. A class without samples gets no images.
            images_per_class: 1 or more, at most the samples of any class.
            classifier: a network, trained or not. What is made of it, and of ``None``, each
                method says: its features, or its architecture and normalisation.
            seed: of all that is random.

        Raises:
            InputError: more images per class than some class has samples, or fewer than 1.
        """
        seed = check_seed("seed", seed)
        classes = classes_to_condense(dataset, images_per_class)
        return self._condense(Given(dataset, images_per_class, classes, classifier, seed))

    def _condense(self, given: Given) -> CondensedImages:
        raise NotImplementedError


def classes_to_condense(dataset: Dataset, images_per_class: int) -> np.ndarray:
    """The classes that have samples, int32, ascending: what a method checks at the door.

    Raises:
        InputError: see ``Condenser``.
    """
    check_at_least("images_per_class", images_per_class, 1)
    if len(dataset) == 0:
        raise InputError("No samples to condense", "at least one", "Check what is left of the data")
    classes, counts = np.unique(dataset.labels, return_counts=True)
    fewest = int(counts.argmin())
    if counts[fewest] < images_per_class:
        raise InputError(
            f"{images_per_class} images per class of a dataset whose class {classes[fewest]} has "
            f"{counts[fewest]} samples",
            f"1..{counts[fewest]}",
            "Lower images_per_class, or leave that class out",
        )
    return classes.astype(np.int32)


def network_or_convnet(
    dataset: Dataset, classifier: Classifier | None, seed: int = 0
) -> Classifier:
    """``classifier``, or the catalogue's ``convnet``, untrained, where there is none."""
    seed = check_seed("seed", seed)
    if classifier is not None:
        return classifier
    height, width, channels = dataset.images.shape[1:]
    model = create(
        "convnet",
        image_shape=(height, width, channels),
        num_classes=max(2, dataset.num_classes),
    )
    return fresh_classifier(model, dataset, seed)

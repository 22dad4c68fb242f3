"""Images for benchmarks: those of an archive, or made-up ones, which cost what real ones do."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:  # a benchmark may have to choose JAX's platform before JAX is imported
    from dcmu_jax.data.dataset import Dataset

ARCHIVE = (Path, "npz archive with x_train and y_train")
"""The option ``--data``, where there may be none."""
NEEDED = {"type": Path, "required": True, "help": ARCHIVE[1]}
"""The same, where there must be one."""


def random_images(count: int, side: int = 32) -> tuple[np.ndarray, np.ndarray]:
    """Made-up uint8 ``(count, side, side, 3)`` images of ten classes, and their int32 labels."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, side, side, 3), dtype=np.uint8)
    return images, rng.integers(0, 10, count).astype(np.int32)


def dataset_of(images: np.ndarray, labels: np.ndarray, classes: int = 10) -> Dataset:
    """Samples numbered from 0 on."""
    from dcmu_jax.data.dataset import Dataset

    return Dataset(images, labels, np.arange(len(labels)), classes)


def archive_of(path: Path) -> Dataset:
    """The training images of an archive, of all classes up to the last."""
    with np.load(path) as archive:
        images, labels = archive["x_train"], archive["y_train"].astype(np.int32)
    return dataset_of(images, labels, int(labels.max()) + 1)

"""Synthetic images, seeded and easy to classify, for tests and first tries."""

from __future__ import annotations

import dataclasses
import re

import numpy as np

from dcmu_jax.data.arrays import LEAST_SIDE, splits_from_arrays
from dcmu_jax.data.dataset import Splits
from dcmu_jax.errors import InputError, check_at_least, check_fraction, check_seed, unknown_name


@dataclasses.dataclass(frozen=True, kw_only=True)
class SyntheticOptions:
    """What to make.

    Attributes:
        classes: number of classes, 2 or more.
        per_class: training images per class.
        size: height and width in pixels, 8 or more.
        channels: 1 or 3.
        seed: every image follows from it.
    """

    classes: int = 4
    per_class: int = 100
    size: int = 16
    channels: int = 3
    seed: int = 0

    def __post_init__(self):
        check_at_least("classes", self.classes, 2)
        check_at_least("per_class", self.per_class, 1)
        check_at_least("size", self.size, LEAST_SIDE)
        check_seed("seed", self.seed)
        if self.channels not in (1, 3):
            raise InputError(f"channels = {self.channels}", "1 or 3", "Set channels to 1 or 3")


def parse_options(text: str) -> SyntheticOptions:
    """Options from ``classes=4,per_class=100,size=16,channels=3,seed=0``, each may be left out.

    >>> parse_options("classes=2,seed=7")
    SyntheticOptions(classes=2, per_class=100, size=16, channels=3, seed=7)
    """
    known = [field.name for field in dataclasses.fields(SyntheticOptions)]
    options: dict[str, int] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if name not in known:
            raise unknown_name("option of synthetic", name, known)
        if not (equals and re.fullmatch("[0-9]{1,19}", value)):  # more do not fit 64 bits
            raise InputError(
                f"Option {part[:80]!r} of synthetic",
                f"{name}=a whole number within 64 bits",
                f"Write {name}=10, say",
            )
        options[name] = int(value)
    return SyntheticOptions(**options)


def load_synthetic(options: SyntheticOptions, *, test_fraction: float = 0.2) -> Splits:
    """Images made of a smooth pattern of their class, a weaker one of their own, and noise.

    Args:
        options: what to make.
        test_fraction: share of all images that is test images; they come on top of ``per_class``.

    Returns:
        Both sets in random class order. The same options give the same pixels; train images do
        not depend on ``test_fraction``.
    """
    check_fraction("test_fraction", test_fraction)
    extra = round(options.per_class * test_fraction / (1 - test_fraction))
    patterns = _smooth(np.random.default_rng(options.seed), options.classes, options)
    x_train, y_train = _draw(patterns, options.per_class, 1, options)
    x_test, y_test = _draw(patterns, max(extra, 1), 2, options)
    return splits_from_arrays(x_train, y_train, x_test, y_test, name="synthetic")


def _draw(
    patterns: np.ndarray, per_class: int, stream: int, options: SyntheticOptions
) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng([options.seed, stream])
    labels = rng.permutation(np.repeat(np.arange(options.classes), per_class))
    own = _smooth(rng, len(labels), options)
    noise = rng.normal(size=own.shape)
    pixels = 128 + 40 * patterns[labels] + 20 * own + 10 * noise
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8), labels


def _smooth(rng: np.random.Generator, count: int, options: SyntheticOptions) -> np.ndarray:
    """Random images of unit scale that vary over a quarter of their side, ``(N, H, W, C)``."""
    coarse = rng.normal(size=(count, 4, 4, options.channels))
    at = (np.arange(options.size) * 4) // options.size
    return coarse[:, at][:, :, at]

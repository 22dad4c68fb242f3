"""A random part of a data set, for methods that look at some of it."""

from __future__ import annotations

import jax
import numpy as np

from dcmu_jax.data.dataset import Dataset
from dcmu_jax.prng import Key, typed_key


def drawn(dataset: Dataset, count: int | None, key: Key) -> Dataset:
    """``count`` samples of ``dataset`` without replacement, in its order; ``None`` for all."""
    if count is None or count >= len(dataset):
        return dataset
    rows = jax.random.choice(typed_key(key), len(dataset), (count,), replace=False)
    return dataset.take(np.sort(np.asarray(rows)))

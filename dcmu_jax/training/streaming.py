"""Epochs over examples that the device cannot hold: they pass through it in chunks.

The batches, their order and all keys are those of ``epoch.train_epoch``, so that a streamed epoch
gives what a resident one gives, up to rounding: not the same bits, for the compiler joins the
operations of another program in another way. Rows are read where they lie, which may be a
``numpy.memmap``: no more than the chunks under way is in memory.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from jax.sharding import PartitionSpec as P
from jaxtyping import Array

from dcmu_jax.training.arguments import UNDER_WAY
from dcmu_jax.training.devices import placed
from dcmu_jax.training.epoch import (
    EpochSettings,
    TrainState,
    compiled_chunk,
    compiled_end,
    epoch_order,
)
from dcmu_jax.training.examples import Examples


def streamed_epoch(
    settings: EpochSettings,
    state: TrainState,
    frozen: Any,
    normalisation: Any,
    mask: Any,
    examples: Examples,
    key: Array,
    chunk: int,
) -> tuple[TrainState, Array, Array]:
    """``train_epoch`` on examples of the host, ``chunk`` steps at a time.

    Args:
        settings: see ``EpochSettings``; without a rule.
        state: donated.
        frozen: as for ``train_epoch``.
        normalisation: likewise.
        mask: likewise.
        examples: NumPy arrays, or such as index like them.
        key: of the run.
        chunk: steps that are sent at once.
    """
    n, size = len(examples.labels), settings.batch_size
    order, real = map(np.asarray, epoch_order(key, state.epoch, n, size, n))
    sums = []
    for first in range(0, len(order) // size, chunk):
        places = slice(first * size, (first + chunk) * size)
        batches = jax.tree.map(lambda a, at=order[places]: _rows(a, at, size), examples)
        batches = batches._replace(weights=batches.weights * real[places].reshape(-1, size))
        if settings.mesh is not None:
            batches = placed(batches, settings.mesh, P(None, "data"))
        # The host goes on to the next chunk while the device trains, but not far ahead of it.
        if len(sums) >= UNDER_WAY - 1:
            jax.block_until_ready(sums[1 - UNDER_WAY])
        state, chunk_sums = compiled_chunk(
            settings, state, frozen, normalisation, mask, batches, np.int32(first), key
        )
        sums.append(chunk_sums)
    joined = tuple(np.concatenate([np.asarray(x) for x in xs]) for xs in zip(*sums, strict=True))
    return compiled_end(state, joined)


def _rows(array: np.ndarray, at: np.ndarray, size: int) -> np.ndarray:
    """Rows of an array as batches; read in the order in which they lie on disk."""
    order = np.argsort(at, kind="stable")
    rows = np.empty((len(at), *array.shape[1:]), array.dtype)
    rows[order] = array[at[order]]
    return rows.reshape(-1, size, *array.shape[1:])

"""Clusters packed into chunks of one shape, for a program that is compiled once.

The plain form takes one cluster after another: ``core.distribution_matching``. That chunks change
nothing is held by tests/fast/test_matching.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Int

from dcmu_jax.platforms import platform


class ChunkArrays(NamedTuple):
    """The arrays of one chunk; padding samples have a cluster number past the last one."""

    pixels: np.ndarray
    cluster: np.ndarray
    start: np.ndarray
    scale: np.ndarray
    targets: np.ndarray
    real: np.ndarray


class Chunk(NamedTuple):
    """Some clusters, padded to the shape all chunks share: their samples, numbers and arrays."""

    samples: np.ndarray
    clusters: np.ndarray
    arrays: ChunkArrays


def one_cluster(samples: int, x: Any, width: int) -> Any:
    """The shapes of one cluster: of images like those of ``x``, with features of ``width``."""
    rows = (samples, samples, samples, samples, 1, 1)
    shapes = (*x.shape[-3:-1], 0), (), (), (), (width,), ()
    kinds = (x.dtype, np.int32, np.float32, np.float32, np.float32, bool)
    return ChunkArrays(
        *(jax.ShapeDtypeStruct((n, *s), k) for n, s, k in zip(rows, shapes, kinds, strict=True))  # pyright: ignore[reportArgumentType]
    )


def default_chunk() -> int:
    """Clusters optimised together when the configuration leaves it open.

    Combining images costs as the square of it (``weights.combine``), convolutions gain by more at
    once. Measured on CPU; on a TPU by its compiler's estimate of cycles; on a GPU not yet.
    """
    return {"cpu": 16, "tpu": 128, "gpu": 256}[platform()]


def deal_clusters(
    pixels: np.ndarray,
    targets: Float[np.ndarray, "clusters dim"],
    cluster: Int[np.ndarray, " samples"],
    weights: Float[np.ndarray, " samples"],
    *,
    width: int | None = None,
    scale_by_size: bool = False,
    at_once: int = 1,
) -> Iterator[Chunk]:
    """Deal the clusters, large to small and back, into chunks of nearly equal numbers of samples.

    Clusters of one sample stay out: their image is the sample, and their loss is 0 at weight 1.
    Shapes are rounded up so that a slightly different set of clusters is not compiled again.

    Args:
        pixels: ``(N, H, W, C)``.
        targets: of each cluster.
        cluster: cluster of every sample; all of ``0..B-1`` occur.
        weights: where each sample starts.
        width: clusters of a chunk at most; ``default_chunk`` if not given.
        scale_by_size: a step of a sample in a cluster of ``n`` counts ``1/n``, else 1.
        at_once: chunks that are worked on together; there are so many that each has some clusters.

    Yields:
        Chunks whose arrays have equal shapes.
    """
    sizes = np.bincount(cluster)
    several = np.argsort(-sizes, kind="stable")[: np.count_nonzero(sizes > 1)]
    if len(several) == 0:
        return
    share = -(-len(several) // at_once)
    width = min(width or default_chunk(), 1 << (share - 1).bit_length())
    num_chunks = -(-len(several) // width)
    dealt = np.full(num_chunks * width, -1)
    dealt[: len(several)] = several
    dealt = dealt.reshape(width, num_chunks)
    dealt[1::2] = dealt[1::2, ::-1]
    groups = [np.sort(column[column >= 0]) for column in dealt.T]
    length = max(int(sizes[group].sum()) for group in groups)
    length = -(-length // width) * width
    by_cluster = np.argsort(cluster, kind="stable")
    ends = np.cumsum(sizes)
    for group in groups:
        samples = np.concatenate([by_cluster[ends[j] - sizes[j] : ends[j]] for j in group])
        own = np.repeat(sizes[group], sizes[group])
        local = np.repeat(np.arange(len(group)), sizes[group])
        scale = 1.0 / own if scale_by_size else np.ones(len(own))
        pad = (0, length - len(samples))
        arrays = ChunkArrays(
            pixels=np.pad(pixels[samples], (pad, (0, 0), (0, 0), (0, 0))),
            cluster=np.pad(local, pad, constant_values=width).astype(np.int32),
            start=np.pad(weights[samples], pad).astype(np.float32),
            scale=np.pad(scale, pad).astype(np.float32),
            targets=np.pad(targets[group], ((0, width - len(group)), (0, 0))).astype(np.float32),
            real=np.arange(width) < len(group),
        )
        yield Chunk(samples, group, arrays)

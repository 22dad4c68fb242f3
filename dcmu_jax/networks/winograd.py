"""Winograd's F(2x2, 3x3): a 3x3, stride-1 convolution with 2.25 times fewer multiplications.

Every 2x2 tile of the output depends on a 4x4 tile of the input. With the matrices below, 2-D in
the way of ``B d B^T``, a tile is ``A ((G k G^T) * (B d B^T)) A^T``; summed over channels, the
product is one matrix product for each of the 16 positions (Lavin & Gray 2016, section 4.1).
Slices and sums only, so it is differentiable any number of times, forwards and in reverse.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

_INPUT = ((1.0, 0.0, -1.0, 0.0), (0.0, 1.0, 1.0, 0.0), (0.0, -1.0, 1.0, 0.0), (0.0, 1.0, 0.0, -1.0))
_KERNEL = ((1.0, 0.0, 0.0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0.0, 0.0, 1.0))
_OUTPUT = ((1.0, 1.0, 1.0, 0.0), (0.0, 1.0, -1.0, -1.0))


def _combine(matrix: Sequence[Sequence[float]], terms: Sequence[Array]) -> list[Array]:
    """``matrix`` times the column of arrays ``terms``, written as sums (few entries are not 0)."""
    return [
        functools.reduce(
            operator.add,
            (c * term for c, term in zip(row, terms, strict=True) if c != 0),
        )
        for row in matrix
    ]


def convolve_winograd(
    x: Float[Array, "batch height width in"],
    kernel: Float[Array, "3 3 in out"],
    pads: Sequence[tuple[int, int]],
    precision: Any = None,
) -> Float[Array, "batch out_height out_width out"]:
    """The stride-1 convolution of ``x``, padded by ``pads``, with a 3x3 ``kernel``.

    Equal to the direct convolution up to rounding (relative error a few 1e-7 in float32).
    """
    height, width = (x.shape[i + 1] + sum(pads[i]) - 2 for i in (0, 1))
    tall, wide = (height + 1) // 2, (width + 1) // 2  # tiles; an odd edge is padded and cropped
    (top, bottom), (left, right) = pads
    edges = ((0, 0), (top, bottom + height % 2), (left, right + width % 2), (0, 0))
    x = jnp.pad(x, edges)

    rows = _combine(_INPUT, [x[:, i : i + 2 * tall - 1 : 2] for i in range(4)])
    tiles = [
        _combine(_INPUT, [row[:, :, j : j + 2 * wide - 1 : 2] for j in range(4)]) for row in rows
    ]
    kernels = [
        _combine(_KERNEL, [row[j] for j in range(3)])
        for row in _combine(_KERNEL, [kernel[i] for i in range(3)])
    ]
    products = [
        [
            jnp.matmul(tiles[i][j].reshape(-1, x.shape[-1]), kernels[i][j], precision=precision)
            for j in range(4)
        ]
        for i in range(4)
    ]
    halves = [_combine(_OUTPUT, [products[i][j] for i in range(4)]) for j in range(4)]
    corners = [_combine(_OUTPUT, [halves[j][p] for j in range(4)]) for p in range(2)]
    shape = (x.shape[0], tall, wide, kernel.shape[-1])
    lines = [jnp.stack([corner.reshape(shape) for corner in pair], axis=3) for pair in corners]
    y = jnp.stack([line.reshape(shape[0], tall, 2 * wide, shape[3]) for line in lines], axis=2)
    return y.reshape(shape[0], 2 * tall, 2 * wide, shape[3])[:, :height, :width]

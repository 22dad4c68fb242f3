"""Horizontal flips, at random or by turns, and shifted crops, inside a compiled step."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Num

from dcmu_jax.errors import InputError, check_at_least
from dcmu_jax.prng import Key, typed_key


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """Augmentation of training images; hashable, so it can be a static argument.

    A subclass with an ``apply`` of its own may do something else; it trains as this one does.

    Attributes:
        flip: flip each image horizontally with probability one half.
        alternating_flip: flip each image in every second epoch instead, half of them from the
            first epoch on: two epochs show an image both ways, where draws would show a half of
            them twice the same (Jordan 2024). Its pixels decide to which half an image belongs,
            so that nothing has to be remembered of it.
        crop_padding: pixels by which each image is shifted at most, in either direction and
            axis; what comes in is the reflection of the image at its border. 0 is off.
    """

    flip: bool = False
    crop_padding: int = 0
    alternating_flip: bool = False

    def __post_init__(self):
        check_at_least("crop_padding", self.crop_padding, 0)
        if self.flip and self.alternating_flip:
            raise InputError(
                "flip and alternating_flip",
                "one of them: images are flipped at random or by turns",
                "Set one of them to False",
            )

    def apply(
        self,
        pixels: Num[Array | np.ndarray, "batch height width channels"],
        key: Key,
        epoch: Int[Array, ""] | int = 0,
    ) -> Num[Array, "batch height width channels"]:
        """Flip and crop every image; see ``augment``."""
        pixels = jnp.asarray(pixels)
        batch, height, width, _ = pixels.shape
        padding = self.crop_padding
        if padding >= min(height, width):
            raise InputError(
                f"crop_padding = {padding} on images of {height}x{width} pixels",
                f"0..{min(height, width) - 1}",
                "Lower crop_padding",
            )
        if not (self.flip or self.alternating_flip) and padding == 0:
            return pixels
        flip_key, row_key, column_key = jax.random.split(typed_key(key), 3)
        rows = _shifted(row_key, batch, height, padding)
        columns = _shifted(column_key, batch, width, padding)
        if self.flip or self.alternating_flip:
            if self.flip:
                flipped = jax.random.bernoulli(flip_key, shape=(batch, 1))
            else:
                flipped = (_half(pixels) + jnp.asarray(epoch, jnp.uint32)) % 2 == 1
            columns = jnp.where(flipped, columns[:, ::-1], columns)
        if pixels.dtype == jnp.uint8:
            return jax.lax.platform_dependent(
                pixels, rows, columns, tpu=_by_products, default=_by_index
            )
        return _by_index(pixels, rows, columns)


def augment(
    pixels: Num[Array | np.ndarray, "batch height width channels"],
    key: Key,
    augmentation: Augmentation,
    epoch: Int[Array, ""] | int = 0,
) -> Num[Array, "batch height width channels"]:
    """Flip and crop every image, at random or by turns.

    The same as padding by reflection, cropping at a random place and flipping, but done by one
    gather of row and column indices, for every image at once (on a TPU by two matrix products, to
    the same bits). Shape and dtype stay, and every
    pixel that comes out is one of the same image. The same key gives the same result.

    Args:
        pixels: the batch, of any dtype.
        key: randomness of this batch; use another for the next one.
        augmentation: what to do; static under ``jit``.
        epoch: int32, from 0: whose turn it is to be flipped.

    Raises:
        InputError: ``crop_padding`` is not smaller than the sides of the images.
    """
    return augmentation.apply(pixels, key, epoch)


def _half(pixels: Array) -> Array:
    """uint32 ``(batch, 1)``, 0 or 1: the highest bit of the pixels' sum times a mixing constant."""
    total = jnp.sum(pixels.astype(jnp.uint32).reshape(len(pixels), -1), axis=1, keepdims=True)
    return (total * jnp.uint32(2654435769)) >> 31


def _shifted(key: Array, batch: int, side: int, padding: int) -> Array:
    """Indices ``(batch, side)`` along one axis after a random shift, reflected at the borders."""
    shift = jax.random.randint(key, (batch, 1), -padding, padding + 1)
    index = jnp.abs(jnp.arange(side).reshape(1, side) + shift)
    return jnp.where(index >= side, 2 * (side - 1) - index, index)


def _by_index(pixels: Array, rows: Array, columns: Array) -> Array:
    """Of every image the given rows and columns, indices ``(batch, side)``."""
    image = jnp.arange(len(pixels)).reshape(-1, 1, 1)
    return pixels[image, rows[:, :, None], columns[:, None, :]]


def _by_products(pixels: Array, rows: Array, columns: Array) -> Array:
    """As ``_by_index`` for uint8: a TPU gathers pixels one by one, and multiplies many at once.

    Every sum has one term that is not 0, a whole number below 257, which bfloat16 holds exactly.
    """
    picked_rows, picked_columns = (
        jax.nn.one_hot(picked, side, dtype=jnp.bfloat16)
        for picked, side in zip((rows, columns), pixels.shape[1:3], strict=True)
    )
    chosen = jnp.einsum("brh,bhwc->brwc", picked_rows, pixels.astype(jnp.bfloat16))
    return jnp.einsum("bkw,brwc->brkc", picked_columns, chosen).astype(pixels.dtype)

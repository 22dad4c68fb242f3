"""Pixels at the door of a network: 0..255, of the right shape, and not normalised by the caller."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from dcmu_jax.errors import InputError

_NORMALISED = 20.0
"""Normalised pixels lie within some ten standard deviations; an image of 0..255 spreads wider."""


def check_pixels(given: Any, image_shape: tuple[int, int, int]) -> Any:
    """Pixels ``(N, height, width, channels)`` in 0..255 for a network of such images.

    Integers are looked at only where they are not uint8, floats always: condensed images may leave
    0..255 a little. Floats up to 1 are refused, as they are pixels in [0, 1] by all likelihood;
    images of nothing but zeros are black in either scale, and pass.

    Args:
        given: an array of NumPy or JAX, or a list. One that lies on disk stays there.
        image_shape: of the network's inputs.

    Returns:
        The array, in NumPy.

    Raises:
        InputError: another shape, no numbers, NaN or infinite pixels, pixels in [0, 1] or
            normalised already, integers outside 0..255.
    """
    try:
        pixels = given if isinstance(given, np.ndarray) else np.asarray(given)
    except ValueError as error:  # rows of several lengths
        raise InputError(f"Pixels that are no array ({error})", "an array", "Stack them") from error
    if pixels.ndim != 4 or pixels.shape[1:] != tuple(image_shape):
        raise InputError(
            f"Pixels of shape {pixels.shape} for a network of images {tuple(image_shape)}",
            f"(N, {', '.join(map(str, image_shape))}): number, height, width, channels",
            _reshape(pixels.shape, tuple(image_shape)),
        )
    floating = jnp.issubdtype(pixels.dtype, jnp.floating)
    if not floating and pixels.dtype.kind not in "iu":
        raise InputError(
            f"Pixels of dtype {pixels.dtype}",
            "uint8, or float in 0..255",
            "Pass pixels.astype('uint8') * 255 if they are True and False, else the 8-bit image",
        )
    if pixels.dtype == np.uint8 or not pixels.size:
        return pixels
    low, high = float(pixels.min()), float(pixels.max())
    if not floating:
        if low < 0 or high > 255:
            raise InputError(
                f"Pixels from {low:g} to {high:g}", "0..255", "Scale them to 8 bits first"
            )
        return pixels
    if not (np.isfinite(low) and np.isfinite(high)):
        raise InputError(
            "Pixels that are NaN or infinite", "finite numbers in 0..255", "Mend the images"
        )
    if 0 <= low and 0 < high <= 1:
        raise InputError(
            f"Pixels from {low:.4g} to {high:.4g}, which look scaled to [0, 1]",
            "pixels in 0..255: the network normalises by itself",
            "Multiply by 255; images of 0..255 that are as dark as this go in as uint8",
        )
    if low < 0 and high - low < _NORMALISED:
        raise InputError(
            f"Pixels from {low:.4g} to {high:.4g}, which look normalised already",
            "pixels in 0..255: the network normalises by itself",
            "Pass the images as they were before, or normalisation.invert(pixels)",
        )
    return pixels


def _reshape(shape: tuple[int, ...], wanted: tuple[int, ...]) -> str:
    """What to do with an array of ``shape``."""
    if shape == wanted:
        return "Pass pixels[None] for a single image"
    if len(shape) == 4 and shape[1:] == (wanted[2], *wanted[:2]):
        return "Pass pixels.transpose(0, 2, 3, 1), as the channels come first"
    if len(shape) == 3 and (*shape[1:], 1) == wanted:
        return "Pass pixels[..., None], as the axis of the channels is missing"
    return "Bring the images to the size and channels that the network was made for"

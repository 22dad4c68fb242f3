"""Checks of pixels: 0..255, of the network's shape, and not normalised by the caller."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from dcmu_jax.data.chunks import chunks
from dcmu_jax.data.dataset import Normalisation
from dcmu_jax.errors import InputError

_NORMALISED = 20.0
"""Normalised pixels lie within some ten standard deviations; an image of 0..255 spreads wider."""

_SCALED = 8.0
"""Fractions below this are pixels in [0, 1] that were brightened, or divided by their deviation."""

_FAR = 765.0
"""Images by model inversion are not bounded; none was seen that left 0..255 by as much as 255."""

_FEW = 4
"""Images that may well be black but for a speck; more of them are black and white."""


def check_pixels(
    given: Any, image_shape: tuple[int, int, int], normalisation: Normalisation | None = None
) -> Any:
    """Pixels ``(N, height, width, channels)`` in 0..255 for a network of such images.

    Condensed images may leave 0..255, whole numbers not. Small fractions are refused, as they are
    pixels in [0, 1] by all likelihood; images of nothing but zeros are black in either scale, and
    pass. So are whole numbers of nothing but 0 and 1, unless the network was trained on such.

    Args:
        given: an array of NumPy or JAX, or a list. One that lies on disk stays there, and is read
            only as far as its pixels are 0 and 1.
        image_shape: of the network's inputs.
        normalisation: of the network's inputs, which tells what it was trained on.

    Returns:
        The array, in NumPy.

    Raises:
        InputError: another shape, no numbers, NaN or infinite pixels, pixels in [0, 1] or
            normalised already, whole numbers outside 0..255, others far outside.
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
    if not pixels.size:
        return pixels
    if floating:
        _check_floats(pixels)
    else:
        if pixels.dtype != np.uint8:
            _check_whole(float(pixels.min()), float(pixels.max()))
        _check_bright(pixels, normalisation)
    return pixels


def _check_whole(low: float, high: float) -> None:
    if low < 0 or high > 255:
        raise InputError(f"Pixels from {low:g} to {high:g}", "0..255", "Scale them to 8 bits first")


def _check_bright(pixels: np.ndarray, normalisation: Normalisation | None) -> None:
    """Raise for whole numbers of nothing but 0 and 1, where the network knows brighter ones."""
    if len(pixels) <= _FEW or normalisation is None:
        return
    brightest = 0
    for rows in chunks(pixels):
        brightest = max(brightest, int(pixels[rows].max()))
        if brightest > 1:  # as a rule in the first chunk
            return
    if brightest and 255 * float(np.max(normalisation.std)) > 2:
        raise InputError(
            f"{len(pixels)} images whose pixels are 0 and 1 alone, for a network of brighter ones",
            "pixels in 0..255",
            "Multiply by 255 if 1 is white",
        )


def _check_floats(pixels: np.ndarray) -> None:
    low, high = float(pixels.min()), float(pixels.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise InputError(
            "Pixels that are NaN or infinite", "finite numbers in 0..255", "Mend the images"
        )
    if low < 0 and high - low < _NORMALISED:
        raise InputError(
            f"Pixels from {low:.4g} to {high:.4g}, which look normalised already",
            "pixels in 0..255: the network normalises by itself",
            "Pass the images as they were before, or normalisation.invert(pixels)",
        )
    dark, wide = 0 <= low and 0 < high < _SCALED, low < 0 or high > 255
    whole = (dark or wide) and bool((pixels == np.rint(pixels)).all())
    if dark and (high <= 1 or not whole):
        raise InputError(
            f"Pixels from {low:.4g} to {high:.4g}, which look scaled to [0, 1]",
            "pixels in 0..255: the network normalises by itself",
            "Multiply by 255"
            if high <= 1
            else "Pass the images as they were before they were scaled",
        )
    if wide and (whole or low < -_FAR or high > 255 + _FAR):
        _check_whole(low, high)


def _reshape(shape: tuple[int, ...], wanted: tuple[int, ...]) -> str:
    """What to do with an array of ``shape``."""
    if shape == wanted:
        return "Pass pixels[None] for a single image"
    if len(shape) == 4 and shape[1:] == (wanted[2], *wanted[:2]):
        return "Pass pixels.transpose(0, 2, 3, 1), as the channels come first"
    if len(shape) == 3 and (*shape[1:], 1) == wanted:
        return "Pass pixels[..., None], as the axis of the channels is missing"
    return "Bring the images to the size and channels that the network was made for"

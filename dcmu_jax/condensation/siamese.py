"""Differentiable siamese augmentation: one change, drawn once, of real and synthetic images alike.

Zhao & Bilen 2021. One of six strategies is drawn and applied with the same parameters to all
images. Each is differentiable in the images, so that a loss of augmented images teaches their
originals. Everything happens to network inputs, where 0 is the mean colour of the training set.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Num

from dcmu_jax.data.augmentation import Augmentation
from dcmu_jax.data.dataset import Normalisation
from dcmu_jax.errors import check_at_least, unknown_name
from dcmu_jax.prng import Key, typed_key

Images = Float[Array, "batch height width channels"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SiameseAugmentation:
    """What is drawn from, the published values as defaults; hashable.

    Three numbers ``a, b, c`` from U(0, 1) are the parameters of whatever strategy is drawn.

    Attributes:
        strategies: names out of ``STRATEGIES``, equally likely; none of them is the identity.
        brightness: ``color`` adds ``(a - 0.5) * brightness``,
        saturation: then scales the distance to the mean over channels by ``b * saturation``,
        contrast: then the distance to the mean of the image by ``c + contrast``.
        crop: ``crop`` shifts by at most this share of the side, along either axis; 0 comes in.
        cutout: ``cutout`` sets a rectangle to 0; its sides as a share of the image's.
        flip: ``flip`` flips horizontally with this probability.
        scale: ``scale`` shrinks or widens each axis by a factor in ``[1 / scale, scale]``; 0 comes
            in.
        rotate: ``rotate`` turns by at most this many degrees; 0 comes in.
    """

    strategies: tuple[str, ...] = ("color", "crop", "cutout", "flip", "scale", "rotate")
    brightness: float = 1.0
    saturation: float = 2.0
    contrast: float = 0.5
    crop: float = 0.125
    cutout: float = 0.5
    flip: float = 0.5
    scale: float = 1.2
    rotate: float = 15.0

    def __post_init__(self):
        for name in self.strategies:
            if name not in STRATEGIES:
                raise unknown_name("augmentation", name, STRATEGIES)
        for field in dataclasses.fields(self)[1:]:
            least = 1 if field.name == "scale" else 0
            check_at_least(field.name, getattr(self, field.name), least)

    def __call__(self, inputs: Images, key: Array) -> Images:
        """All images changed alike, by the draw of ``key``.

        Guarantee: what happens to an image depends on ``key`` and its size alone, so two batches
        given the same key are changed by the same strategy with the same parameters.

        Args:
            inputs: network inputs.
            key: of the draw; use another for the next one.
        """
        if not self.strategies:
            return inputs
        strategy_key, key = jax.random.split(key)
        return self.transform(inputs, self._draw(strategy_key), jax.random.uniform(key, (3,)))

    def each(self, inputs: Images, key: Array) -> Images:
        """One strategy for the batch, but every image with parameters of its own.

        So networks are trained on condensed images that were made with siamese augmentation.
        """
        if not self.strategies:
            return inputs
        strategy_key, key = jax.random.split(key)
        strategy = self._draw(strategy_key)
        numbers = jax.random.uniform(key, (inputs.shape[0], 3))
        return jax.vmap(lambda x, row: self.transform(x[None], strategy, row)[0])(inputs, numbers)

    def _draw(self, key: Array) -> Int[Array, ""]:
        return jax.random.randint(key, (), 0, len(self.strategies))

    def transform(
        self, inputs: Images, strategy: Int[Array, ""], numbers: Float[Array, "3"]
    ) -> Images:
        """The strategy with index ``strategy`` in ``strategies``, with given parameters."""
        branches = [functools.partial(STRATEGIES[name], self) for name in self.strategies]
        return jax.lax.switch(strategy, branches, inputs, numbers)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SiameseTraining(Augmentation):
    """Siamese augmentation of training images, as ``training.loop.fit`` takes it.

    Pixels are normalised, changed by ``SiameseAugmentation.each`` and brought back to pixels.

    Attributes:
        siamese: what is drawn from.
        mean: of the normalisation, one number per channel.
        std: of the normalisation.
    """

    siamese: SiameseAugmentation
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def of(cls, siamese: SiameseAugmentation, normalisation: Normalisation) -> SiameseTraining:
        """With the normalisation of the network that trains."""
        mean, std = (tuple(map(float, values)) for values in normalisation)
        return cls(siamese=siamese, mean=mean, std=std)

    def apply(
        self,
        pixels: Num[Array | np.ndarray, "batch height width channels"],
        key: Key,
        epoch: Int[Array, ""] | int = 0,
    ) -> Float[Array, "batch height width channels"]:
        """Change every image by its own draw; what the base class does, if anything, first."""
        first_key, rest = jax.random.split(typed_key(key))
        pixels = super().apply(pixels, first_key, epoch)
        normalisation = Normalisation(jnp.array(self.mean), jnp.array(self.std))
        return normalisation.invert(self.siamese.each(normalisation.apply(pixels), rest))


def _color(a: SiameseAugmentation, x: Images, numbers: Array) -> Images:
    x = x + (numbers[0] - 0.5) * a.brightness
    mean = x.mean(3, keepdims=True)
    x = (x - mean) * (numbers[1] * a.saturation) + mean
    mean = x.mean((1, 2, 3), keepdims=True)
    return (x - mean) * (numbers[2] + a.contrast) + mean


def _pick(number: Array, count: int) -> Int[Array, ""]:
    """One of 0..count-1 from a number in [0, 1)."""
    return jnp.minimum(jnp.floor(number * count).astype(jnp.int32), count - 1)


def _crop(a: SiameseAugmentation, x: Images, numbers: Array) -> Images:
    pads = [math.floor(side * a.crop + 0.5) for side in x.shape[1:3]]
    padded = jnp.pad(x, ((0, 0), *((pad, pad) for pad in pads), (0, 0)))
    start = [_pick(number, 2 * pad + 1) for number, pad in zip(numbers[:2], pads, strict=True)]
    zero = jnp.zeros((), jnp.int32)
    return jax.lax.dynamic_slice(padded, (zero, *start, zero), x.shape)


def _cutout(a: SiameseAugmentation, x: Images, numbers: Array) -> Images:
    inside = []
    for side, number in zip(x.shape[1:3], numbers[:2], strict=True):
        size = math.floor(side * a.cutout + 0.5)
        # The middle of the rectangle lies anywhere, so part of it may fall outside.
        low = _pick(number, side + 1 - size % 2) - size // 2
        at = jnp.arange(side)
        inside.append((at >= low) & (at < low + size))
    return jnp.where((inside[0][:, None] & inside[1][None])[None, :, :, None], 0.0, x)


def _flip(a: SiameseAugmentation, x: Images, numbers: Array) -> Images:
    return jnp.where(numbers[0] < a.flip, x[:, :, ::-1], x)


def _centred(side: int) -> Float[Array, " side"]:
    return jnp.arange(side) - (side - 1) / 2


def _scale(a: SiameseAugmentation, x: Images, numbers: Array) -> Images:
    factors = numbers[:2] * (a.scale - 1 / a.scale) + 1 / a.scale
    rows, columns = (_centred(side) * f for side, f in zip(x.shape[1:3], factors, strict=True))
    return _sample(x, *jnp.meshgrid(rows, columns, indexing="ij"))


def _rotate(a: SiameseAugmentation, x: Images, numbers: Array) -> Images:
    angle = (numbers[0] - 0.5) * 2 * math.radians(a.rotate)
    rows, columns = jnp.meshgrid(*map(_centred, x.shape[1:3]), indexing="ij")
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    return _sample(x, sin * columns + cos * rows, cos * columns - sin * rows)


def _sample(
    x: Images, rows: Float[Array, "height width"], columns: Float[Array, "height width"]
) -> Images:
    """Bilinear values of ``x`` at places counted from its middle; outside it is 0."""
    height, width = x.shape[1:3]
    rows, columns = rows + (height - 1) / 2, columns + (width - 1) / 2
    total = jnp.zeros_like(x)
    for down in (0, 1):
        for right in (0, 1):
            row, column = jnp.floor(rows) + down, jnp.floor(columns) + right
            share = (1 - jnp.abs(rows - row)) * (1 - jnp.abs(columns - column))
            inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
            i = jnp.clip(row, 0, height - 1).astype(jnp.int32)
            j = jnp.clip(column, 0, width - 1).astype(jnp.int32)
            total += x[:, i, j] * jnp.where(inside, share, 0.0)[None, :, :, None]
    return total


STRATEGIES: dict[str, Callable[[SiameseAugmentation, Images, Array], Images]] = {
    "color": _color,
    "crop": _crop,
    "cutout": _cutout,
    "flip": _flip,
    "scale": _scale,
    "rotate": _rotate,
}
"""Each strategy: settings, images, three numbers in [0, 1) -> images."""

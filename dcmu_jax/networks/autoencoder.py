"""The condensed model's networks: encoder, decoder, small classifier, and what joins them.

Paper section IV-E.2 and figure 11: an encoder is ``beginning``, a decoder ``intermediate``, so
that the two together map images to images, and any network of images can be ``final``.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from dcmu_jax.errors import InputError, check_at_least
from dcmu_jax.networks.convolution import max_pool
from dcmu_jax.networks.layers import Dropout, Layers, flatten


@dataclasses.dataclass(frozen=True, kw_only=True)
class Architecture:
    """The sizes of an autoencoder; the defaults are the paper's code.

    Attributes:
        channels: of the encoder's levels, each of which halves the image; the decoder has them
            in reverse.
        convolutions: 3x3 convolutions after every halving or doubling but the last.
        batch_norm: before every ReLU.
        extra_channels: that the decoder gives besides those of the image: features for ``final``,
            which no reconstruction binds.
        head: widths of the classifier of codes that pretraining has.
        small_channels: of the small ``final``'s three convolutions.
        small_hidden: width of its dense layer.
        init: see ``initialisers.kernel_and_bias``.
        dtype: of the computation.
        conv: ``auto``, ``lax`` or ``dot``.
    """

    channels: tuple[int, ...] = (32, 64, 128)
    convolutions: int = 0
    batch_norm: bool = False
    extra_channels: int = 0
    head: tuple[int, ...] = (1024, 512, 256)
    small_channels: tuple[int, ...] = (64, 128, 256)
    small_hidden: int = 512
    init: str = "torch"
    dtype: str = "float32"
    conv: str = "auto"

    def check(self, image_shape: tuple[int, int, int]) -> None:
        """Raise ``InputError`` for sizes that make no network of such images."""
        for name in ("channels", "small_channels"):
            widths = getattr(self, name)
            if not widths or min(widths) < 1:
                raise InputError(
                    f"{name} = {widths}", "one or more widths of 1 or more", f"Set {name}"
                )
        for name in ("convolutions", "extra_channels"):
            check_at_least(name, getattr(self, name), 0)
        check_at_least("small_hidden", self.small_hidden, 1)
        least = 2 ** max(len(self.channels), len(self.small_channels))
        if min(image_shape[:2]) < least:
            raise InputError(
                f"Images of {image_shape[0]}x{image_shape[1]} pixels for an autoencoder that "
                f"halves them {len(self.channels)} times",
                f"{least}x{least} or more",
                "Bring larger images, or take fewer levels",
            )


class _Level(nn.Module):
    """What follows a halving or doubling: BatchNorm if any, ReLU, further convolutions."""

    architecture: Architecture
    layers: Layers

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        x = self._active(x, train)
        for _ in range(self.architecture.convolutions):
            x = self._active(self.layers.conv(x, x.shape[-1]), train)
        return x

    def _active(self, x: Array, train: bool) -> Array:
        return nn.relu(self.layers.batch_norm(x, train) if self.architecture.batch_norm else x)


def _layers(architecture: Architecture) -> Layers:
    return Layers(architecture.dtype, architecture.init, architecture.conv)


class Encoder(nn.Module):
    """4x4 convolutions of stride 2 with ReLU: images to codes of an eighth of their sides.

    Images whose sides are no multiple of 8 are padded with 0, the mean colour.

    Attributes:
        architecture: the sizes.
        keep_input: give the images with the codes, for pretraining.
    """

    architecture: Architecture
    keep_input: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "batch height width channels"], train: bool = False) -> Any:
        """Codes ``(batch, rows, columns, channels)``."""
        layers = _layers(self.architecture)
        unit = 2 ** len(self.architecture.channels)
        h = jnp.pad(x, ((0, 0), (0, -x.shape[1] % unit), (0, -x.shape[2] % unit), (0, 0)))
        for channels in self.architecture.channels:
            h = layers.conv(h, channels, 4, strides=2)
            h = _Level(self.architecture, layers)(h, train)
        return (h, x) if self.keep_input else h


class Decoder(nn.Module):
    """Transposed 4x4 convolutions of stride 2 with ReLU between them: codes back to images.

    The last one is linear: what it gives is on the scale of network inputs, which is that of its
    target (the authors' ends in a sigmoid, whose range normalised images leave).

    Attributes:
        architecture: the sizes.
        image_shape: ``(height, width, channels)`` of the images.
        keep_input: take and give codes and images with the decoded images, for pretraining.
    """

    architecture: Architecture
    image_shape: tuple[int, int, int]
    keep_input: bool = False

    @nn.compact
    def __call__(self, code: Any, train: bool = False) -> Any:
        """Images as network inputs ``(batch, height, width, channels + extra_channels)``."""
        layers = _layers(self.architecture)
        height, width, channels = self.image_shape
        h = code[0] if self.keep_input else code
        for features in self.architecture.channels[-2::-1]:
            h = _Level(self.architecture, layers)(layers.doubling_conv(h, features), train)
        h = layers.doubling_conv(h, channels + self.architecture.extra_channels)
        h = h[:, :height, :width].astype(jnp.float32)
        return (code[0], h, code[1]) if self.keep_input else h


class CodeHead(nn.Module):
    """Dense layers on the code, the classifier that pretraining has and nothing keeps."""

    architecture: Architecture
    num_classes: int

    @nn.compact
    def __call__(self, x: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        """Logits, the decoded image, and the image it should be."""
        code, decoded, image = x
        layers = _layers(self.architecture)
        h = flatten(code)
        for width in self.architecture.head:
            h = nn.relu(layers.dense(h, width))
        logits = layers.dense(h, self.num_classes).astype(jnp.float32)
        return logits, decoded[..., : image.shape[-1]], image


class SmallClassifier(nn.Module):
    """Blocks of 3x3 convolution, ReLU and 2x2 maximum; dense, ReLU, dropout, dense to the logits.

    Attributes:
        architecture: the sizes.
        num_classes: number of logits.
    """

    architecture: Architecture
    num_classes: int

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Float[Array, "batch classes"]:
        """Logits of images."""
        layers = _layers(self.architecture)
        for channels in self.architecture.small_channels:
            x = max_pool(nn.relu(layers.conv(x, channels)))
        x = nn.relu(layers.dense(flatten(x), self.architecture.small_hidden))
        x = Dropout(0.5)(x, train)
        return layers.dense(x, self.num_classes).astype(jnp.float32)


class CondensedNetwork(nn.Module):
    """An encoder, a decoder and a classifier of images as the three parts of one network.

    Features are the codes, as the authors cluster them.

    Attributes:
        beginning: the encoder.
        intermediate: the decoder.
        final: the small classifier, or any network that takes images ``final(x, train)``.
    """

    beginning: nn.Module
    intermediate: nn.Module
    final: nn.Module

    def __call__(self, x: Array, train: bool = False) -> Any:
        """What ``final`` gives for normalised images."""
        return self.final(self.intermediate(self.beginning(x, train), train), train)

    def features(self, x: Array) -> Array:
        """The codes, evaluation mode."""
        return self.beginning(x)


def condensed_network(
    architecture: Architecture,
    image_shape: tuple[int, int, int],
    num_classes: int,
    final: nn.Module | None = None,
) -> CondensedNetwork:
    """The network of a condensed model.

    Args:
        architecture: of the autoencoder.
        image_shape: ``(height, width, channels)``.
        num_classes: number of logits.
        final: a network of images; the small classifier if not given.

    Raises:
        InputError: sizes that do not fit the images.
    """
    architecture.check(image_shape)
    return CondensedNetwork(
        Encoder(architecture),
        Decoder(architecture, image_shape),
        final or SmallClassifier(architecture, num_classes),
    )


def pretraining_network(
    architecture: Architecture, image_shape: tuple[int, int, int], num_classes: int
) -> CondensedNetwork:
    """The same encoder and decoder under the head of pretraining; parameters carry over by name."""
    architecture.check(image_shape)
    return CondensedNetwork(
        Encoder(architecture, keep_input=True),
        Decoder(architecture, image_shape, keep_input=True),
        CodeHead(architecture, num_classes),
    )

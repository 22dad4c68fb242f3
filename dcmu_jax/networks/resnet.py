"""ResNet18 for small images: torchvision's, with a 3x3 stride-1 stem and no stem pooling."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array

from dcmu_jax.networks.layers import Layers


class _BasicBlock(nn.Module):
    channels: int
    strides: int
    layers: Layers

    def _conv(self, x: Array, size: int, strides: int) -> Array:
        pad = (size // 2, size // 2)
        return self.layers.conv(
            x,
            self.channels,
            size,
            strides=strides,
            padding=(pad, pad),
            use_bias=False,
            torchvision="kaiming",
        )

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        y = nn.relu(self.layers.batch_norm(self._conv(x, 3, self.strides), train))
        y = self.layers.batch_norm(self._conv(y, 3, 1), train)
        if self.strides != 1 or x.shape[-1] != self.channels:
            x = self.layers.batch_norm(self._conv(x, 1, self.strides), train)
        return nn.relu(x + y)


class _Stage(nn.Module):
    """Two basic blocks; the first has the strides."""

    channels: int
    strides: int
    layers: Layers

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        x = _BasicBlock(self.channels, self.strides, self.layers)(x, train)
        return _BasicBlock(self.channels, 1, self.layers)(x, train)


class _Beginning(nn.Module):
    channels: tuple[int, ...]
    layers: Layers

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        x = self.layers.conv(x, self.channels[0], use_bias=False, torchvision="kaiming")
        x = nn.relu(self.layers.batch_norm(x, train))
        x = _Stage(self.channels[0], 1, self.layers)(x, train)
        return _Stage(self.channels[1], 2, self.layers)(x, train)


class _Head(nn.Module):
    num_classes: int
    layers: Layers

    @nn.compact
    def __call__(self, x: Array) -> Array:
        return self.layers.dense(x, self.num_classes).astype(jnp.float32)


class _Final(nn.Module):
    stage: nn.Module
    head: nn.Module

    def __call__(self, x: Array, train: bool = False) -> Array:
        return self.head(self.features(x, train))

    def features(self, x: Array, train: bool = False) -> Array:
        return self.stage(x, train).mean((1, 2))


class ResNet18(nn.Module):
    """Stem, stages 1-2 | stage 3 | stage 4, average over the image, dense to the logits.

    Features: the 512-d average that the dense layer sees.

    Attributes:
        num_classes: number of logits.
        channels: of the four stages.
        dtype: compute dtype; parameters, BatchNorm statistics and logits are float32.
        initialiser: ``torch`` (torchvision's: Kaiming normal convolutions, PyTorch's default dense
            layer) or ``flax``.
        conv: ``auto``, ``lax`` or ``dot``.
    """

    num_classes: int = 10
    channels: tuple[int, int, int, int] = (64, 128, 256, 512)
    dtype: str = "float32"
    initialiser: str = "torch"
    conv: str = "auto"

    def setup(self):
        """The three parts."""
        layers = Layers(self.dtype, self.initialiser, self.conv)
        self.beginning = _Beginning(self.channels[:2], layers)
        self.intermediate = _Stage(self.channels[2], 2, layers)
        self.final = _Final(_Stage(self.channels[3], 2, layers), _Head(self.num_classes, layers))

    def __call__(self, x: Array, train: bool = False) -> Array:
        """Logits ``(batch, num_classes)`` of normalised images ``(batch, H, W, C)``."""
        return self.final(self.intermediate(self.beginning(x, train), train), train)

    def features(self, x: Array) -> Array:
        """The input of the dense layer ``(batch, dim)``, evaluation mode."""
        return self.final.features(self.intermediate(self.beginning(x)))

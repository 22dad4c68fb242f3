"""The CNN of the paper: four blocks of convolution, normalisation, ReLU and pooling, two dense."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array

from dcmu_jax.networks.convolution import max_pool
from dcmu_jax.networks.layers import Dropout, Layers, flatten


class _Blocks(nn.Module):
    channels: tuple[int, ...]
    flat: bool
    norm: str
    layers: Layers

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        for channels in self.channels:
            centred = train and self.norm == "batch"
            x = self.layers.conv(x, channels, centred=centred)
            x = self.layers.norm(self.norm, x, train)
            x = nn.relu(x)
            x = max_pool(x) if min(x.shape[1:3]) > 1 else x
        return flatten(x) if self.flat else x


class _Head(nn.Module):
    num_classes: int
    hidden: int
    dropout: float
    layers: Layers

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        x = nn.relu(self.layers.dense(x, self.hidden))
        x = Dropout(self.dropout)(x, train)
        return self.layers.dense(x, self.num_classes).astype(jnp.float32)


class CNN(nn.Module):
    """Blocks 1-2 | blocks 3-4, flatten | dense 1024, ReLU, dropout, dense to the logits.

    A block is a 3x3 convolution, BatchNorm, ReLU and 2x2 maximum, which images that have come down
    to one pixel go without. Features: flattened output of the fourth block (1024-d for 32x32
    images).

    Attributes:
        num_classes: number of logits.
        channels: of the four blocks.
        hidden: width of the dense layer.
        norm: ``batch`` (the paper's), or ``group``, where no image sees another.
        dropout: probability of dropping a unit of the dense layer.
        dtype: compute dtype; parameters, BatchNorm statistics and logits are float32.
        initialiser: ``torch`` or ``flax``.
        conv: ``auto``, ``lax`` or ``dot``.
    """

    num_classes: int = 10
    channels: tuple[int, int, int, int] = (32, 64, 128, 256)
    hidden: int = 1024
    norm: str = "batch"
    dropout: float = 0.5
    dtype: str = "float32"
    initialiser: str = "torch"
    conv: str = "auto"

    def setup(self):
        """The three parts."""
        layers = Layers(self.dtype, self.initialiser, self.conv)
        self.beginning = _Blocks(self.channels[:2], False, self.norm, layers)
        self.intermediate = _Blocks(self.channels[2:], True, self.norm, layers)
        self.final = _Head(self.num_classes, self.hidden, self.dropout, layers)

    def __call__(self, x: Array, train: bool = False) -> Array:
        """Logits ``(batch, num_classes)`` of normalised images ``(batch, H, W, C)``."""
        return self.final(self.intermediate(self.beginning(x, train), train), train)

"""ConvNet-3, the network that condensed sets are made with and judged on in the literature."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array

from dcmu_jax.networks.convolution import avg_pool
from dcmu_jax.networks.layers import Layers, flatten


class _Blocks(nn.Module):
    count: int
    channels: int
    layers: Layers

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        for _ in range(self.count):
            x = self.layers.instance_norm(self.layers.conv(x, self.channels))
            x = avg_pool(nn.relu(x))
        return x


class _Linear(nn.Module):
    num_classes: int
    layers: Layers

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        return self.layers.dense(flatten(x), self.num_classes).astype(jnp.float32)


class ConvNet(nn.Module):
    """Block 1 | blocks 2 and 3 | flatten, dense to the logits.

    A block is a 3x3 convolution, instance norm with scale and shift, ReLU and 2x2 mean
    (Gidaris & Komodakis 2018; taken over by Zhao et al. 2021 and those after them). It has neither
    statistics nor dropout: training and evaluation run alike. Features: flattened output of the
    third block (2048-d for 32x32 images).

    Attributes:
        num_classes: number of logits.
        channels: of each block.
        dtype: compute dtype; parameters and logits are float32.
        initialiser: ``torch`` or ``flax``.
        conv: ``auto``, ``lax`` or ``dot``.
    """

    num_classes: int = 10
    channels: int = 128
    dtype: str = "float32"
    initialiser: str = "torch"
    conv: str = "auto"

    def setup(self):
        """The three parts."""
        layers = Layers(self.dtype, self.initialiser, self.conv)
        self.beginning = _Blocks(1, self.channels, layers)
        self.intermediate = _Blocks(2, self.channels, layers)
        self.final = _Linear(self.num_classes, layers)

    def __call__(self, x: Array, train: bool = False) -> Array:
        """Logits ``(batch, num_classes)`` of normalised images ``(batch, H, W, C)``."""
        return self.final(self.intermediate(self.beginning(x, train), train), train)

"""The MLP of the paper, 3072-512-128-10: one dense layer in each part."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array

from dcmu_jax.networks.layers import Dropout, Layers, flatten


class _Hidden(nn.Module):
    features: int
    layers: Layers

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        return nn.relu(self.layers.dense(flatten(x), self.features))


class _Logits(nn.Module):
    num_classes: int
    dropout: float
    layers: Layers

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        x = Dropout(self.dropout)(x, train)
        return self.layers.dense(x, self.num_classes).astype(jnp.float32)


class MLP(nn.Module):
    """Flatten, dense 512, ReLU | dense 128, ReLU | dense to the logits.

    The authors' code puts a ReLU on the logits; this one does not. Features: 128-d.

    Attributes:
        num_classes: number of logits.
        widths: of the two hidden layers.
        dropout: probability of dropping an input of the last layer; the paper has none.
        dtype: compute dtype; parameters and logits are float32.
        initialiser: ``torch`` or ``flax``.
    """

    num_classes: int = 10
    widths: tuple[int, int] = (512, 128)
    dropout: float = 0.0
    dtype: str = "float32"
    initialiser: str = "torch"

    def setup(self):
        """The three parts."""
        layers = Layers(self.dtype, self.initialiser)
        self.beginning = _Hidden(self.widths[0], layers)
        self.intermediate = _Hidden(self.widths[1], layers)
        self.final = _Logits(self.num_classes, self.dropout, layers)

    def __call__(self, x: Array, train: bool = False) -> Array:
        """Logits ``(batch, num_classes)`` of normalised images ``(batch, H, W, C)``."""
        return self.final(self.intermediate(self.beginning(x, train), train), train)

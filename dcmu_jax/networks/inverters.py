"""InverterNets: from the number of a cluster to an image (paper, Algorithm 3)."""

from __future__ import annotations

import math

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dcmu_jax.networks.convolution import convolution_hook


class MLPInverter(nn.Module):
    """The paper's: one-hot id, then dense layers of h, 4h, 16h, 32h with ReLU, then the image.

    Attributes:
        num_ids: clusters; the one-hot product with the first layer is a look-up.
        image_shape: ``(height, width, channels)``.
        hidden: ``h``.
    """

    num_ids: int
    image_shape: tuple[int, int, int]
    hidden: int = 128

    @nn.compact
    def __call__(self, ids: Int[Array, " batch"]) -> Float[Array, "batch height width channels"]:
        """Images as network inputs, unbounded."""
        x = nn.relu(nn.Embed(self.num_ids, self.hidden)(ids))
        for width in (4, 16, 32):
            x = nn.relu(nn.Dense(width * self.hidden)(x))
        x = nn.Dense(math.prod(self.image_shape))(x)
        return x.reshape(x.shape[0], *self.image_shape)


class ConvInverter(nn.Module):
    """A code for each id, a small map of it, doubled in size by 3x3 convolutions to the image.

    Attributes:
        num_ids: clusters.
        image_shape: ``(height, width, channels)``.
        hidden: channels of the widest map; halved at every doubling, 16 at least.
        conv: ``auto``, ``lax`` or ``dot``.
    """

    num_ids: int
    image_shape: tuple[int, int, int]
    hidden: int = 128
    conv: str = "auto"

    @nn.compact
    def __call__(self, ids: Int[Array, " batch"]) -> Float[Array, "batch height width channels"]:
        """Images as network inputs, unbounded."""
        height, width, channels = self.image_shape
        doublings = max(0, min(3, int(math.log2(min(height, width) / 4))))
        rows, columns = -(-height // 2**doublings), -(-width // 2**doublings)
        widest = self.hidden
        # The code is as wide as the map: nothing between the id and the image forgets the id.
        x = nn.Embed(self.num_ids, 4 * widest)(ids)
        x = nn.relu(nn.Dense(rows * columns * widest)(x)).reshape(-1, rows, columns, widest)
        for i in range(doublings):
            x = jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)
            x = nn.relu(self._conv(x, max(16, widest >> (i + 1))))
        x = self._conv(x, channels)
        return x[:, :height, :width]

    def _conv(self, x: Array, features: int) -> Array:
        hook = convolution_hook(self.conv)
        return nn.Conv(features, (3, 3), conv_general_dilated=hook)(x)


INVERTERS = {"mlp": MLPInverter, "conv": ConvInverter}

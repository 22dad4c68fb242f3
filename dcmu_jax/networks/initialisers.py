"""How weights and biases start: PyTorch's or Flax's defaults, as a setting."""

from __future__ import annotations

import math
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.nn.initializers import Initializer

from dcmu_jax.errors import unknown_name

Init = Literal["torch", "flax"]
INITS: tuple[str, ...] = ("torch", "flax")

Departure = Literal["kaiming", "normal"]
"""Where torchvision departs from PyTorch's defaults: ``kaiming`` = normal with variance
2 / fan_out (convolutions of VGG and ResNet), ``normal`` = normal with standard deviation 0.01
(dense layers of VGG); both with zero bias."""


def check_init(init: str) -> None:
    """Raise ``InputError`` for an unknown initialisation."""
    if init not in INITS:
        raise unknown_name("initialisation", init, INITS)


def uniform(limit: float) -> Initializer:
    """U(-limit, limit)."""

    def sample(key, shape, dtype=jnp.float32, out_sharding=None):
        return jax.random.uniform(key, shape, dtype, -limit, limit)

    return sample


def kernel_and_bias(
    init: str, fan_in: int, torchvision: Departure | None = None
) -> tuple[Initializer, Initializer]:
    """Initialisers of the kernel and the bias of a dense or convolutional layer.

    Args:
        init: ``torch``: both from U(-1/sqrt(fan_in), 1/sqrt(fan_in)), PyTorch's default for
            Linear and Conv2d; ``flax``: LeCun normal and zeros, Flax's default.
        fan_in: inputs of one output unit (kernel height * width * channels in).
        torchvision: the layer's exception in ``torch`` mode; without effect in ``flax`` mode.

    Raises:
        InputError: unknown ``init``.
    """
    check_init(init)
    zeros = nn.initializers.zeros_init()
    if init == "flax":
        return nn.initializers.lecun_normal(), zeros
    if torchvision == "kaiming":
        return nn.initializers.variance_scaling(2.0, "fan_out", "normal"), zeros
    if torchvision == "normal":
        return nn.initializers.normal(0.01), zeros
    limit = 1.0 / math.sqrt(fan_in)
    return uniform(limit), uniform(limit)

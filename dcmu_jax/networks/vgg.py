"""VGG16 as torchvision builds it, without BatchNorm or with, in the paper's split."""

from __future__ import annotations

from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array

from dcmu_jax.networks.convolution import max_pool
from dcmu_jax.networks.layers import Dropout, Layers, flatten


class _Convolutions(nn.Module):
    """Layers in order: ``conv<i>`` with i in 0..4 (index into channels), ``relu``, ``pool``."""

    plan: tuple[str, ...]
    channels: tuple[int, ...]
    first: bool
    batch_norm: bool
    layers: Layers

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        # The authors re-create features[0], so the first convolution has PyTorch's default.
        torchvision = None if self.first else "kaiming"
        for step in self.plan:
            if step == "relu":
                x = nn.relu(x)
            elif step == "pool":
                x = max_pool(x)
            else:
                x = self.layers.conv(
                    x,
                    self.channels[int(step[4:])],
                    torchvision=torchvision,
                    centred=train and self.batch_norm,
                )
                x = self.layers.batch_norm(x, train) if self.batch_norm else x
                torchvision = "kaiming"
        return x


class _Classifier(nn.Module):
    num_classes: int
    hidden: int
    layers: Layers

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        # classifier[0] and classifier[6] are re-created too; classifier[3] is torchvision's.
        x = Dropout(0.5)(nn.relu(self.layers.dense(x, self.hidden)), train)
        x = Dropout(0.5)(nn.relu(self.layers.dense(x, self.hidden, "normal")), train)
        return self.layers.dense(x, self.num_classes).astype(jnp.float32)


class _Final(nn.Module):
    convolutions: nn.Module
    classifier: nn.Module

    def __call__(self, x: Array, train: bool = False) -> Array:
        return self.classifier(self.features(x, train), train)

    def features(self, x: Array, train: bool = False) -> Array:
        return flatten(self.convolutions(x, train))


_CONV_RELU = {i: (f"conv{i}", "relu") for i in range(5)}
_BEGINNING = (*_CONV_RELU[0] * 2, "pool", *_CONV_RELU[1] * 2, "pool")
_INTERMEDIATE = (*_CONV_RELU[2] * 3, "pool", "conv3", "relu", "conv3")
_FINAL = ("relu", "conv3", "relu", "pool", *_CONV_RELU[4] * 3, "pool")


class VGG16(nn.Module):
    """Thirteen 3x3 convolutions and three dense layers.

    conv64 x2, pool, conv128 x2, pool | conv256 x3, pool, conv512 x2 (ending before the last
    ReLU) | ReLU, conv512, pool, conv512 x3, pool, flatten, dense 4096, ReLU, dropout, dense
    4096, ReLU, dropout, dense to the logits. Features: the flattened input of the first dense
    layer (512-d for 32x32 images).

    Attributes:
        num_classes: number of logits.
        channels: of the five groups of convolutions.
        hidden: width of the two dense layers.
        dtype: compute dtype; parameters and logits are float32.
        initialiser: ``torch`` (torchvision's, with features[0], classifier[0] and classifier[6] at
            PyTorch's default, as the authors have it) or ``flax``.
        conv: ``auto``, ``lax`` or ``dot``.
    """

    num_classes: int = 10
    channels: tuple[int, int, int, int, int] = (64, 128, 256, 512, 512)
    hidden: int = 4096
    dtype: str = "float32"
    initialiser: str = "torch"
    conv: str = "auto"

    batch_norm: ClassVar[bool] = False  # no field: runs on disk know a module by its fields

    def setup(self):
        """The three parts."""
        layers, norm = Layers(self.dtype, self.initialiser, self.conv), self.batch_norm
        self.beginning = _Convolutions(_BEGINNING, self.channels, True, norm, layers)
        self.intermediate = _Convolutions(_INTERMEDIATE, self.channels, False, norm, layers)
        self.final = _Final(
            _Convolutions(_FINAL, self.channels, False, norm, layers),
            _Classifier(self.num_classes, self.hidden, layers),
        )

    def __call__(self, x: Array, train: bool = False) -> Array:
        """Logits ``(batch, num_classes)`` of normalised images ``(batch, H, W, C)``."""
        return self.final(self.intermediate(self.beginning(x, train), train), train)

    def features(self, x: Array) -> Array:
        """Flattened output of the last convolution ``(batch, dim)``, evaluation mode."""
        return self.final.features(self.intermediate(self.beginning(x)))


class VGG16BN(VGG16):
    """``VGG16`` with BatchNorm after each convolution: torchvision's ``vgg16_bn``, not the paper's.

    The parts end where those of ``VGG16`` do, ``intermediate`` after its last BatchNorm.
    """

    batch_norm: ClassVar[bool] = True

"""The layers of every model, in one style: compute dtype, initialisation, convolution."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype
from jax import lax
from jaxtyping import Array, Float

from dcmu_jax.networks.convolution import Padding, convolution_hook, convolve_doubling
from dcmu_jax.networks.initialisers import Departure, kernel_and_bias
from dcmu_jax.platforms import on_cpu


@dataclasses.dataclass(frozen=True)
class Layers:
    """Layers to be called inside a compact Linen module.

    Attributes:
        dtype: compute dtype by name; parameters and BatchNorm statistics are float32.
        init: see ``initialisers.kernel_and_bias``.
        conv_impl: ``auto``, ``lax`` or ``dot``; see ``convolution``.
    """

    dtype: str = "float32"
    init: str = "torch"
    conv_impl: str = "auto"

    def dense(
        self, x: Float[Array, "batch in"], features: int, torchvision: Departure | None = None
    ) -> Float[Array, "batch out"]:
        """A dense layer with bias; ``torchvision``: see ``initialisers.kernel_and_bias``."""
        kernel_init, bias_init = kernel_and_bias(self.init, x.shape[-1], torchvision)
        layer = nn.Dense(features, dtype=self.dtype, kernel_init=kernel_init, bias_init=bias_init)
        return layer(x)

    def conv(
        self,
        x: Float[Array, "batch height width in"],
        features: int,
        size: int = 3,
        *,
        strides: int = 1,
        padding: Padding = ((1, 1), (1, 1)),
        use_bias: bool = True,
        torchvision: Departure | None = None,
        centred: bool = False,
    ) -> Float[Array, "batch out_height out_width out"]:
        """A convolutional layer with a ``size`` x ``size`` kernel.

        The default padding keeps the size of a 3x3, stride-1 convolution, as ``padding=1`` of
        PyTorch does (``SAME`` differs from it at stride 2).

        ``centred`` says that what follows subtracts the mean of the batch, and so the bias with it:
        its gradient is 0, and what a computer finds for it is rounding. Accelerators are spared the
        work; on CPU the rounding stays, with which results were recorded.
        """
        fan_in = size * size * x.shape[-1]
        kernel_init, bias_init = kernel_and_bias(self.init, fan_in, torchvision)
        layer = nn.Conv(
            features,
            (size, size),
            strides=strides,
            padding=padding,
            use_bias=use_bias,
            dtype=self.dtype,
            kernel_init=kernel_init,
            bias_init=bias_init,
            conv_general_dilated=convolution_hook(self.conv_impl),
            promote_dtype=_constant_bias if centred and not on_cpu() else promote_dtype,
        )
        return layer(x)

    def doubling_conv(
        self, x: Float[Array, "batch height width in"], features: int
    ) -> Float[Array, "batch double_height double_width out"]:
        """A transposed convolution to twice the height and width; see ``DoublingConv``."""
        return DoublingConv(features, self.dtype, self.init, self.conv_impl)(x)

    def batch_norm(self, x: Array, train: bool) -> Array:
        """BatchNorm over all axes but the last, on batch statistics if ``train``.

        Momentum 0.9 and epsilon 1e-5, PyTorch's defaults (it writes the momentum as 0.1); the
        running variance is that of the batch, not PyTorch's unbiased estimate.
        """
        layer = nn.BatchNorm(
            use_running_average=not train, momentum=0.9, epsilon=1e-5, dtype=self.dtype
        )
        return layer(x)

    def group_norm(self, x: Array) -> Array:
        """Groups of channels of each image to mean 0 and variance 1, then scaled and shifted.

        Eight channels to a group where they divide so (Wu & He 2018 have 32 groups or 16 channels
        each, of wider layers), else one group. Epsilon 1e-5. No example sees another, so gradients
        of single examples mean something; the same in training and in evaluation.
        """
        channels = x.shape[-1]
        layer = nn.GroupNorm(
            num_groups=channels // 8 if channels % 8 == 0 else 1,
            epsilon=1e-5,
            use_fast_variance=False,
            dtype=self.dtype,
        )
        return layer(x)

    def norm(self, kind: str, x: Array, train: bool) -> Array:
        """``batch_norm`` or ``group_norm``, by the ``kind`` of the network."""
        return self.group_norm(x) if kind == "group" else self.batch_norm(x, train)

    def instance_norm(self, x: Array) -> Array:
        """Each channel of each image to mean 0 and variance 1, then scaled and shifted.

        Epsilon 1e-5, PyTorch's default; the same in training and in evaluation.
        """
        layer = nn.InstanceNorm(epsilon=1e-5, use_fast_variance=False, dtype=self.dtype)
        return layer(x)


def _constant_bias(*arrays: Any, dtype: Any = None, inexact: bool = True) -> Any:
    """``promote_dtype`` of input, kernel and bias, without a gradient by the bias."""
    x, kernel, bias = arrays
    bias = None if bias is None else lax.stop_gradient(bias)
    return promote_dtype(x, kernel, bias, dtype=dtype, inexact=inexact)


class DoublingConv(nn.Module):
    """A transposed 4x4 convolution of stride 2 and padding 1, with bias.

    Attributes:
        features: channels out.
        dtype: see ``Layers``.
        initialiser: as ``init`` of ``Layers``; in ``torch`` mode the fan-in is 16 times the
            channels *out*, as PyTorch computes it for transposed convolutions.
        conv_impl: see ``Layers``.
    """

    features: int
    dtype: str = "float32"
    initialiser: str = "torch"
    conv_impl: str = "auto"

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width in"]
    ) -> Float[Array, "batch double_height double_width out"]:
        """Twice the height and width of ``x``."""
        kernel_init, bias_init = kernel_and_bias(self.initialiser, 16 * self.features)
        kernel = self.param("kernel", kernel_init, (4, 4, x.shape[-1], self.features))
        bias = self.param("bias", bias_init, (self.features,))
        x, kernel, bias = (jnp.asarray(a, self.dtype) for a in (x, kernel, bias))
        y = convolve_doubling(x, kernel, self.conv_impl)
        return y + bias.reshape(1, 1, 1, -1)


class Dropout(nn.Module):
    """Inverted dropout that draws one random byte per unit instead of a 32-bit word.

    Attributes:
        rate: probability of dropping a unit, rounded to a multiple of 1/256.
    """

    rate: float = 0.5

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        """Drop units of ``x`` if ``train``, using the stream ``dropout``."""
        dropped = round(256 * self.rate)
        if not train or dropped == 0:
            return x
        bits = jax.random.bits(self.make_rng("dropout"), x.shape, jnp.uint8)
        return jnp.where(bits >= dropped, x * (256 / (256 - dropped)), jnp.zeros_like(x))


def flatten(x: Array) -> Float[Array, "batch dim"]:
    """``(batch, ...)`` to ``(batch, dim)``."""
    return x.reshape(x.shape[0], math.prod(x.shape[1:]))

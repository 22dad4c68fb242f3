"""The one place for convolutions and pooling: two implementations, chosen by platform.

``lax`` is XLA's convolution, for GPU and TPU. ``dot`` is made of matrix products: on CPU the
gradient of a ``lax`` convolution inside ``lax.scan`` is up to 70 times slower, and ``vmap`` over
weights makes it a grouped convolution on every platform. Both agree in value and gradients.
"""

from __future__ import annotations

import contextlib
import contextvars
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from dcmu_jax.errors import InputError, unknown_name
from dcmu_jax.networks.winograd import convolve_winograd
from dcmu_jax.platforms import on_cpu, platform

Implementation = Literal["auto", "lax", "dot"]
IMPLEMENTATIONS: tuple[str, ...] = ("auto", "lax", "dot")

_WINOGRAD_CHANNELS = 32
_LANES = 16  # of float32 in a vector register of 512 bits
_NHWC = ("NHWC", "HWIO", "NHWC")
_PIECE_BYTES = 2**21  # 2 to 4 MiB measured alike, 1 and 8 a little slower
_whole = contextvars.ContextVar("whole", default=False)
_as_lax = contextvars.ContextVar("as_lax", default=False)

Padding = str | Sequence[tuple[int, int]]
"""``"SAME"``, ``"VALID"`` or ``((top, bottom), (left, right))``."""


def resolve_implementation(impl: str) -> str:
    """``dot`` or ``lax``; ``auto`` is ``dot`` on CPU and ``lax`` elsewhere; see ``all_lax``.

    Raises:
        InputError: unknown name; ``dot`` for a GPU or TPU (``platforms``).
    """
    if impl not in IMPLEMENTATIONS:
        raise unknown_name("convolution", impl, IMPLEMENTATIONS)
    if _as_lax.get():
        return "lax"
    if impl == "dot" and not on_cpu():
        raise InputError(
            f"Convolutions by 'dot' on a {platform().upper()}",
            "'auto' or 'lax': 'dot' is made for CPUs",
            "Set conv to 'auto'",
        )
    if impl == "auto":
        return "dot" if on_cpu() else "lax"
    return impl


def patches(
    x: Float[Array, "batch height width channels"],
    size: tuple[int, int],
    strides: tuple[int, int],
    pads: Sequence[tuple[int, int]],
) -> Float[Array, "batch out_height out_width taps"]:
    """The pixels under a kernel of ``size`` at each of its positions.

    Static slices only, so that its gradient is padding and sums, never a convolution. Columns
    first, then rows of those: with few channels, as in the first layer, most of the copying
    is then done in pieces three times as wide. The last axis runs over kernel
    rows, then columns, then channels, like a flattened HWIO kernel.
    """
    x = jnp.pad(x, ((0, 0), *(tuple(p) for p in pads), (0, 0)))
    rows, columns = (range(0, x.shape[axis + 1] - size[axis] + 1, strides[axis]) for axis in (0, 1))
    x = jnp.concatenate(
        [x[:, :, j : j + columns[-1] + 1 : strides[1]] for j in range(size[1])], axis=-1
    )
    return jnp.concatenate(
        [x[:, i : i + rows[-1] + 1 : strides[0]] for i in range(size[0])], axis=-1
    )


def _suits_winograd(kernel: Array) -> bool:
    """Whether Winograd's form is the faster one at stride 1: measured on CPU only.

    With few channels its matrix products are too thin, and it costs some time to compile.
    """
    return (
        kernel.shape[:2] == (3, 3)
        and min(kernel.shape[2:]) >= _WINOGRAD_CHANNELS
        and kernel.dtype == jnp.float32
        and on_cpu()
    )


@contextlib.contextmanager
def whole_batches(whole: bool = True) -> Iterator[None]:
    """Convolutions that are traced within go through all images of a batch at once.

    For batches that lie on several devices.

    Args:
        whole: whether it is so, or as without.
    """
    token = _whole.set(whole or _whole.get())
    try:
        yield
    finally:
        _whole.reset(token)


@contextlib.contextmanager
def all_lax() -> Iterator[None]:
    """Convolutions that are traced within are ``lax``'s, whichever was chosen.

    For counting operations: a convolution costs the same on every machine then, however it is
    computed there.
    """
    token = _as_lax.set(True)
    try:
        yield
    finally:
        _as_lax.reset(token)


def _by_pieces(
    convolve: Callable[[Array], Array],
    x: Float[Array, "batch height width channels"],
    taps: int,
    kernel_bytes: int,
) -> Array:
    """``convolve(x)``, on CPU some images after others, so that their patches stay in the cache.

    Patches are made again for the gradient instead of being kept. The sums of the kernel's gradient
    are taken piece by piece; nothing else depends on how many pieces there are.

    Args:
        convolve: images to images, one independent of the other.
        x: the images.
        taps: how many times the patches hold every pixel.
        kernel_bytes: of what every piece reads again; a piece is not smaller.
    """
    batch = x.shape[0]
    if x.size == 0 or _whole.get() or not on_cpu():
        return convolve(x)
    fitting = max(1, max(_PIECE_BYTES, kernel_bytes) * batch // (taps * x.nbytes))
    # Pieces of one size, or their gradient would be compiled twice; not of half the room.
    size = next(n for n in range(min(fitting, batch), 0, -1) if batch % n == 0)
    if size == batch or 2 * size < fitting:
        return convolve(x)
    again = jax.checkpoint(convolve, prevent_cse=False)  # in a loop there is no such elimination
    y = lax.map(again, x.reshape(batch // size, size, *x.shape[1:]))
    return y.reshape(batch, *y.shape[2:])


def convolve_dot(
    x: Float[Array, "batch height width in"],
    kernel: Float[Array, "kernel_height kernel_width in out"],
    strides: Sequence[int],
    padding: Padding,
    precision: Any = None,
) -> Float[Array, "batch out_height out_width out"]:
    """Convolution by matrix products; NHWC and HWIO, as ``lax`` computes it.

    One product of patches, or Winograd's 16 where they are faster. On CPU a large batch goes
    through in pieces that fit into the cache (see ``whole_batches``).
    """
    if _as_lax.get():
        return lax.conv_general_dilated(
            x, kernel, strides, padding, dimension_numbers=_NHWC, precision=precision
        )
    size = (kernel.shape[0], kernel.shape[1])
    steps = (strides[0], strides[1])
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(x.shape[1:3], size, steps, padding)
    if size == (1, 1) or steps != (1, 1):  # few patches that share pixels, or none
        return _product(x, kernel, steps, padding, precision)
    winograd = _suits_winograd(kernel)

    def convolve(x: Array) -> Array:
        if winograd:
            return convolve_winograd(x, kernel, padding, precision)
        return _product(x, kernel, steps, padding, precision)

    # Winograd's 4x4 tiles overlap by half, either way.
    return _by_pieces(convolve, x, 4 if winograd else math.prod(size), kernel.nbytes)


def _product(x, kernel, strides, pads, precision) -> Array:
    """The convolution as one product of patches.

    Two columns of the output at once, out of patches that are wider by one, where there are so few
    channels that the product would leave lanes of a vector register idle.
    """
    columns_of_kernel, _, out = kernel.shape[1:]
    width = x.shape[2] + sum(pads[1]) - columns_of_kernel + 1
    pays = strides == (1, 1) and columns_of_kernel > 1 and out < _LANES
    if pays and width % 2 == 0 and on_cpu():
        pair = [jnp.pad(kernel, ((0, 0), edge, (0, 0), (0, 0))) for edge in ((0, 1), (1, 0))]
        kernel, strides = jnp.concatenate(pair, axis=-1), (1, 2)
    columns = patches(x, (kernel.shape[0], kernel.shape[1]), strides, pads)
    flat = columns.reshape(-1, columns.shape[-1])
    product = jnp.matmul(flat, kernel.reshape(-1, kernel.shape[-1]), precision=precision)
    return product.reshape(*columns.shape[:2], -1, out)


def _dot_hook(
    lhs,
    rhs,
    window_strides,
    padding,
    lhs_dilation=None,
    rhs_dilation=None,
    dimension_numbers=None,
    feature_group_count=1,
    precision=None,
    **others,
):
    """``convolve_dot`` with the signature by which ``flax.linen.Conv`` calls a convolution."""
    dilated = any(d != 1 for d in (*(lhs_dilation or ()), *(rhs_dilation or ())))
    if dilated or feature_group_count != 1 or others:
        raise InputError(
            "A convolution by matrix products with dilation, groups or other options",
            "strides and padding",
            "Take the implementation 'lax' for this layer",
        )
    return convolve_dot(lhs, rhs, window_strides, padding, precision)


def convolution_hook(impl: str):
    """What to pass to ``flax.linen.Conv(conv_general_dilated=...)`` for ``impl``."""
    return _dot_hook if resolve_implementation(impl) == "dot" else lax.conv_general_dilated


def convolve_doubling(
    x: Float[Array, "batch height width in"],
    kernel: Float[Array, "4 4 in out"],
    impl: str = "auto",
    precision: Any = None,
) -> Float[Array, "batch double_height double_width out"]:
    r"""The transposed 4x4 convolution of stride 2 and padding 1: twice the height and width.

    :math:`y_{2i-1+k} = \sum_k x_i w_k` along either axis, as PyTorch's ``ConvTranspose2d(..., 4, 2,
    1)`` has it, less the bias. ``dot`` is one matrix product: an output pixel of even (odd) row
    sees two input rows by two of the four kernel rows, and the same holds for columns, so that the
    2x2 patches of the input give all four kinds of output pixels at once.

    Args:
        x: the input.
        kernel: rows, columns, channels in, channels out; not flipped.
        impl: ``auto``, ``lax`` or ``dot``; both agree in value and gradients.
        precision: of the products.
    """
    if resolve_implementation(impl) == "lax":
        return lax.conv_general_dilated(
            x,
            kernel[::-1, ::-1],
            (1, 1),
            ((2, 2), (2, 2)),
            lhs_dilation=(2, 2),
            dimension_numbers=_NHWC,
            precision=precision,
        )
    batch, height, width, channels = x.shape
    out = kernel.shape[-1]
    # Kernel rows of the two input rows that an output pixel sees: 3 and 1 if its row is even,
    # 2 and 0 if it is odd.
    taps = kernel[::-1, ::-1].reshape(2, 2, 2, 2, channels, out)
    flat = taps.transpose(0, 2, 4, 1, 3, 5).reshape(4 * channels, 4 * out)
    columns = patches(x, (2, 2), (1, 1), ((1, 1), (1, 1)))
    product = jnp.matmul(columns.reshape(-1, 4 * channels), flat, precision=precision)
    product = product.reshape(batch, height + 1, width + 1, 2, 2, out)
    rows = [
        jnp.stack([product[:, a : a + height, b : b + width, a, b] for b in (0, 1)], axis=3)
        for a in (0, 1)
    ]
    return jnp.stack(rows, axis=2).reshape(batch, 2 * height, 2 * width, out)


def _windows(
    x: Float[Array, "batch height width channels"],
) -> Float[Array, "batch half_height 2 half_width 2 channels"]:
    """Axes 2 and 4 run over 2x2 windows; an odd last row or column is dropped, as in PyTorch."""
    batch, height, width, channels = x.shape
    height, width = height // 2, width // 2
    return x[:, : 2 * height, : 2 * width].reshape(batch, height, 2, width, 2, channels)


def max_pool(
    x: Float[Array, "batch height width channels"],
) -> Float[Array, "batch half_height half_width channels"]:
    """2x2 maximum with stride 2; an odd last row or column is dropped, as PyTorch does.

    The gradient goes to the first of the four that is the maximum, as in PyTorch. A NaN among the
    four is the maximum.

    By slices, because the gradient of ``reduce_window`` is slow on CPU, and windows as axes of
    their own cost copies on a TPU, as do slices of rows before those of columns; and by comparing
    the four with each other, never with their maximum, as the gradient of ``jnp.max`` does: XLA may
    compute ``x`` once for the maximum and again for the comparison, unlike in the last bit, and
    then no entry equals the maximum and the gradient of the window is lost.
    """
    height, width = (side // 2 * 2 for side in x.shape[1:3])
    columns = slice(0, width, 2), slice(1, width, 2)

    def of_row(first: int) -> Array:
        rows = slice(first, height, 2)
        if on_cpu():  # in two steps, with which results were recorded
            row = x[:, rows]
            return _larger(*(row[:, :, column] for column in columns))
        return _larger(*(x[:, rows, column] for column in columns))

    return _larger(of_row(0), of_row(1))


def _larger(a: Array, b: Array) -> Array:
    """The larger of two, and the first where they are equal or it is NaN."""
    return jnp.where((a >= b) | jnp.isnan(a), a, b)


def avg_pool(
    x: Float[Array, "batch height width channels"],
) -> Float[Array, "batch half_height half_width channels"]:
    """2x2 mean with stride 2; an odd last row or column is dropped, as PyTorch does."""
    return _windows(x).mean((2, 4))

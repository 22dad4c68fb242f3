"""The models by name, fitted to the images and classes at hand."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn

from dcmu_jax.errors import InputError, check_at_least, check_positive, unknown_name
from dcmu_jax.networks.cnn import CNN
from dcmu_jax.networks.convnet import ConvNet
from dcmu_jax.networks.convolution import resolve_implementation
from dcmu_jax.networks.initialisers import check_init
from dcmu_jax.networks.mlp import MLP
from dcmu_jax.networks.partition import check_image_shape
from dcmu_jax.networks.resnet import ResNet18
from dcmu_jax.networks.vgg import VGG16, VGG16BN

DTYPES: tuple[str, ...] = ("float32", "bfloat16")
NORMS: tuple[str, ...] = ("batch", "group")


@dataclasses.dataclass(frozen=True)
class ModelEntry:
    """One model of the catalogue.

    Attributes:
        build: the class of the module.
        smallest: least height and width of its images.
        sizes: fields that ``width`` scales; integers or tuples of integers.
        convolutional: whether it has the field ``conv``.
        norm: whether it has the field ``norm``.
    """

    build: Callable[..., nn.Module]
    smallest: int
    sizes: tuple[str, ...]
    convolutional: bool
    norm: bool = False


MODELS: dict[str, ModelEntry] = {
    "mlp": ModelEntry(MLP, 8, ("widths",), False),
    "cnn": ModelEntry(CNN, 8, ("channels", "hidden"), True, norm=True),
    "convnet": ModelEntry(ConvNet, 8, ("channels",), True),
    "vgg16": ModelEntry(VGG16, 32, ("channels", "hidden"), True),
    "vgg16_bn": ModelEntry(VGG16BN, 32, ("channels", "hidden"), True),
    "resnet18": ModelEntry(ResNet18, 8, ("channels",), True),
}
"""The catalogue. ``smallest``: CNN and ConvNet halve an image 3 times at least, VGG16 5."""


def _scaled(size: int | tuple[int, ...], width: float | int) -> int | tuple[int, ...]:
    if isinstance(size, tuple):
        return tuple(max(1, round(s * width)) for s in size)
    return max(1, round(size * width))


def create(
    name: str,
    *,
    image_shape: tuple[int, int, int],
    num_classes: int,
    init: str = "torch",
    dtype: str = "float32",
    conv: str = "auto",
    width: float | int = 1.0,
    norm: str = "batch",
) -> nn.Module:
    """A model of the catalogue; hashable, so it can be a static argument of ``jax.jit``.

    Args:
        name: mlp, cnn, convnet, vgg16, vgg16_bn or resnet18.

    Other Args:
        image_shape: ``(height, width, channels)`` of the images it must take.
        num_classes: number of logits, at least 2.
        init: ``torch`` or ``flax``; see ``initialisers.kernel_and_bias``.
        dtype: compute dtype, ``float32`` or ``bfloat16``; parameters are float32.
        conv: ``auto``, ``lax`` or ``dot``; see ``convolution``.
        width: multiplies every hidden width (1: as in the paper); for tests and small machines.
        norm: of the CNN, ``batch`` or ``group``.

    Raises:
        InputError: an unknown name or setting, images too small for the model.

    >>> type(create("cnn", image_shape=(32, 32, 3), num_classes=10)).__name__
    'CNN'
    """
    if name not in MODELS:
        raise unknown_name("model", name, MODELS)
    if dtype not in DTYPES:
        raise unknown_name("dtype", dtype, DTYPES)
    if norm not in NORMS:
        raise unknown_name("norm", norm, NORMS)
    if norm != "batch" and not MODELS[name].norm:
        offered = ", ".join(other for other, e in MODELS.items() if e.norm)
        raise InputError(
            f"norm = {norm!r} for the model {name!r}",
            f"'batch', which is what the model has or has not; 'group' for {offered}",
            "Leave norm out, or take such a model; mlp, convnet and vgg16 have no BatchNorm",
        )
    check_init(init)
    resolve_implementation(conv)
    check_at_least("num_classes", num_classes, 2)
    check_positive("width", width)
    entry, image_shape = MODELS[name], check_image_shape(image_shape)
    side = min(image_shape[:2])
    if side < entry.smallest:
        fitting = [other for other, e in MODELS.items() if side >= e.smallest]
        raise InputError(
            f"Images of {image_shape[0]}x{image_shape[1]} pixels for the model {name!r}",
            f"{entry.smallest}x{entry.smallest} or more",
            f"Models for such images: {', '.join(fitting)}"
            if fitting
            else "No model of the catalogue takes such small images; enlarge them",
        )
    settings: dict[str, Any] = {
        field: _scaled(getattr(entry.build, field), width) for field in entry.sizes
    }
    if entry.convolutional:
        settings["conv"] = conv
    if entry.norm:
        settings["norm"] = norm
    return entry.build(num_classes=num_classes, initialiser=init, dtype=dtype, **settings)

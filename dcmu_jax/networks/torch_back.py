"""The way back to PyTorch: a network of the catalogue by the names of the weights it came from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from dcmu_jax.errors import InputError
from dcmu_jax.networks import torch_weights as forth
from dcmu_jax.networks.catalogue import MODELS
from dcmu_jax.networks.torch_files import arrays_of, unwrapped

_COUNT = "num_batches_tracked"


def give_back(
    model: Any, variables: Mapping[str, Any], image_shape: tuple[int, int, int], like: Any
) -> dict[str, np.ndarray]:
    """Weights for PyTorch, by the names and in the shapes of ``like``.

    Guarantee: ``torch_weights.bring`` makes the same network of them, up to rounding.

    Args:
        model: of the catalogue.
        variables: parameters and statistics by part.
        image_shape: ``(height, width, channels)``.
        like: the state dict that the network came from.

    Raises:
        InputError: a module that is not of the catalogue; weights of another network; a network
            that no weights of that form give.
    """
    name = next((n for n, entry in MODELS.items() if type(model) is entry.build), None)
    if name is None:
        raise InputError(
            f"The module {type(model).__name__} as weights of PyTorch",
            f"a network of the catalogue: {', '.join(MODELS)}",
            "Take dcmu.variables_of(network), and write them under the names of your own network",
        )
    given = unwrapped(like)
    forth.bring(name, given, image_shape, model.num_classes)  # which checks it
    arrays = arrays_of(given)
    keys = [key for key in map(str, given) if not key.endswith(_COUNT)]
    arrays = forth.renamed(arrays) if name == "resnet18" else arrays
    theirs = forth.layers_of(name, arrays, model, image_shape)
    flat = {path: np.asarray(leaf) for path, leaf in forth.flat(variables).items()}
    flat = _without_biases(flat, arrays, theirs) if name == "vgg16_bn" else flat
    first = next(path for path, x in theirs.items() if arrays[f"{x}.weight"].ndim == 2)
    new = dict(arrays)
    for path, leaf in flat.items():
        key = f"{theirs[path[1:-1]]}.{forth.THEIRS.get(path[-1], 'weight')}"
        if key in arrays:
            flattened = forth.flattened(name, image_shape) if path[1:-1] == first else None
            new[key] = _turned(leaf, arrays[key], flattened)
    found = {
        str(key): np.asarray(value) for key, value in given.items() if str(key).endswith(_COUNT)
    }
    found |= dict(zip(keys, new.values(), strict=True))
    again = forth.flat(forth.bring(name, found, image_shape, model.num_classes).variables)
    for path, leaf in flat.items():
        if again[path].shape != leaf.shape or not np.allclose(again[path], leaf, 1e-5, 1e-5):
            raise InputError(
                f"{'/'.join(path)} of the network, which weights of this form cannot give",
                "a network whose layers have all that training changed as weights in PyTorch",
                "Give like=network.state_dict() of one with a bias in each convolution, and "
                "without an average before its first dense layer",
            )
    return {str(key): found[str(key)] for key in given}


def _without_biases(
    flat: dict[Any, np.ndarray], arrays: Mapping[str, Any], theirs: Mapping[Any, str]
) -> dict[Any, np.ndarray]:
    """Biases that PyTorch has no place for, as part of the mean that BatchNorm takes off after."""
    flat = dict(flat)
    for path, leaf in list(flat.items()):
        if path[-1] != "bias" or f"{theirs[path[1:-1]]}.bias" in arrays:
            continue
        mean = ("batch_stats", *path[1:-2], path[-2].replace("Conv", "BatchNorm"), "mean")
        flat[mean] = flat[mean] - leaf
        flat[path] = np.zeros_like(leaf)
    return flat


def _turned(leaf: np.ndarray, was: np.ndarray, pixels: tuple[int, int] | None) -> np.ndarray:
    """An array in PyTorch's layout, in the shape of the one that was there.

    Args:
        leaf: in ours.
        was: in theirs.
        pixels: height and width of what is flattened before the first dense layer, in that.
    """
    if leaf.ndim == 4:
        leaf = leaf.transpose(3, 2, 0, 1)
    elif leaf.ndim == 2 and pixels is not None:
        leaf = _before_flattening(leaf, was, *pixels)
    elif leaf.ndim == 2:
        leaf = leaf.T
    return np.ascontiguousarray(leaf, np.float32)


def _before_flattening(leaf: np.ndarray, was: np.ndarray, height: int, width: int) -> np.ndarray:
    """The kernel of the first dense layer: channels first, and what PyTorch averages taken out.

    Of all kernels with the same average it is the one nearest to that which was there.
    """
    out, channels = leaf.shape[1], leaf.shape[0] // (height * width)
    ours = leaf.reshape(height, width, channels, out).transpose(3, 2, 0, 1)
    if was.size == leaf.size:
        return ours.reshape(was.shape)
    fields = math.isqrt(was.shape[1] // channels)
    pools = forth.averages(fields, height), forth.averages(fields, width)
    kernel = was.reshape(out, channels, fields, fields).astype(np.float64)
    change = ours - np.einsum("ocij,iy,jx->ocyx", kernel, *pools)
    back = (np.linalg.pinv(pool) for pool in pools)
    return (kernel + np.einsum("ocyx,yi,xj->ocij", change, *back)).reshape(was.shape)

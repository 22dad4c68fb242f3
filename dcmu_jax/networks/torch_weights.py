"""Weights of PyTorch, by the names that repositories give them, for networks of the catalogue."""

from __future__ import annotations

import dataclasses
import functools
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

import flax.linen as nn
import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from dcmu_jax.data.dataset import Normalisation
from dcmu_jax.errors import InputError
from dcmu_jax.networks.catalogue import MODELS, create
from dcmu_jax.networks.partition import PARTS, initialise
from dcmu_jax.networks.torch_files import Weights, arrays_of
from dcmu_jax.prng import key_of

_RENAMED: tuple[tuple[str, Any], ...] = (
    (r"^linear\.", "fc."),
    (r"\.shortcut\.", ".downsample."),
    # The names of networks whose stages are conv2_x to conv5_x.
    (r"^conv1\.0\.", "conv1."),
    (r"^conv1\.1\.", "bn1."),
    (r"^conv([2-5])_x\.", lambda found: f"layer{int(found[1]) - 1}."),
    (r"\.residual_function\.0\.", ".conv1."),
    (r"\.residual_function\.1\.", ".bn1."),
    (r"\.residual_function\.3\.", ".conv2."),
    (r"\.residual_function\.4\.", ".bn2."),
)
"""What others call the layers of torchvision's ResNet18."""
_PLANS = {
    "mlp": ((), 0),
    "cnn": ((0, 1, 2, 3), 4),
    "convnet": ((0,), 3),
    "vgg16": ((0, 2, 4, 7, 10), 5),
    "vgg16_bn": ((0, 2, 4, 7, 10), 5),
    "resnet18": ((0, 5, 10, 15), None),
}
"""Of which convolutions, counted from the images, the outputs are the field ``channels``; how often
an image is halved before it is flattened, None where the mean over it is taken."""
_AXES = {"convolution": 4, "dense": 2, "normalisation": 1}
"""Of the weight of each kind of layer."""
_OURS = {"Conv": "convolution", "Dense": "dense"}
THEIRS = {"bias": "bias", "mean": "running_mean", "var": "running_var"}

_Path = tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Brought:
    """A network of the catalogue with weights of PyTorch.

    Attributes:
        model: of the sizes that the weights have.
        variables: parameters and statistics by part.
        normalisation: of its inputs, where the weights hold it.
        num_classes: outputs of its last layer.
    """

    model: nn.Module
    variables: dict[str, Any]
    normalisation: Normalisation | None
    num_classes: int


def bring(
    name: str,
    weights: Mapping[str, Any] | Any,
    image_shape: tuple[int, int, int],
    num_classes: int | None = None,
    dtype: str = "float32",
) -> Brought:
    """A network of the catalogue with weights of PyTorch; its sizes are those of the weights.

    Guarantee: in evaluation mode its logits are those of the network in PyTorch, up to rounding,
    if that computes what the catalogue's does: ResNet18 with a 3x3 stem of stride 1 and no pooling
    after it, BatchNorm of epsilon 1e-5, ReLU. Weights do not say so.
    What PyTorch does before the first dense layer of VGG16, an average to 7x7 or 2x2 fields, goes
    into the kernel of that layer (refused where weights do not tell which pixels it is of, as for
    4 fields on images that are not square), and a convolution without bias gets one of zeros.

    Args:
        name: of the catalogue.
        weights: arrays or tensors by the names of ``state_dict()``. ResNet18: those of torchvision,
            of repositories with ``shortcut`` and ``linear``, or with ``conv2_x`` and
            ``residual_function``. Others: layers of a kind in the order of the numbers in their
            names, as ``features.0``, ``features.3``. ``normalize.mean`` and ``normalize.std`` are
            the normalisation.
        image_shape: ``(height, width, channels)``.
        num_classes: of the data; whatever the weights have if not given.
        dtype: compute dtype.

    Raises:
        InputError: an unknown name; no such mapping; weights that are missing, unknown, not
            finite, or of another shape; another number of classes.
    """
    classes = 2 if num_classes is None else num_classes
    model = create(name, image_shape=image_shape, num_classes=classes, dtype=dtype)
    arrays = arrays_of(weights)
    normalisation = _normalisation(arrays, image_shape[-1])
    if name == "resnet18":
        arrays = renamed(arrays)
        theirs = _names_of_resnet18(arrays, name)
    else:
        ours = _layers(model, image_shape)
        theirs = _names_in_order(arrays, {kind: len(paths) for kind, paths in ours.items()}, name)
    outputs = {kind: [len(arrays[f"{x}.weight"]) for x in theirs[kind]] for kind in theirs}
    found = outputs["dense"][-1]
    if num_classes not in (None, found) or found < 2:
        raise InputError(
            f"Weights of {found} classes ({theirs['dense'][-1]}.weight)"
            + ("" if num_classes is None else f" for data of {num_classes}"),
            f"a last layer of {num_classes or '2 or more'} outputs",
            "Bring the data set that the network was trained on, or weights for this one",
        )
    model = model.clone(num_classes=found, **_sizes(name, outputs))
    return Brought(
        model, _variables(model, name, arrays, theirs, image_shape), normalisation, found
    )


def _normalisation(arrays: Weights, channels: int) -> Normalisation | None:
    """What a first layer that normalises does; its weights are taken out of ``arrays``."""
    if not {"normalize.mean", "normalize.std"} <= arrays.keys():
        return None  # one alone is refused, as any that the network has not
    mean, std = (arrays.pop(f"normalize.{key}") for key in ("mean", "std"))
    for key, array in (("mean", mean), ("std", std)):
        if array.size != channels:
            raise InputError(
                f"normalize.{key} of {array.size} channels for images of {channels}",
                f"{channels} numbers",
                "Bring images of as many channels as the network was trained on",
            )
    return Normalisation(mean.reshape(-1), std.reshape(-1))


def _natural(text: str) -> list[tuple[int, str]]:
    """By which names are in the order of the numbers in them."""
    parts = re.split(r"(\d+)", text)
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]


def _layers(model: nn.Module, image_shape: tuple[int, int, int]) -> dict[str, list[_Path]]:
    """Paths of the layers of each kind in our tree, from the images on."""
    found: dict[str, dict[_Path, None]] = {kind: {} for kind in _AXES}
    for path in flat(_shapes(model, image_shape)):
        found[_OURS.get(path[-2].partition("_")[0], "normalisation")][path[1:-1]] = None

    def order(path: _Path) -> Any:
        return PARTS.index(path[0]), [_natural(name) for name in path]

    return {kind: sorted(paths, key=order) for kind, paths in found.items()}


@functools.lru_cache(maxsize=16)
def _shapes(model: nn.Module, image_shape: tuple[int, int, int]) -> Any:
    return jax.eval_shape(lambda key: initialise(model, key, image_shape), key_of(0))


def flat(tree: Any) -> dict[_Path, Any]:
    """Arrays by their paths."""
    return cast(dict[_Path, Any], flatten_dict(tree))


def _paired(
    model: nn.Module, image_shape: tuple[int, int, int], theirs: Mapping[str, Sequence[str]]
) -> dict[_Path, str]:
    """Path of each layer in our tree -> its name in PyTorch."""
    return {
        path: layer
        for kind, paths in _layers(model, image_shape).items()
        for path, layer in zip(paths, theirs[kind], strict=True)
    }


def layers_of(
    name: str, arrays: Weights, model: nn.Module, image_shape: tuple[int, int, int]
) -> dict[_Path, str]:
    """Path of each layer in the tree of a network -> its name in weights of PyTorch."""
    if name == "resnet18":
        return _paired(model, image_shape, _names_of_resnet18(arrays, name))
    counts = {kind: len(paths) for kind, paths in _layers(model, image_shape).items()}
    return _paired(model, image_shape, _names_in_order(arrays, counts, name))


def _sizes(name: str, outputs: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    """Fields of the module, from the number of outputs of its layers."""
    channels = tuple(outputs["convolution"][i] for i in _PLANS[name][0])
    sizes = {
        "widths": tuple(outputs["dense"][:2]),
        "channels": channels[0] if name == "convnet" else channels,
        "hidden": outputs["dense"][0],
    }
    return {field: sizes[field] for field in MODELS[name].sizes}


def renamed(arrays: Weights) -> Weights:
    """Weights of ResNet18 by torchvision's names."""
    found: Weights = {}
    for key, array in arrays.items():
        name = key
        for pattern, replacement in _RENAMED:
            name = re.sub(pattern, replacement, name)
        if name in found:
            raise InputError(
                f"Weights with {key!r} beside others that stand for the same layer",
                "each layer once",
                "Leave out one of the two",
            )
        found[name] = array
    return found


def _names_of_resnet18(arrays: Weights, name: str) -> dict[str, list[str]]:
    """The layers of each kind, from the images on."""
    convolutions, norms = ["conv1"], ["bn1"]
    for stage in (1, 2, 3, 4):
        for block in (0, 1):
            at = f"layer{stage}.{block}"
            convolutions += [f"{at}.conv1", f"{at}.conv2"]
            norms += [f"{at}.bn1", f"{at}.bn2"]
            if stage > 1 and block == 0:
                convolutions.append(f"{at}.downsample.0")
                norms.append(f"{at}.downsample.1")
    theirs = {"convolution": convolutions, "normalisation": norms, "dense": ["fc"]}
    for kind, layers in theirs.items():
        for layer in layers:
            weight = _there(arrays, f"{layer}.weight", name)
            if weight.ndim != _AXES[kind]:
                raise InputError(
                    f"{layer}.weight of shape {weight.shape} for {name!r}",
                    f"{_AXES[kind]} axes, as a {kind} layer has",
                    "Bring weights of that network",
                )
    return theirs


def _names_in_order(arrays: Weights, counts: Mapping[str, int], name: str) -> dict[str, list[str]]:
    """The layers of each kind, in the order of the numbers in their names."""
    theirs: dict[str, list[str]] = {kind: [] for kind in counts}
    for key in arrays:
        layer, _, leaf = key.rpartition(".")
        for kind, axes in _AXES.items():
            if leaf == "weight" and arrays[key].ndim == axes:
                theirs[kind].append(layer)
    for kind, layers in theirs.items():
        layers.sort(key=_natural)
        if len(layers) != counts[kind]:
            other = {"vgg16": "vgg16_bn", "vgg16_bn": "vgg16"}.get(name)
            raise InputError(
                f"Weights of {len(layers)} {kind} layers for {name!r}"
                + (f" ({', '.join(layers)})" if layers else ""),
                f"{counts[kind]}, as the network of the catalogue has",
                f"Take {other!r}"
                if other and kind == "normalisation"
                else "Bring weights of that network; for another one write it in Flax, and "
                "give it to dcmu.adopt with its weights",
            )
        stems = {re.sub(r"\d+", "0", layer) for layer in layers}
        if len(stems) > 1:
            raise InputError(
                f"The {kind} layers {', '.join(layers)} of {name!r}, in an order that their names "
                "do not tell",
                "names that differ in numbers alone, such as features.0, features.3",
                "Rename them, and give the mapping",
            )
    return theirs


def _there(arrays: Weights, key: str, name: str) -> np.ndarray:
    if key not in arrays:
        shown = ", ".join(sorted(arrays, key=_natural)[:4]) + (", ..." if len(arrays) > 4 else "")
        raise InputError(
            f"Weights without {key!r} for {name!r}, among {shown or 'none'}",
            "conv1, bn1, layer1.0.conv1, ..., layer2.0.downsample.0 (or shortcut), ..., fc (or "
            "linear), each with weight, and bias, running_mean and running_var where it has them"
            if name == "resnet18"
            else "weight and bias of each layer, and running_mean and running_var of BatchNorm",
            "Give the whole state_dict() of such a network, renamed where its names differ",
        )
    return arrays[key]


def _variables(
    model: nn.Module,
    name: str,
    arrays: Weights,
    theirs: Mapping[str, Sequence[str]],
    image_shape: tuple[int, int, int],
) -> dict[str, Any]:
    """Parameters and statistics by part, each array checked and turned to our layout."""
    like = _shapes(model, image_shape)
    names = _paired(model, image_shape, theirs)
    flattened = theirs["dense"][0]  # it sees what was an image, channels first in PyTorch
    biases = any(f"{layer}.bias" in arrays for layer in theirs["convolution"])
    used: set[str] = set()
    found: dict[_Path, np.ndarray] = {}
    for path, leaf in flat(like).items():
        layer = names[path[1:-1]]
        key = f"{layer}.{THEIRS.get(path[-1], 'weight')}"
        if path[-1] == "bias" and layer in theirs["convolution"] and not biases:
            found[path] = np.zeros(leaf.shape, np.float32)
            continue
        array = _there(arrays, key, name)
        used.add(key)
        if path[-1] != "kernel":
            found[path] = _of_shape(key, array, leaf.shape, name)
        elif layer == flattened:
            found[path] = _after_flattening(key, array, leaf.shape, image_shape, name)
        else:
            axes = (3, 2, 0, 1) if len(leaf.shape) == 4 else (1, 0)
            array = _of_shape(key, array, tuple(leaf.shape[axis] for axis in axes), name)
            found[path] = array.transpose(np.argsort(axes))
    extra = sorted(arrays.keys() - used, key=_natural)
    if extra:
        raise InputError(
            f"Weights with {', '.join(extra[:4])}{', ...' if len(extra) > 4 else ''}, which "
            f"{name!r} has not",
            f"{len(used)} arrays, such as {', '.join(sorted(used, key=_natural)[:3])}",
            "Leave them out, if the network runs without; else it is another one",
        )
    found = {path: np.ascontiguousarray(array) for path, array in found.items()}
    return {"batch_stats": {}, **cast(dict[str, Any], unflatten_dict(found))}


def _of_shape(key: str, array: np.ndarray, shape: tuple[int, ...], name: str) -> np.ndarray:
    if array.shape != tuple(shape):
        stem = len(array.shape) == 4 and array.shape[2:] == (7, 7)
        raise InputError(
            f"{key} of shape {array.shape} for {name!r}",
            f"shape {tuple(shape)}",
            "Bring a network for small images, whose first convolution is 3x3 with stride 1"
            if stem
            else "Bring weights of that network, trained on images of this shape",
        )
    return array


def _after_flattening(
    key: str,
    array: np.ndarray,
    shape: tuple[int, int],
    image_shape: tuple[int, int, int],
    name: str,
) -> np.ndarray:
    """The kernel of a layer whose input was flattened: channels first there, last here."""
    height, width = flattened(name, image_shape)
    (rows, out), wide = shape, array.shape[1]
    channels = rows // (height * width)
    fields = math.isqrt(wide // channels)
    averaged = name.startswith("vgg") and wide == channels * fields**2
    if averaged and (height, width) != (fields, fields):
        _check_average(key, fields, (height, width), image_shape, name)
        pools = averages(fields, height), averages(fields, width)
        kernel = array.reshape(-1, channels, fields, fields).astype(np.float64)
        array = np.einsum("ocij,iy,jx->ocyx", kernel, *pools).reshape(len(array), -1)
    array = _of_shape(key, array.astype(np.float32), (out, rows), name)
    return array.reshape(out, channels, height * width).transpose(2, 1, 0).reshape(rows, out)


def _check_average(
    key: str, fields: int, pixels: tuple[int, int], image_shape: tuple[int, int, int], name: str
) -> None:
    """Raise where the weights do not tell which pixels were averaged before the first dense layer.

    They do where nothing but ``AdaptiveAvgPool2d`` to a square gives so many fields: torchvision's
    7 by 7, one field, more fields than a square has pixels, or fields of as many pixels each.
    """
    height, width = pixels
    square = height == width and (fields > height or height % fields == 0)
    if square or (fields in (1, 7) and height * width != fields**2):
        return
    raise InputError(
        f"{key} for {fields**2} fields of {name!r}, which has {height} by {width} pixels there on "
        f"images of {image_shape[0]} by {image_shape[1]}: the weights do not tell which pixels "
        "make a field",
        "weights for 1 or 49 fields, or for as many as the network has pixels there; on square "
        "images also for fields of as many pixels each",
        "Write the network in Flax with its average, and give it to dcmu.adopt with the weights",
    )


def flattened(name: str, image_shape: tuple[int, int, int]) -> tuple[int, int]:
    """Height and width of what is flattened."""
    height, width, _ = image_shape
    halvings = _PLANS[name][1]
    if halvings is None:
        return 1, 1
    for _ in range(halvings):
        if min(height, width) > 1:
            height, width = height // 2, width // 2
    return height, width


def averages(fields: int, pixels: int) -> np.ndarray:
    """``AdaptiveAvgPool2d`` along one axis, as a matrix ``(fields, pixels)``."""
    matrix = np.zeros((fields, pixels))
    for i in range(fields):
        low, high = i * pixels // fields, -(-(i + 1) * pixels // fields)
        matrix[i, low:high] = 1 / (high - low)
    return matrix

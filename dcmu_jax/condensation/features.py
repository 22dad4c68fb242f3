"""Feature maps: any layer of any model, trained or not, or the pixels themselves."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jaxtyping import Array, Float

from dcmu_jax.data.pixels import check_pixels
from dcmu_jax.errors import InputError, unknown_name
from dcmu_jax.networks.partition import Variables, apply_features, run_parts
from dcmu_jax.platforms import full_precision
from dcmu_jax.training.classifier import Classifier, each_batch, in_batches
from dcmu_jax.training.flops import spend_on

PIXELS = "pixels"
"""The name of the map that leaves its inputs as they are, flattened."""


@dataclasses.dataclass(frozen=True)
class FeatureMap:
    """The features of a model as a function of ``(variables, x)``; equal for equal models.

    Attributes:
        model: a Linen module in three parts.
        layer: None takes the model's features, the input of ``final`` unless the model says
            otherwise. Else the output of the layer of this name (``layer_names``), or ``pixels``.
    """

    model: nn.Module
    layer: str | None = None

    def __call__(self, variables: Variables, x: Array) -> Float[Array, "batch dim"]:
        """Flattened features, evaluation mode; float32 whatever the compute dtype.

        Args:
            variables: parameters and statistics of the model.
            x: network inputs ``(batch, H, W, C)``.

        Raises:
            InputError: the model has no such layer.
        """
        if self.layer is None:
            return apply_features(self.model, variables, x)
        y = x if self.layer == PIXELS else _output(self.model, variables, x, self.layer)
        return y.reshape(y.shape[0], -1).astype(jax.numpy.float32)


def _captured(model: nn.Module, variables: Variables, x: Array, wanted: Any) -> dict[str, Array]:
    """Outputs of the submodules that ``wanted`` picks, by path."""
    _, state = model.apply(
        variables, x, method=run_parts, capture_intermediates=wanted, mutable=["intermediates"]
    )
    leaves, _ = jax.tree_util.tree_flatten_with_path(state.get("intermediates", {}))
    # The path ends in the method's name and the number of the call.
    return {"/".join(str(key.key) for key in path[:-2]): leaf for path, leaf in leaves}


def _output(model: nn.Module, variables: Variables, x: Array, layer: str) -> Array:
    outputs = _captured(model, variables, x, lambda module, _: "/".join(module.path) == layer)
    if layer not in outputs:
        known = _captured(model, variables, x, lambda module, _: bool(module.path))
        raise unknown_name("layer", layer, [*known, PIXELS])
    return outputs[layer]


def layer_names(classifier: Classifier) -> tuple[str, ...]:
    """The layers that a ``FeatureMap`` may be made of.

    Parts by their names, what they hold by path (``beginning/conv0``), and ``pixels``.
    """
    x = jax.ShapeDtypeStruct((1, *classifier.image_shape), np.float32)

    def every(variables, x):
        return _captured(classifier.model, variables, x, lambda module, _: bool(module.path))

    return (*jax.eval_shape(every, classifier.variables, x), PIXELS)


def _pass(feature_map: FeatureMap, variables, normalisation, pixels):
    return feature_map(variables, normalisation.apply(pixels))


_features = functools.partial(jax.jit, static_argnames="feature_map")(_pass)


@full_precision()
def extract(
    classifier: Classifier,
    pixels: np.ndarray | Any,
    layer: str | None = None,
    *,
    out: np.ndarray | None = None,
) -> Float[np.ndarray, "samples dim"]:
    """Features float32 of pixels ``(N, H, W, C)``, in batches; see ``FeatureMap``.

    Args:
        classifier: whose features.
        pixels: read a batch at a time; may be a ``numpy.memmap``.
        layer: see ``FeatureMap``.
        out: float32 ``(N, D)``, such as a ``numpy.memmap``, to write to: then no more than a batch
            is in memory, and what is returned is ``out``. The same bits either way.

    Raises:
        InputError: what ``check_pixels`` refuses; the model has no such layer, or ``out`` is of
            another shape or dtype.
    """
    pixels = check_pixels(pixels, classifier.image_shape, classifier.normalisation)
    feature_map = FeatureMap(classifier.model, layer)
    network = classifier.variables, classifier.normalisation
    one = jax.ShapeDtypeStruct((1, *pixels.shape[1:]), pixels.dtype)
    spend_on(_pass, feature_map, *network, one, times=len(pixels))

    def of_batch(x):
        return _features(feature_map, *network, x)

    if out is None:
        return in_batches(of_batch, pixels)
    shape = len(pixels), _width(classifier, pixels, layer)
    if out.shape != shape or out.dtype != np.float32:
        raise InputError(
            f"out = an array of {out.dtype}, shape {out.shape}",
            f"float32 of shape {shape}",
            "Give an array for these features",
        )
    for rows, found in each_batch(of_batch, pixels):
        out[rows] = found
    return out


def _width(classifier: Classifier, pixels: np.ndarray, layer: str | None) -> int:
    """How many features an image has."""
    one = jax.ShapeDtypeStruct((1, *pixels.shape[1:]), np.float32)
    feature_map = FeatureMap(classifier.model, layer)
    return jax.eval_shape(feature_map, classifier.variables, one).shape[1]


@contextlib.contextmanager
def features_for(
    classifier: Classifier,
    pixels: np.ndarray,
    layer: str | None = None,
    scratch: str | os.PathLike[str] | None = None,
) -> Iterator[Float[np.ndarray, "samples dim"]]:
    """Features float32 of pixels ``(N, H, W, C)`` for the time of a block.

    Args:
        classifier: see ``extract``.
        pixels: likewise.
        layer: likewise.
        scratch: a folder, made if it is not there, on a disk (not one that lies in memory). The
            features are then in a file without a name in it, which is gone with the block, or with
            the process if that is killed. In memory when not given.

    Raises:
        InputError: see ``extract``; a folder that cannot be written to or lacks the room.
    """
    if scratch is None:
        yield np.asarray(extract(classifier, pixels, layer), np.float32)
        return
    shape = len(pixels), _width(classifier, pixels, layer)
    size = 4 * shape[0] * shape[1]
    with contextlib.ExitStack() as stack:
        try:
            Path(scratch).mkdir(parents=True, exist_ok=True)
            file = stack.enter_context(tempfile.TemporaryFile(dir=scratch))
            # All of it now: a mapped file for which the disk has no room would kill the process.
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
        except OSError as error:
            raise InputError(
                f"scratch = {os.fspath(scratch)!r}, where {size} bytes of features cannot be "
                f"written ({error.strerror})",
                "a folder with room for them",
                "Make room, or give another folder",
            ) from error
        yield extract(classifier, pixels, layer, out=np.memmap(file, np.float32, "r+", shape=shape))

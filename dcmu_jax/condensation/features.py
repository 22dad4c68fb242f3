"""Feature maps: any layer of any model, trained or not, or the pixels themselves."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jaxtyping import Array, Float

from dcmu_jax.errors import unknown_name
from dcmu_jax.models.partition import Variables, apply_features, run_parts
from dcmu_jax.training.classifier import Classifier, in_batches

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


@functools.partial(jax.jit, static_argnames="feature_map")
def _features(feature_map: FeatureMap, variables, normalisation, pixels):
    return feature_map(variables, normalisation.apply(pixels))


def extract(
    classifier: Classifier, pixels: np.ndarray, layer: str | None = None
) -> Float[np.ndarray, "samples dim"]:
    """Features float32 of pixels ``(N, H, W, C)``, in batches; see ``FeatureMap``.

    Raises:
        InputError: the model has no such layer.
    """
    feature_map = FeatureMap(classifier.model, layer)
    return in_batches(
        lambda x: _features(feature_map, classifier.variables, classifier.normalisation, x), pixels
    )

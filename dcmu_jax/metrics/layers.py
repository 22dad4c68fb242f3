"""The layers of a network by path: each module's own parameters, from shallow to deep."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from dcmu_jax.networks.partition import Variables, apply_parts


def by_layer(tree: Mapping[str, Any], prefix: str = "") -> dict[str, dict[str, Any]]:
    """What each module itself owns of a tree like ``params``: its kernel and bias, say.

    Args:
        tree: nested dictionaries with the part names on top.
        prefix: path of ``tree``.

    Returns:
        The modules' leaves by path (``"final/Dense_0"``; ``"final"`` where the part itself is a
        layer), in the order of ``tree``. Modules without parameters of their own are left out.
    """
    own = {name: leaf for name, leaf in tree.items() if not isinstance(leaf, Mapping)}
    found = {prefix: own} if own else {}
    for name, sub in tree.items():
        if isinstance(sub, Mapping):
            found |= by_layer(sub, f"{prefix}/{name}" if prefix else name)
    return found


def layer_names(
    model: nn.Module, variables: Variables, image_shape: tuple[int, ...]
) -> tuple[str, ...]:
    """The paths of the layers with parameters, in the order in which an image meets them.

    Dictionaries of parameters are sorted by name, in which ``BatchNorm_0`` precedes ``Conv_0``;
    here the network is traced, not run. A layer that is met again keeps its first place.

    Args:
        model: a Linen module in three parts.
        variables: its parameters and statistics.
        image_shape: ``(height, width, channels)``.
    """
    met: dict[str, None] = {}

    def note(call, args, kwargs, context):
        met.setdefault("/".join(context.module.path))
        return call(*args, **kwargs)

    image = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    with nn.intercept_methods(note):
        # A new function each time: a trace remembered from before would note nothing.
        jax.eval_shape(lambda v, x: apply_parts(model, v, x)[0], variables, image)
    owners = by_layer(variables["params"])
    return tuple(name for name in met if name in owners) + tuple(
        name for name in owners if name not in met
    )

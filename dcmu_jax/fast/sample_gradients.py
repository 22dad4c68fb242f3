r"""Sums over all parameters of |g| or g squared, of each sample's own gradient, not formed.

The gradient of one sample's loss by a dense kernel is the outer product of the layer's input a
and of the loss's gradient b by its output, so that the sum of its absolute values is
:math:`\sum|a_i| \sum|b_j|` and that of its squares :math:`\|a\|^2 \|b\|^2`. By a convolution's
kernel it is the matrix product of patches of a with b: formed for one sample on CPU, and elsewhere
for as many as fit into 1 GiB, summed, dropped.
All a and b come from one pass over the batch, the way back going to the layers' outputs alone.
The gradients by all other parameters, few in most networks, are formed by ``vmap(grad)``.

The plain form is in ``core.overfitting_metric``; tests/core/test_core.py holds the two equal, and
tests/metrics/test_overfitting.py each kind to a loop over samples.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any, Literal, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict
from jax import lax
from jaxtyping import Array, Float, Int, Num

from dcmu_jax.data.dataset import Normalisation
from dcmu_jax.networks.convolution import patches
from dcmu_jax.networks.partition import Variables
from dcmu_jax.platforms import on_cpu
from dcmu_jax.training.batches import evaluation_logits
from dcmu_jax.training.examples import cross_entropy

Kind = Literal["paper", "squared"]
_ROOM = 2**28
"""Numbers of kernel gradients that are formed at once, at most: 1 GiB."""
_OF_ENTRY = {"paper": jnp.abs, "squared": jnp.square}

_Path = tuple[str, ...]


def _flat(tree: Any) -> dict[_Path, Any]:
    """Leaves by path."""
    return cast(dict[_Path, Any], flatten_dict(tree))


@dataclasses.dataclass(frozen=True)
class _Layer:
    """A layer whose kernel's gradient need not be formed.

    Attributes:
        output: shape and dtype of what it gives for one image.
        window: of a convolution: kernel size, strides and pads; None for a dense layer.
    """

    output: jax.ShapeDtypeStruct
    window: tuple[Any, Any, Any] | None

    def columns(self, x: Array) -> Float[Array, "positions in"]:
        """What the kernel, as a matrix, is multiplied by at each position; one image."""
        x = x.astype(jnp.float32)
        if self.window is not None:
            x = patches(x, *self.window)
        return x.reshape(-1, x.shape[-1])


def _window(module: nn.Conv, x: Any) -> tuple[Any, Any, Any] | None:
    """Kernel size, strides and pads of a plain 2-D convolution; ``None`` for any other."""
    strides: Any = module.strides
    padding: Any = module.padding
    size: tuple[int, ...] = tuple(cast(Any, module.kernel_size))
    dilations = (module.kernel_dilation, module.input_dilation)
    plain = len(size) == 2 and x.ndim == 4 and module.feature_group_count == 1
    if not plain or module.mask is not None or any(d not in (None, 1, (1, 1)) for d in dilations):
        return None
    steps = (strides,) * 2 if isinstance(strides, int) else tuple(strides or (1, 1))
    if isinstance(padding, str):
        if padding not in ("SAME", "VALID"):
            return None
        return size, steps, tuple(lax.padtype_to_pads(x.shape[1:3], size, steps, padding))
    padding = (padding,) * 2 if isinstance(padding, int) else padding
    return size, steps, tuple((p, p) if isinstance(p, int) else tuple(p) for p in padding)


def _layers(model: nn.Module, variables: Variables, normalisation, pixels) -> dict[_Path, _Layer]:
    """The dense and plain convolutional layers by path, for one image; a trace, nothing is run."""
    found: dict[_Path, _Layer | None] = {}
    kernels = _flat(variables["params"])

    def note(call, args, kwargs, context):
        output = call(*args, **kwargs)
        module = context.module
        if type(module) not in (nn.Dense, nn.Conv) or context.method_name != "__call__":
            return output
        path, x = module.path, args[0]
        dense = type(module) is nn.Dense
        window = None if dense else _window(module, x)
        shape = (x.shape[-1], module.features)
        if window is not None:
            shape = (*window[0], *shape)
        # Not so under a lifted transform, or in a module that is not written in parts.
        stored = kernels.get((*path, "kernel"))
        as_stored = stored is not None and stored.shape == shape
        # A kernel used twice has the sum of two gradients, and no short form.
        usable = as_stored and (dense or window is not None) and path not in found
        kept = _Layer(jax.ShapeDtypeStruct(output.shape, output.dtype), window)
        found[path] = kept if usable else None
        return output

    with nn.intercept_methods(note):
        jax.eval_shape(
            lambda v, x: evaluation_logits(model, v, normalisation, v["params"], x),
            variables,
            pixels[:1],
        )
    return {path: layer for path, layer in found.items() if layer is not None}


def _kernel_sums(layer: _Layer, of_entry, inputs: Array, slopes: Array) -> Float[Array, " batch"]:
    """Sum over a kernel's entries of ``of_entry`` of each sample's gradient."""

    def one(pair):
        a, b = layer.columns(pair[0]), pair[1].astype(jnp.float32)
        b = b.reshape(-1, b.shape[-1])
        if len(a) == 1:
            return of_entry(a).sum() * of_entry(b).sum()
        return of_entry(jnp.matmul(a.T, b)).sum()

    pairs = inputs, slopes
    entries = jax.eval_shape(layer.columns, inputs[0]).shape[-1] * slopes.shape[-1]
    # On CPU a batched matrix product is several times slower than one product after another.
    at_once = 1 if on_cpu() else max(1, _ROOM // entries)
    if math.prod(layer.output.shape[:-1]) == 1 or at_once >= len(inputs):
        return jax.vmap(one)(pairs)
    return lax.map(one, pairs, batch_size=None if at_once == 1 else at_once)


@functools.partial(jax.jit, static_argnames=("model", "kind"))
def gradient_sums(
    model: nn.Module,
    kind: Kind,
    variables: Variables,
    normalisation: Normalisation,
    pixels: Num[Array, "batch height width channels"],
    labels: Int[Array, " batch"],
) -> tuple[Float[Array, " batch"], Float[Array, " batch"]]:
    """Each sample's loss, and the sum over all parameters of |g| or g squared of its gradient.

    Evaluation mode, where samples do not see each other. Exact for any Linen module, provided that
    a dense or convolutional kernel is used by its layer only; fast where most parameters are in
    such kernels.

    Args:
        model: a Linen module in three parts.
        kind: ``paper`` for |g|, ``squared`` for its square.
        variables: its parameters and statistics.
        normalisation: of its inputs.
        pixels: of the images, 0..255.
        labels: classes.
    """
    of_entry = _OF_ENTRY[kind]
    layers = _layers(model, variables, normalisation, pixels)
    params = _flat(variables["params"])
    kernels = {(*path, "kernel") for path in layers}
    others = {path: leaf for path, leaf in params.items() if path not in kernels}
    offsets = {path: jnp.zeros(x.output.shape, x.output.dtype) for path, x in layers.items()}

    def loss(offsets, others, pixels, label):
        inputs = {}

        def watch(call, args, kwargs, context):
            output = call(*args, **kwargs)
            path = context.module.path
            if path not in layers or context.method_name != "__call__":
                return output
            inputs[path] = args[0]
            return output + offsets[path]

        with nn.intercept_methods(watch):
            whole = unflatten_dict({**params, **others})
            logits = evaluation_logits(model, variables, normalisation, whole, pixels[None])
        value = cross_entropy(logits, label[None])[0]
        return value, (value, inputs)

    by_sample = jax.vmap(jax.grad(loss, (0, 1), has_aux=True), (None, None, 0, 0))
    (slopes, rest), (losses, inputs) = by_sample(offsets, others, pixels, labels)
    sums = jnp.zeros(len(labels), jnp.float32)
    for leaf in jax.tree.leaves(rest):
        sums += of_entry(leaf.astype(jnp.float32)).reshape(len(labels), -1).sum(1)
    for path, layer in layers.items():
        sums += _kernel_sums(layer, of_entry, inputs[path], slopes[path])
    return losses, sums


def formed_parameters(model: nn.Module, variables: Variables, normalisation, pixels) -> int:
    """How many parameters' gradients ``gradient_sums`` forms for every sample of a batch."""
    params = _flat(variables["params"])
    layers = _layers(model, variables, normalisation, pixels)
    kernels = {(*path, "kernel") for path in layers}
    return sum(leaf.size for path, leaf in params.items() if path not in kernels)

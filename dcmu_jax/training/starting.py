"""Networks to start from: from the catalogue or the user's own, trained or not."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import flax.core
import flax.linen as nn
import jax
import numpy as np
from flax.traverse_util import flatten_dict

from dcmu_jax.data.dataset import (
    Dataset,
    Normalisation,
    Splits,
    channel_statistics,
    check_normalisation,
)
from dcmu_jax.errors import InputError
from dcmu_jax.networks import nnx_modules
from dcmu_jax.networks.adoption import check_module, check_variables
from dcmu_jax.networks.catalogue import create
from dcmu_jax.networks.partition import check_image_shape, initialise
from dcmu_jax.networks.patterns import Patterns
from dcmu_jax.networks.torch_back import give_back
from dcmu_jax.networks.torch_files import read_weights
from dcmu_jax.networks.torch_weights import bring
from dcmu_jax.networks.whole import LinenInner, adopted, merged, runs_by_part
from dcmu_jax.prng import Key, key_of
from dcmu_jax.training.classifier import Classifier
from dcmu_jax.training.divergence import all_finite
from dcmu_jax.training.keys import folded


def network(
    model: str | nn.Module, data: Splits | Dataset, *, key: Key | None = None, **options: Any
) -> Classifier:
    """An untrained network for the images and classes of a data set.

    Args:
        model: a name of the catalogue (mlp, cnn, convnet, vgg16, vgg16_bn, resnet18), or a Linen
            module in three parts (``dcmu_jax.networks.partition``).
        data: the training set, or the splits that hold it. It also gives the normalisation: mean
            and standard deviation of each channel.

    Other Args:
        key: of the initialisation; that of seed 0 if not given.
        **options: of a network of the catalogue: ``width``, ``dtype``, ``norm``, ``init``; see
            ``networks.catalogue.create``.

    Raises:
        InputError: an unknown name; a module that cannot be trained by part on such images.
    """
    train = data.train if isinstance(data, Splits) else data
    height, width, channels = train.images.shape[1:]
    shape = (height, width, channels)
    if isinstance(model, str):
        model = create(model, image_shape=shape, num_classes=train.num_classes, **options)
    elif options:
        raise InputError(
            f"Options {', '.join(options)} for a module of your own",
            "options for a network of the catalogue",
            "Set them on the module itself",
        )
    check_module(model, shape, train.num_classes)
    key = key_of(0) if key is None else key
    variables = initialise(model, folded(key, "initialisation"), shape)
    return Classifier(model, variables, channel_statistics(train.images), shape)


def adopt(
    module: Any,
    variables: Any,
    data: Splits | Dataset,
    *,
    parts: Patterns | Any = None,
    layer: str | None = None,
    make: Any = None,
    normalisation: tuple[Any, Any] | None = None,
) -> Classifier:
    """A network that was trained elsewhere, as a Flax Linen or NNX module.

    Guarantee: its logits are those of the module on normalised images, and ``variables_of`` gives
    back variables in the module's own tree.

    Args:
        module: of images ``(batch, height, width, channels)``, normalised, and logits.
        variables: parameters and BatchNorm statistics of a Linen module, as ``module.init`` gives
            them; ``None`` for a module of NNX, which has its own.
        data: gives the shape of the images, and the normalisation if none is given.

    Other Args:
        parts: patterns of parameter paths for beginning, intermediate and final, such as
            ``{"beginning": "Conv_0", "intermediate": "Conv_*", "final": "Dense_*"}``; not for a
            module that is written in those three parts. See ``networks.patterns.labels_of``.
        layer: whose output the features are; the input of ``final`` if not given.
        make: of a module of NNX: makes a fresh one from ``nnx.Rngs``.
        normalisation: mean and standard deviation of each channel, of pixels in [0, 1], that the
            network was trained with: ``((0.0,), (1.0,))`` for grey images that were divided by 255
            and no more. If not given, that of ``data``, which is wrong for any other network.

    Raises:
        InputError: patterns that match nothing, overlap or leave a parameter out; variables of
            other kinds, shapes or names than the module has, or not finite; a normalisation that
            is none; a module that cannot be trained on such images.
    """
    dataset = data.train if isinstance(data, Splits) else data
    height, width, channels = dataset.images.shape[1:]
    shape = (height, width, channels)
    if nnx_modules.is_nnx(module):
        if variables is not None:
            raise InputError(
                f"Variables given with the NNX module {type(module).__name__}, which has its own",
                "None",
                "Put them into it first: dcmu_jax.networks.nnx_modules.load(module, variables)",
            )
        module, variables = nnx_modules.adopted(module, make, parts, layer)
    elif parts is not None:
        _check_like_fresh(module, variables, shape)
        module, variables = adopted(module, variables, parts, layer)
    check_module(module, shape, dataset.num_classes)
    given = channel_statistics(dataset.images)
    if normalisation is not None:
        given = _normalisation(normalisation, channels)
    check_variables(module, variables, shape)
    network = Classifier(module, variables, given, shape)
    _check_finite(network)
    return network


def _check_like_fresh(module: Any, variables: Any, shape: tuple[int, int, int]) -> None:
    """Raise where variables have other arrays than a Linen module makes on such images.

    In the module's own names: later they lie in parts, which are no names of the user's.
    """
    x = jax.ShapeDtypeStruct((1, *shape), np.float32)
    try:
        inner = LinenInner(module)
        fresh = jax.eval_shape(inner.fresh, jax.eval_shape(lambda: key_of(0)), x)
    except Exception:  # whatever a user's module may raise: check_module says it
        return
    kept = ("params", "batch_stats")
    others = sorted(set(fresh) - {*kept, "intermediates"})
    if others:
        raise InputError(
            f"The module {inner.name}, which keeps variables in {', '.join(others)}",
            "the collections params and batch_stats",
            "Keep no other state in the module: neither unlearning nor a fresh start would know it",
        )
    if not isinstance(variables, Mapping) or not isinstance(variables.get("params"), Mapping):
        return  # which is said later
    trees = {kind: variables.get(kind, {}) for kind in kept}
    wanted: dict[str, Any] = flatten_dict({kind: fresh.get(kind, {}) for kind in kept}, sep="/")
    given: dict[str, Any] = flatten_dict(flax.core.unfreeze(trees), sep="/")
    for path in sorted(wanted.keys() - given.keys()) or sorted(given.keys() - wanted.keys()):
        lacks = path in wanted
        raise InputError(
            f"Variables {'without' if lacks else 'with'} {path}, which {inner.name} "
            f"{'has' if lacks else 'has not'}",
            "all that module.init gives of params and batch_stats, and no more",
            f"Add {path}, of shape {wanted[path].shape}" if lacks else f"Leave {path} out",
        )
    for path, like in sorted(wanted.items()):
        if np.shape(given[path]) != like.shape:
            raise InputError(
                f"{path} of shape {np.shape(given[path])} for the module {inner.name}",
                f"shape {like.shape}, on images of shape {shape}",
                "Bring the variables of a module with these settings, on images of this shape",
            )


def _check_finite(network: Classifier) -> None:
    """Raise unless every number of a network is finite."""
    for path, leaf in flatten_dict(variables_of(network), sep="/").items():
        if not all_finite(leaf):
            raise InputError(
                f"{path} of the network, which is not all finite",
                "finite parameters and statistics",
                "Bring a network whose training did not diverge",
            )


def _normalisation(given: Any, channels: int) -> Normalisation:
    """Mean and standard deviation of each channel as the network takes them."""
    try:
        mean, std = (np.atleast_1d(np.asarray(numbers, np.float32)) for numbers in given)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"A normalisation given as {given!r}",
            "mean and standard deviation of each channel, of pixels in [0, 1]",
            "Give two tuples of numbers, such as ((0.5,), (0.25,)) for grey images",
        ) from error
    for name, value in (("mean", mean), ("std", std)):
        check_normalisation(name, value, channels)
    return Normalisation(mean, std)


def from_torch(
    name: str,
    weights: str | os.PathLike[str] | Mapping[str, Any] | Any,
    data: Splits | Dataset | tuple[int, int, int],
    *,
    normalisation: tuple[Any, Any] | None = None,
    dtype: str = "float32",
) -> Classifier:
    """A network of the catalogue with the weights that one in PyTorch was trained to.

    Guarantee: in evaluation mode its logits are those of the network in PyTorch, up to rounding,
    if that computes what the catalogue's does, which weights do not say: see
    ``networks.torch_weights.bring``, and compare the logits of a batch.
    What trains from there is the network of the catalogue: VGG16 with dropout, BatchNorm with
    momentum 0.1 as PyTorch writes it. Names of layers, and widths:
    ``networks.torch_weights.bring``.

    Args:
        name: of the catalogue: resnet18, vgg16_bn, ...
        weights: a ``.safetensors`` file; ``network.state_dict()``, or arrays by those names; or a
            file of ``torch.save``, where PyTorch is installed.
        data: gives the shape of the images, the number of classes, and the normalisation if
            there is no other; or a shape ``(height, width, channels)`` alone.

    Other Args:
        normalisation: see ``adopt``. If not given, what the weights hold as ``normalize.mean``
            and ``normalize.std``; else that of ``data``.
        dtype: compute dtype, ``float32`` or ``bfloat16``.

    Raises:
        InputError: an unknown name; no such file; see ``networks.torch_weights.bring``.
    """
    if isinstance(weights, str | os.PathLike):
        weights = read_weights(weights)
    train = data.train if isinstance(data, Splits) else data
    has_images = isinstance(train, Dataset)
    shape = check_image_shape(train.images.shape[1:] if has_images else train)
    classes = train.num_classes if has_images else None
    brought = bring(name, weights, shape, classes, dtype)
    normalisation = brought.normalisation if normalisation is None else normalisation
    if has_images:
        return adopt(brought.model, brought.variables, train, normalisation=normalisation)
    if normalisation is None:
        raise InputError(
            "A shape of images and no normalisation",
            "the mean and standard deviation of each channel that the network was trained with",
            "Give normalisation=((0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616)), or whatever "
            "it was; or give the data in place of the shape",
        )
    return Classifier(
        brought.model, brought.variables, _normalisation(normalisation, shape[-1]), shape
    )


def to_torch(
    network: Classifier, like: str | os.PathLike[str] | Mapping[str, Any] | Any
) -> dict[str, np.ndarray]:
    """The weights of a network that ``from_torch`` gave, or one trained from it, for PyTorch.

    Guarantee: in evaluation mode the network in PyTorch that loads them gives the logits of this
    one, up to rounding.

    Args:
        network: of the catalogue.
        like: the weights that it came from, as ``from_torch`` takes them: names and shapes are
            theirs.

    Returns:
        Arrays by those names: ``safetensors.numpy.save_file`` writes them.

    Raises:
        InputError: see ``networks.torch_back.give_back``.
    """
    if isinstance(like, str | os.PathLike):
        like = read_weights(like)
    return give_back(network.model, network.variables, network.image_shape, like)


def variables_of(network: Classifier) -> dict[str, Any]:
    """The variables of a network in the tree of its module.

    Those of Linen are what ``module.apply`` takes; ``networks.nnx_modules.load(module, variables)``
    puts those of NNX into a module.

    Args:
        network: any; one made by ``adopt`` has its module's own tree.
    """
    if runs_by_part(network.model):
        return network.variables
    return {kind: merged(trees) for kind, trees in network.variables.items()}

"""A model in three named parts, and running, splitting and counting by part.

A model is any Linen module whose ``setup`` defines ``beginning``, ``intermediate`` and ``final``,
its only direct children: then ``params["intermediate"]`` *is* the partition, for parameters and
BatchNorm statistics alike. A part is called as ``part(x, train=flag)``; one that takes
``training``, ``deterministic`` or ``use_running_average`` instead is switched by that, and one that
takes none of them is called as ``part(x)`` (``nn.Dense``, ``nn.Sequential`` of such layers, ...).
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import operator
from collections.abc import Collection, Mapping
from typing import Any, Literal, cast

import flax.linen as nn
import jax
import optax
from jaxtyping import Array

from dcmu_jax.errors import InputError, as_names, unknown_name
from dcmu_jax.prng import Key, key_of, typed_key

Part = Literal["beginning", "intermediate", "final"]
PARTS: tuple[Part, ...] = ("beginning", "intermediate", "final")

Variables = Mapping[str, Any]
"""``{"params": {part: ...}, "batch_stats": {part: ...}}``; the second may be absent or partial."""


def check_parts(parts: Collection[str]) -> frozenset[str]:
    """The parts as a set, a single name for one; raises ``InputError`` for an unknown name."""
    parts = parts if isinstance(parts, set | frozenset) else as_names(parts)
    for part in parts:
        if part not in PARTS:
            raise unknown_name("part of a model", part, PARTS)
    return frozenset(parts)


FLAGS = {
    "train": True,
    "training": True,
    "is_training": True,
    "deterministic": False,
    "use_running_average": False,
}
"""Argument of a part that switches it -> its value in training."""


def mode_of(part: Any, train: bool) -> dict[str, bool]:
    """The arguments that put ``part`` into training or evaluation mode; empty if it takes none."""
    taken = inspect.signature(type(part).__call__).parameters
    return {name: train == value for name, value in FLAGS.items() if name in taken}


def _run_part(part: nn.Module, x: Any, train: bool) -> Any:
    return part(x, **mode_of(part, train))


def run_parts(module: nn.Module, x: Any, parts: Collection[str] = PARTS, train: bool = False):
    """All three parts in turn, or some of them, as a ``method`` for ``module.apply``."""
    for name in parts:
        x = _run_part(getattr(module, name), x, train)
    return x


def check_kind(model: Any) -> None:
    """Raise unless ``model`` is an instance of a Linen module that can be a key.

    Raises:
        InputError: a class, a module of NNX or PyTorch, a function, or fields that cannot be
            hashed.
    """
    if not isinstance(model, nn.Module):
        homes = {kind.__module__.partition(".")[0] for kind in type(model).__mro__}
        remedy = "Write it as a flax.linen module with beginning, intermediate and final in setup()"
        if isinstance(model, type):
            given, remedy = f"The class {model.__name__}", f"Make one: {model.__name__}()"
            if not issubclass(model, nn.Module):
                remedy += "; it has to be a flax.linen module"
        elif any(kind.__module__.startswith("flax.nnx") for kind in type(model).__mro__):
            given = f"The NNX module {type(model).__name__}"
            remedy = (
                "Give dcmu.adopt(module, None, splits, parts=..., make=...), and go on with what "
                "it returns"
            )
        elif "torch" in homes:
            given = f"The PyTorch module {type(model).__name__}"
            remedy += "; dcmu.from_torch takes weights for a network of the catalogue"
        else:
            kind = type(model).__name__
            named = getattr(model, "__name__", None)
            given = f"The function {named}" if named else f"An object of type {kind}"
        raise InputError(given, "an instance of a flax.linen.Module in three parts", remedy)
    if model.scope is not None:
        name = type(model).__name__
        raise InputError(
            f"The module {name} that is bound to variables, as bind() gives it",
            "a module by itself; its variables are given separately",
            "Give module.unbind()[0]",
        )
    try:
        hash(model)
    except TypeError as error:
        fields = [f.name for f in dataclasses.fields(model) if f.name not in ("parent", "name")]
        stuck = [name for name in fields if not _hashable(getattr(model, name, None))]
        raise InputError(
            f"The module {type(model).__name__} with the field(s) {', '.join(stuck) or '?'}, which "
            f"cannot be hashed ({error})",
            "fields of numbers, texts and tuples: the module is a key of compiled programs",
            "Write tuples for lists, and flax.core.FrozenDict for dictionaries",
        ) from error


def _hashable(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


def check_image_shape(shape: Any) -> tuple[int, int, int]:
    """The shape of one image as integers of Python; any sequence of them will do.

    Raises:
        InputError: anything but three whole numbers above 0, or channels that come first.

    >>> check_image_shape([8, 8, 1])
    (8, 8, 1)
    """
    remedy = "Give splits.image_shape, or images.shape[1:]"
    try:
        sides = tuple(map(operator.index, shape))
    except TypeError:
        sides = ()
    if len(sides) == 3 and min(sides) > 0:
        height, width, channels = sides
        if not (height in (1, 3) and width == channels > 3):
            return height, width, channels
        remedy = f"Give {(width, channels, height)}: the channels come last"
    elif len(sides) == 2:
        remedy = f"Give {(*sides, 1)} for grey images"
    elif len(sides) == 4:
        remedy = f"Give {sides[1:]}, without the number of images"
    raise InputError(
        f"image_shape = {shape!r}", "(height, width, channels), whole numbers above 0", remedy
    )


def apply_parts(
    model: nn.Module,
    variables: Variables,
    x: Array,
    *,
    start: str = "beginning",
    stop: str | None = None,
    train: Collection[str] = (),
    dropout_key: Key | None = None,
) -> tuple[Any, dict[str, Any]]:
    """Run the parts from ``start`` up to, not including, ``stop``.

    Args:
        model: the module; see the module docstring.
        variables: its parameters and statistics (only those of the parts that run are needed).
        x: the input of the part ``start``.
        start: first part to run.
        stop: the part before which to stop; ``None`` runs to the end, giving logits.
        train: parts in training mode (dropout on, BatchNorm on batch statistics and updating
            them). Every other part is in evaluation mode, so its statistics cannot move.
        dropout_key: needed when a part in ``train`` has dropout.

    Returns:
        The output and the new ``batch_stats`` of the parts in ``train`` (an empty dict if none).
    """
    names = PARTS[PARTS.index(start) : None if stop is None else PARTS.index(stop)]
    training = check_parts(train)

    def run(module: nn.Module, x: Any) -> Any:
        for name in names:
            x = _run_part(getattr(module, name), x, name in training)
        return x

    rngs = {} if dropout_key is None else {"dropout": typed_key(dropout_key)}
    if not training:
        return model.apply(variables, x, method=run, rngs=rngs), {}  # type: ignore[return-value]
    y, updated = cast(
        tuple[Any, dict[str, Any]],
        model.apply(variables, x, method=run, rngs=rngs, mutable=["batch_stats"]),
    )
    stats = updated.get("batch_stats", {})
    return y, {name: stats[name] for name in stats if name in training}


def apply_features(model: nn.Module, variables: Variables, x: Array) -> Array:
    """Features used for clustering and condensation, flattened to ``(batch, dim)``.

    The input of ``final`` unless the model has a method ``features(x)`` that says otherwise.
    Evaluation mode; float32 whatever the compute dtype.
    """
    if hasattr(type(model), "features"):
        y = cast(Array, model.apply(variables, x, method="features"))
    else:
        y, _ = apply_parts(model, variables, x, stop="final")
    return y.reshape(y.shape[0], -1).astype(jax.numpy.float32)


def _wrong_parts(model: Any, found: Collection[str], missing: str | None = None) -> InputError:
    """The error for a module that is not written in parts, or in others.

    Args:
        model: the module.
        found: the names that it defines; of parts alone where one of them is missing.
        missing: a part.
    """
    name = type(model).__name__
    given = f"The module {name}, which is not written in three parts"
    if missing is None:
        given = f"The module {name} with the parts {', '.join(sorted(found))}"
    elif found:
        given = f"The module {name} with {' and '.join(found)}, but without {missing!r}"
    return InputError(
        given,
        "a Linen module whose setup() defines exactly beginning, intermediate and final, in which "
        "order they run; any other module by dcmu.adopt",
        "Give dcmu.adopt(module, variables, splits, parts=...), with patterns of parameters for "
        "each of the three parts, and go on with what it returns; or define the three in setup()",
    )


def _init(model, key, image_shape):
    """The variables that ``model.init`` gives."""

    def run(module: nn.Module, x: Any) -> Any:
        parts: dict[str, Any] = {name: getattr(module, name, None) for name in PARTS}
        there = [name for name, part in parts.items() if isinstance(part, nn.Module)]
        for name, part in parts.items():
            if name not in there:
                raise _wrong_parts(module, there, name)
            x = _run_part(part, x, False)
        return x

    return model.init(key, jax.numpy.zeros((1, *image_shape), jax.numpy.float32), method=run)


_compiled_init = jax.jit(_init, static_argnames=("model", "image_shape"))
"""The same, compiled once for a model and a shape."""


def traced_init(model: nn.Module | Any, image_shape: tuple[int, int, int]) -> Any:
    """The program of fresh parameters as a jaxpr, traced anew."""
    return jax.make_jaxpr(lambda key: _init(model, key, image_shape))(key_of(0))


def initialise(
    model: nn.Module | Any, key: Key, image_shape: tuple[int, int, int]
) -> dict[str, Any]:
    """Fresh parameters and statistics of ``model`` for images ``(height, width, channels)``.

    Raises:
        InputError: what ``check_kind`` refuses; the model lacks one of the three parts, has
            others besides them, or keeps other state than parameters and statistics.
    """
    check_kind(model)
    shape = check_image_shape(image_shape)
    variables = _compiled_init(model, typed_key(key), shape)
    params = variables.get("params", {})
    if not set(params) <= set(PARTS):
        raise _wrong_parts(model, params)
    others = sorted(set(variables) - {"params", "batch_stats", "intermediates"})
    if others:
        raise InputError(
            f"The module {type(model).__name__} with variables in {', '.join(others)}",
            "the collections params and batch_stats",
            "Keep no other state in the module",
        )
    return {
        "params": {name: params.get(name, {}) for name in PARTS},
        "batch_stats": dict(variables.get("batch_stats", {})),
    }


@functools.lru_cache(maxsize=256)
def count_outputs(model: nn.Module | Any, image_shape: tuple[int, int, int]) -> int:
    """How many logits ``model`` gives for an image; traced once for a model and a shape."""
    x = jax.ShapeDtypeStruct((1, *image_shape), jax.numpy.float32)
    like = jax.eval_shape(lambda key: initialise(model, key, image_shape), key_of(0))
    out: Any = jax.eval_shape(lambda v, x: apply_parts(model, v, x)[0], like, x)
    return (out[0] if isinstance(out, tuple) else out).shape[-1]


def partition(
    tree: Mapping[str, Any], parts: Collection[str]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split a tree with part names on top into those in ``parts`` and the rest."""
    chosen = check_parts(parts)
    return (
        {name: sub for name, sub in tree.items() if name in chosen},
        {name: sub for name, sub in tree.items() if name not in chosen},
    )


def freeze_mask(params: Mapping[str, Any], parts: Collection[str]) -> dict[str, Any]:
    """A tree of booleans like ``params``: True where a leaf is frozen, that is not in ``parts``."""
    trainable = check_parts(parts)
    return {
        name: jax.tree.map(lambda _, frozen=name not in trainable: frozen, sub)
        for name, sub in params.items()
    }


def part_optimizer(
    optimizer: optax.GradientTransformation, params: Mapping[str, Any], parts: Collection[str]
) -> optax.GradientTransformation:
    """The optax view of modular training: ``optimizer`` on ``parts``, nothing elsewhere.

    Frozen parts keep their bits; the others train as when only the sub-tree of ``parts`` is
    differentiated, as ``training.fit`` does, up to the rounding of another compiled program (held
    by a test). For users who bring a training loop of their own.
    """
    return optax.selective_transform(optimizer, freeze_mask=freeze_mask(params, parts))


def count_parameters(params: Mapping[str, Any]) -> dict[str, int]:
    """Number of parameters of each part."""
    return {name: sum(x.size for x in jax.tree.leaves(sub)) for name, sub in params.items()}

"""A user's module at the door: everything that training would stumble over, before any training."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.errors import InvalidRngError

from dcmu_jax.errors import InputError, counted, kind_of
from dcmu_jax.networks.behaviour import (
    differing_alone,
    ends_in_relu_or_sigmoid,
    fixed_images,
    fixed_variables,
    has_call,
    is_called_alike,
    is_ours,
    logits_of,
    still_statistics,
)
from dcmu_jax.networks.layers import Dropout
from dcmu_jax.networks.partition import (
    FLAGS,
    PARTS,
    check_image_shape,
    check_kind,
    initialise,
    mode_of,
    run_parts,
)
from dcmu_jax.networks.whole import Whole, name_of, unswitched
from dcmu_jax.prng import key_of

_FIELDS = ("use_running_average", "deterministic")
"""Fields by which a layer is switched, where its call does not say."""


@functools.lru_cache(maxsize=256)
def _checked(
    model: nn.Module, image_shape: tuple[int, int, int], num_classes: int, more: bool
) -> None:
    name = name_of(model)
    x = jax.ShapeDtypeStruct((2, *image_shape), jnp.float32)
    variables = _tried(
        f"{name} cannot be initialised on images {image_shape}",
        lambda: jax.eval_shape(lambda key: initialise(model, key, image_shape), key_of(0)),
    )
    for train in (False, True):
        out = _tried(
            f"{name} cannot run on images {image_shape} in "
            f"{'training' if train else 'evaluation'} mode",
            functools.partial(_outputs, model, variables, x, train),
        )
        first = out[0] if more and isinstance(out, tuple) and out else out
        _check_outputs(name, first, num_classes)
    if isinstance(model, Whole):
        _check_switchable(model, name, image_shape)
    else:
        _check_parts_alone(model, variables, x)
    if not is_ours(model):
        _check_features(model, variables, image_shape)
        _check_computed(model, name, image_shape)


def check_module(
    model: Any, image_shape: tuple[int, int, int], num_classes: int, *, more: bool = False
) -> None:
    """Raise unless a module can be trained, frozen and evaluated by part on such images.

    The module is traced, and one of the user's own is run on a few fixed images, once for each
    module and shape.

    Args:
        model: what a user brought.
        image_shape: ``(height, width, channels)``.
        num_classes: number of logits it must give.

    Other Args:
        more: it may give a tuple, of which the logits come first, for a loss that wants the rest.

    Raises:
        InputError: anything but an instance of a hashable Linen module in three parts; a module
            that fails on such images, in evaluation or in training mode; parts that share
            parameters; outputs that are not one logit for each class, are probabilities, or come
            out of a ReLU; outputs of an image that depend on the others of its batch; a layer
            that is not switched between training and evaluation (BatchNorm, dropout, attention with
            dropout), or draws in evaluation mode; statistics that training does not change; a
            method ``features`` that gives no row for each image; a ``__call__`` that computes
            something else than the three parts in turn.
    """
    check_kind(model)
    _checked(model, check_image_shape(image_shape), num_classes, more)


def _tried(what: str, call: Callable[[], Any]) -> Any:
    """``call()``, its failure told in one line."""
    try:
        return call()
    except InputError:
        raise
    except Exception as error:  # whatever a user's module may raise
        raise InputError(
            f"{what} ({_in_a_line(error)})",
            "a module that runs on such images, evaluated and trained, draws for dropout alone, "
            "and changes no variables but batch_stats, in training",
            "Mend what fails: the traceback of its own error comes first; a module or part with "
            "dropout or BatchNorm takes the argument train, and draws only where it is True",
        ) from error


def _check_features(model: nn.Module, variables: Any, image_shape: tuple[int, int, int]) -> None:
    """Raise where a module has a method ``features`` that does not give a row for each image."""
    if not hasattr(type(model), "features"):
        return
    name, count = name_of(model), 3
    allowed = "a method features(self, x) that gives an array with a row for each image"
    remedy = "Mend features, or delete it: the features are the input of final then"
    x = jax.ShapeDtypeStruct((count, *image_shape), jnp.float32)
    try:
        out: Any = jax.eval_shape(lambda v, x: model.apply(v, x, method="features"), variables, x)
    except Exception as error:  # whatever a user's method may raise
        raise InputError(
            f"The method features of {name} cannot run on images {image_shape} "
            f"({_in_a_line(error)})",
            allowed,
            remedy,
        ) from error
    if getattr(out, "shape", ())[:1] != (count,):
        kind = f"shape {out.shape}" if hasattr(out, "shape") else kind_of(out)
        raise InputError(
            f"The method features of {name} gives {kind} for {counted(count, 'image')}",
            allowed,
            remedy,
        )


def _check_switchable(model: Whole, name: str, image_shape: tuple[int, int, int]) -> None:
    """Raise where a frozen part of a module that is not written in parts would be in training."""
    variables, x = fixed_variables(model, image_shape), fixed_images(image_shape)
    moved = _tried(
        f"{name} cannot run on images {image_shape}",
        lambda: unswitched(model, variables, x, key_of(0)),
    )
    if not moved <= 1e-5:
        raise InputError(
            f"{name}, whose outputs in training mode differ by more than nn.BatchNorm and "
            "nn.Dropout make them",
            "layers of Flax in what is not written in three parts: any other that its flag "
            "switches would be in training mode in frozen parts, too",
            "Write the module in three parts, beginning, intermediate and final in setup()",
        )


def _check_parts_alone(model: nn.Module, variables: Any, x: Any) -> None:
    """Raise where a part needs what is not its own."""
    for part in PARTS:
        own = {kind: {part: tree.get(part, {})} for kind, tree in variables.items()}

        def run(own, x, part=part):
            return model.apply(
                own, x, method=lambda module, x: run_parts(module, x, (part,)), mutable=False
            )

        try:
            x = jax.eval_shape(run, own, x)
        except Exception as error:
            raise InputError(
                f"The part {part!r} of {name_of(model)} does not run on its own variables "
                f"({type(error).__name__})",
                "parts that share no layer and no parameters",
                "Give each of beginning, intermediate and final layers of its own",
            ) from error


def _draws_nothing(layer: nn.Module) -> bool:
    """Whether every rate of dropout that a layer has among its fields is 0."""
    rates = [
        value
        for name, value in vars(layer).items()
        if ("rate" in name or "drop" in name)
        and isinstance(value, int | float)
        and not isinstance(value, bool)
    ]
    return bool(rates) and not any(rates)


def _is_training(context: Any, args: Any, kwargs: Any) -> bool | None:
    """The mode that a layer is called in; None for one that computes the same in both."""
    layer = context.module
    fields = {name: vars(layer)[name] for name in _FIELDS if name in vars(layer)}
    if not fields and not isinstance(layer, Dropout):
        return None
    if "use_running_average" not in fields and _draws_nothing(layer):
        return None
    call = inspect.signature(context.orig_method).bind(*args, **kwargs)
    call.apply_defaults()
    for place in (call.arguments, fields):
        said = [
            bool(place[flag]) == value
            for flag, value in FLAGS.items()
            if isinstance(place.get(flag), bool | np.bool_)
        ]
        if said:
            return all(said)
    return None


def _outputs(model: nn.Module, variables: Any, x: Any, train: bool) -> Any:
    """Shape of the outputs; raises where a layer is in the other mode."""
    wrong: dict[str, None] = {}

    def watch(following, args, kwargs, context):
        if context.method_name == "__call__":
            mode = _is_training(context, args, kwargs)
            if mode is not None and mode != train:
                wrong["/".join(context.module.path)] = None
        return following(*args, **kwargs)

    def run(variables, x, key):
        with nn.intercept_methods(watch):
            return model.apply(
                variables,
                x,
                method=lambda module, x: run_parts(module, x, train=train),
                # As in a run: nothing may draw in evaluation.
                rngs={"dropout": key} if train else {},
                mutable=["batch_stats"],
            )

    out, stuck = None, []
    try:
        out, updated = jax.eval_shape(run, variables, x, key_of(0))
    except InvalidRngError:
        if not wrong:
            raise
        updated = {}
    if train:
        bound = model.bind(variables)
        stuck = [p for p in updated.get("batch_stats", {}) if not mode_of(getattr(bound, p), True)]
    if wrong or stuck:
        raise InputError(
            f"{', '.join(wrong or stuck)} of {name_of(model)} is in "
            f"{'evaluation' if train else 'training'} mode while the module is "
            f"{'trained' if train else 'evaluated'}"
            + ("" if wrong else ": it keeps statistics and takes no argument train"),
            "layers that the argument train of their part switches",
            "Write the part as __call__(self, x, train=False), and give "
            "use_running_average=not train to BatchNorm, deterministic=not train to dropout and "
            "attention, train to the Dropout of dcmu_jax; nn.Sequential passes none of them on",
        )
    return out


def _check_computed(model: nn.Module, name: str, image_shape: tuple[int, int, int]) -> None:
    """Raise where what a module computes is not what the library takes it for."""
    logits = _tried(
        f"{name} cannot run on images {image_shape}", lambda: logits_of(model, image_shape)
    )
    first = np.asarray(jax.tree.leaves(logits)[0], np.float64)
    if (first >= 0).all() and np.abs(first.sum(-1) - 1).max() < 1e-2:
        raise InputError(
            f"{name}, whose outputs are probabilities: none is below 0, and they sum to 1",
            "logits, which are not normalised: the losses do that",
            "Leave out the softmax at the end of the part 'final'",
        )
    if ends_in_relu_or_sigmoid(model, image_shape):
        raise InputError(
            f"{name}, whose outputs are never below 0, whatever its parameters are",
            "logits, which may be of any size and sign",
            "Leave out the sigmoid or ReLU at the end of the part 'final'",
        )
    still = still_statistics(model, image_shape)
    if still:
        raise InputError(
            f"{name}, whose statistics of {', '.join(still)} stay as they are while it is trained",
            "statistics that a step of training changes",
            "Change them where the argument train of their part is True (update_stats=train for "
            "SpectralNorm); numbers that shall never change belong into the code of the module",
        )
    dependent = differing_alone(model, image_shape)
    if dependent:
        raise InputError(
            f"{name}, whose {' and '.join(dependent)} for an image depend on the other images of "
            "the batch",
            "a module that gives the same for an image in every batch, in evaluation mode",
            "Take statistics over the axes of one image, or by BatchNorm, which keeps them",
        )
    try:
        alike = not has_call(model) or is_called_alike(model, image_shape)
    except Exception as error:
        raise InputError(
            f"The __call__ of {name} fails where the three parts in turn do not "
            f"({_in_a_line(error)})",
            "a __call__(self, x) that is final(intermediate(beginning(x))), or none",
            "Delete __call__: the library runs the parts by itself",
        ) from error
    if not alike:
        raise InputError(
            f"The __call__ of {name} computes something else than its three parts in turn",
            "final(intermediate(beginning(x))), which is all that the library runs",
            "Move what __call__ does besides into one of the parts",
        )


def _in_a_line(error: Exception) -> str:
    said = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
    return f"{type(error).__name__}: {said}"


def _check_outputs(name: str, out: Any, num_classes: int) -> None:
    shape = getattr(out, "shape", None)
    if shape != (2, num_classes) or not jnp.issubdtype(out.dtype, jnp.floating):
        given = f"{out.dtype} {shape}" if shape else kind_of(out)
        flat = shape is None or len(shape) < 3
        remedy = f"Let its last layer have {num_classes} outputs for each image"
        if isinstance(out, tuple | list | dict):
            remedy = "Return the logits alone"
        raise InputError(
            f"The part 'final' of {name} gives {given} for 2 images of {num_classes} classes",
            f"floating-point logits of shape (2, {num_classes}), one for each class",
            remedy
            if flat
            else "Flatten the images before the first dense layer: x.reshape(len(x), -1)",
        )


def check_variables(model: Any, variables: Any, image_shape: tuple[int, int, int]) -> None:
    """Raise unless variables are of the names, shapes and types that a module has on such images.

    Args:
        model: that ``check_module`` accepts.
        variables: parameters and statistics by part.
        image_shape: ``(height, width, channels)``.

    Raises:
        InputError: naming the first array that is missing, unknown, or of another shape or type.
    """
    shape = check_image_shape(image_shape)
    like = jax.eval_shape(lambda key: initialise(model, key, shape), key_of(0))
    wanted, given = _leaves(like), _leaves({kind: variables.get(kind, {}) for kind in like})
    name = name_of(model)
    for path in sorted(wanted.keys() - given.keys()) or sorted(given.keys() - wanted.keys()):
        lacks = path in wanted
        raise InputError(
            f"Variables {'without' if lacks else 'with'} {path}, which {name} "
            f"{'has' if lacks else 'has not'}",
            f"arrays named {', '.join(sorted(wanted)[:8])}{', ...' if len(wanted) > 8 else ''}",
            f"Add {path}, of shape {wanted[path].shape}" if lacks else f"Leave {path} out",
        )
    for path, found in given.items():
        if found.shape != wanted[path].shape:
            turned = len(found.shape) == 2 and found.shape[::-1] == wanted[path].shape
            raise InputError(
                f"{path} of shape {found.shape} for the module {name}",
                f"shape {wanted[path].shape}",
                "Transpose it: kernel.T, as PyTorch keeps (out, in)"
                if turned
                else "Bring the variables of a module with these settings, on images of this shape",
            )
    for path, found in given.items():
        if found.dtype != wanted[path].dtype:
            raise InputError(
                f"{path} of {found.dtype} for the module {name}",
                f"{wanted[path].dtype}, as the module makes it",
                f"Give np.asarray(array, {str(wanted[path].dtype)!r}) for each such array",
            )


def _leaves(tree: Any) -> dict[str, Any]:
    """Arrays, or what describes them, by path."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {
        "/".join(str(getattr(key, "key", key)) for key in path): leaf
        if hasattr(leaf, "dtype")
        else np.asarray(leaf)
        for path, leaf in leaves
    }

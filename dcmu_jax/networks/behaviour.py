"""What a module computes, as a few numbers: outputs on fixed parameters and a fixed input.

The settings of a module do not tell relu from tanh within it. Its outputs do, and they are the same
under every version of JAX and on every machine, up to rounding; the text of its program is not.
Rounding is why they are compared within a tolerance, and are no part of a hash.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import math
import re
from typing import Annotated, Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np
import pydantic

from dcmu_jax.networks.layers import Dropout
from dcmu_jax.networks.partition import (
    PARTS,
    apply_features,
    initialise,
    mode_of,
    run_parts,
    traced_init,
)
from dcmu_jax.networks.whole import Whole, runs_by_part
from dcmu_jax.prng import key_of

_ALWAYS = (PARTS[-1], "features", "coarse")
"""Names in every behaviour; ``training`` is another where a module does not draw by itself."""
_BY_PART = PARTS[:-1]
"""Others: both of them where the parts of a module can be run one by one, else neither."""


def _complete(found: dict[str, list[float]]) -> dict[str, list[float]]:
    """A behaviour out of a file; refused where it says too little to tell modules apart."""
    by_part = any(name in found for name in _BY_PART)
    named = (*(_BY_PART if by_part else ()), *_ALWAYS, *found)
    lacking = [name for name in dict.fromkeys(named) if not found.get(name)]
    if lacking:
        raise ValueError(f"it has no numbers of {', '.join(lacking)}")
    return found


Behaviour = Annotated[dict[str, list[float]], pydantic.AfterValidator(_complete)]
"""Name of an output -> its size (root mean square), then some of its numbers.

Under ``coarse`` stands 1.0 where a module computes in 16 bits, else 0.0."""

BEHAVIOUR = pydantic.TypeAdapter(Behaviour | None)
"""What reads it from a file."""

_IMAGES = 4
_DRAWS = 24
"""Of parameters, to see whether outputs are ever below 0."""

_KEPT = 16
"""Numbers of an output that are kept, at most."""

_TOLERANCE, _COARSE = 1e-3, 5e-2
"""Of the size of an output; the latter where a module computes in 16 bits."""


def model_text(model: Any) -> str:
    """The settings of a module as text, the same in every process: functions lose their address."""
    return without_addresses(repr(model))


def without_addresses(text: str) -> str:
    """Text of ``repr`` without the addresses of objects, which are of one process."""
    return re.sub(r" at 0x[0-9a-f]+", "", text)


def is_ours(model: Any) -> bool:
    """Whether a module is of this package, whose networks are known by their settings."""
    return type(model).__module__.startswith("dcmu_jax.") and not isinstance(model, Whole)


def fixed_numbers(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Numbers in [-1, 1] that depend on a name alone: on no generator, which may change."""
    raw = hashlib.shake_128(name.encode()).digest(math.prod(shape))
    return (np.frombuffer(raw, np.uint8).astype(np.float32) / 127.5 - 1).reshape(shape)


def fixed_variables(model: nn.Module | Any, image_shape: tuple[int, int, int]) -> Any:
    """Parameters and statistics of a module that are always the same, of about usual size."""
    like = jax.eval_shape(lambda key: initialise(model, key, image_shape), key_of(0))

    def numbers(path: Any, leaf: Any) -> np.ndarray:
        drawn = _around_zero(jax.tree_util.keystr(path), leaf)
        # A scale or a variance is above 0.
        return np.asarray(drawn if leaf.ndim > 1 else 1 + drawn / 2, leaf.dtype)

    return jax.tree_util.tree_map_with_path(numbers, like)


def _around_zero(name: str, leaf: Any) -> np.ndarray:
    """Numbers for a parameter by its name, which keep the size of a kernel's inputs."""
    drawn = fixed_numbers(name, leaf.shape)
    return drawn * math.sqrt(6 / max(1, math.prod(leaf.shape[:-1]))) if leaf.ndim > 1 else drawn


def fixed_images(image_shape: tuple[int, int, int]) -> np.ndarray:
    """A few inputs of a network, of mean 0 and variance 1."""
    return fixed_numbers("images", (_IMAGES, *image_shape)) * np.float32(math.sqrt(3))


@contextlib.contextmanager
def exactly():
    """On the CPU where there is one, in full float32: so that machines agree."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(RuntimeError):
            stack.enter_context(jax.default_device(jax.local_devices(backend="cpu")[0]))
        stack.enter_context(jax.default_matmul_precision("highest"))
        stack.enter_context(jax.ensure_compile_time_eval())
        yield


def _without_draws(following: Any, args: Any, kwargs: Any, context: Any) -> Any:
    """Dropout as a factor that tells its rate: its draws are of a version of JAX."""
    if isinstance(context.module, nn.Dropout | Dropout) and context.method_name == "__call__":
        return next(iter((*args, *kwargs.values()))) * (1 + context.module.rate)
    return following(*args, **kwargs)


def _outputs(model: Any, variables: Any, x: Any, key: Any) -> dict[str, Any]:
    """Of each part, of ``features``, and of the whole in training, with the statistics after it."""
    found, h = {}, x
    for part in PARTS if runs_by_part(model) else ():
        h = model.apply(
            variables, h, method=lambda module, h, part=part: run_parts(module, h, (part,))
        )
        found[part] = h
    if not runs_by_part(model):
        found[PARTS[-1]] = model.apply(variables, x, method=run_parts)
    found["features"] = apply_features(model, variables, x)
    with nn.intercept_methods(_without_draws):
        found["training"] = model.apply(
            variables,
            x,
            method=lambda module, x: run_parts(module, x, train=True),
            rngs={"dropout": key},
            mutable=["batch_stats"],
        )
    return found


class _Computed(NamedTuple):
    """What a module computes for the fixed images.

    Attributes:
        outputs: by name.
        coarse: whether in 16 bits.
        still: layers whose statistics a step of training leaves as they are.
    """

    outputs: dict[str, Any]
    coarse: bool
    still: tuple[str, ...]


@functools.lru_cache(maxsize=256)
def _computed(model: nn.Module, image_shape: tuple[int, int, int]) -> _Computed:
    variables, x = fixed_variables(model, image_shape), fixed_images(image_shape)
    run = functools.partial(_outputs, model)
    with exactly():
        program = jax.jit(run)
        one, other = (jax.device_get(program(variables, x, key_of(seed))) for seed in (0, 1))
        coarse = re.search(r"\bb?f16\[", str(jax.make_jaxpr(run)(variables, x, key_of(0))))
    still = _still(variables["batch_stats"], one["training"][1].get("batch_stats", {}))
    pairs = zip(jax.tree.leaves(one["training"]), jax.tree.leaves(other["training"]), strict=True)
    if not all(np.array_equal(a, b, equal_nan=True) for a, b in pairs):
        del one["training"]  # it draws by itself
    return _Computed(one, bool(coarse), still)


def _still(before: Any, after: Any) -> tuple[str, ...]:
    """Layers of whose statistics none is another after a step."""
    found = dict(jax.tree_util.tree_flatten_with_path(after)[0])
    moved: dict[str, bool] = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(before)[0]:
        layer = "/".join(str(getattr(key, "key", key)) for key in path[:-1])
        same = path not in found or np.array_equal(leaf, found[path], equal_nan=True)
        moved[layer] = moved.get(layer, False) or not same
    return tuple(layer for layer, has in moved.items() if not has)


def still_statistics(model: Any, image_shape: tuple[int, int, int]) -> tuple[str, ...]:
    """Layers whose statistics a step of training leaves as they are, however it is called."""
    return _computed(model, image_shape).still


def logits_of(model: Any, image_shape: tuple[int, int, int]) -> Any:
    """What ``final`` gives for the fixed images."""
    return _computed(model, image_shape).outputs["final"]


def _of_one(model: Any) -> Any:
    """Logits and features in evaluation mode, as a compiled function of variables and an image."""

    @jax.jit
    def run(variables: Any, x: Any) -> dict[str, Any]:
        logits = model.apply(variables, x, method=lambda module, x: run_parts(module, x))
        return {"outputs": logits, "features": apply_features(model, variables, x)}

    return run


def differing_alone(model: Any, image_shape: tuple[int, int, int]) -> list[str]:
    """Which of outputs and features of an image are not the same when it comes by itself."""
    variables, x = fixed_variables(model, image_shape), fixed_images(image_shape)
    found, coarse, _ = _computed(model, image_shape)
    together = {"outputs": found["final"], "features": found["features"]}
    with exactly():
        run = _of_one(model)
        alone = [jax.device_get(run(variables, x[at : at + 1])) for at in range(len(x))]
    joined = jax.tree.map(lambda *rows: np.concatenate(rows), *alone)
    tolerance = _COARSE if coarse else _TOLERANCE
    return [
        name for name, one in together.items() if not same_outputs(one, joined[name], tolerance)
    ]


def ends_in_relu_or_sigmoid(model: Any, image_shape: tuple[int, int, int]) -> bool:
    """Whether no output is below 0 for any of several parameters, and they are of such a kind.

    Parameters are drawn around 0, so that outputs of a linear layer are below 0 as often as not.
    Outputs of a sigmoid are all below 1 too, and those of a ReLU are 0 again and again.
    """
    variables, x = fixed_variables(model, image_shape), fixed_images(image_shape)[:1]
    seen = []
    with exactly():
        run = _of_one(model)
        for draw in range(_DRAWS):
            params = jax.tree_util.tree_map_with_path(
                lambda path, leaf, draw=draw: _around_zero(
                    f"{draw} {jax.tree_util.keystr(path)}", leaf
                ).astype(leaf.dtype),
                variables["params"],
            )
            logits = jax.tree.leaves(run({**variables, "params": params}, x)["outputs"])[0]
            seen.append(np.asarray(logits, np.float64))
            if not (seen[-1] >= 0).all():  # the first of them, as a rule
                return False
    flat = np.concatenate(seen, axis=None)
    relu = bool((flat == 0).any() and (flat > 0).any())
    return relu or bool(flat.max() <= 1)


def has_call(model: Any) -> bool:
    """Whether a module can be called, which this library never does."""
    return any("__call__" in vars(kind) for kind in type(model).__mro__)


def is_called_alike(model: Any, image_shape: tuple[int, int, int]) -> bool:
    """Whether the module's own ``__call__`` gives the same for them as its parts in turn."""
    variables, x = fixed_variables(model, image_shape), fixed_images(image_shape)
    flags = mode_of(model, False)
    with exactly():
        whole = jax.device_get(jax.jit(lambda v, x: model.apply(v, x, **flags))(variables, x))
    outputs, coarse, _ = _computed(model, image_shape)
    return same_outputs(outputs["final"], whole, _COARSE if coarse else _TOLERANCE)


def _some(tree: Any) -> list[float]:
    leaves = [np.asarray(leaf, np.float64).ravel() for leaf in jax.tree.leaves(tree)]
    flat = np.nan_to_num(np.concatenate([*leaves, np.zeros(0)]), posinf=1e30, neginf=-1e30)
    if not len(flat):
        return [0.0]
    at = np.linspace(0, len(flat) - 1, min(_KEPT, len(flat))).astype(int)
    return [float(np.sqrt(np.mean(flat**2))), *flat[at].tolist()]


def behaviour_of(model: nn.Module | Any, image_shape: tuple[int, int, int]) -> Behaviour | None:
    """What tells a module from others of the same settings; None for a module of this package.

    Computed once for a module and a shape.

    Args:
        model: that ``check_module`` accepts.
        image_shape: ``(height, width, channels)``.
    """
    if is_ours(model):
        return None
    outputs, coarse, _ = _computed(model, tuple(image_shape))
    return {name: _some(tree) for name, tree in outputs.items()} | {"coarse": [float(coarse)]}


def initial_of(
    model: nn.Module | Any, image_shape: tuple[int, int, int]
) -> dict[str, list[float]] | None:
    """Of each fresh parameter by a fixed key its size (root mean square), then its first number.

    What a module computes says nothing of how it starts. None for a module of this package, and
    for one that draws without the key.

    Args:
        model: that ``check_module`` accepts.
        image_shape: ``(height, width, channels)``.
    """
    if is_ours(model):
        return None
    one, other = (traced_init(model, image_shape) for _ in range(2))
    texts = [without_addresses(str(program)) for program in (one, other)]
    consts = zip(one.consts, other.consts, strict=False)
    if texts[0] != texts[1] or not all(np.array_equal(a, b, equal_nan=True) for a, b in consts):
        return None
    fresh = jax.device_get(initialise(model, key_of(0), image_shape))
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): _some(leaf)[:2]
        for path, leaf in jax.tree_util.tree_flatten_with_path(fresh)[0]
    }


def differing_initial(
    one: dict[str, list[float]] | None, other: dict[str, list[float]] | None
) -> list[str]:
    """Names of parameters that two modules start otherwise; none where one is not known."""
    if one is None or other is None:
        return []
    return [
        name
        for name in {**one, **other}
        if not same_outputs(
            np.asarray(one.get(name, [])), np.asarray(other.get(name, [])), _TOLERANCE
        )
    ]


def same_outputs(one: Any, other: Any, tolerance: float) -> bool:
    """Whether two trees of outputs are of one shape and the same up to rounding."""
    ones, others = jax.tree.leaves(one), jax.tree.leaves(other)
    if [np.shape(x) for x in ones] != [np.shape(x) for x in others]:
        return False
    for a, b in zip(ones, others, strict=True):
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        size = float(np.sqrt(np.mean(a**2))) if a.size else 0.0
        if not np.allclose(a, b, rtol=0, atol=tolerance * max(size, 1e-6), equal_nan=True):
            return False
    return True


def differing(one: Behaviour | None, other: Behaviour | None) -> list[str]:
    """Names of outputs in which two modules differ; none where one of them is not known."""
    if one is None or other is None:
        return []
    coarse = any(found["coarse"][0] for found in (one, other))
    tolerance = _COARSE if coarse else _TOLERANCE
    return [
        name
        for name in {**one, **other}
        if name != "coarse"
        and (
            name not in one
            or name not in other
            or not same_outputs(np.asarray(one[name]), np.asarray(other[name]), tolerance)
        )
    ]

"""Modules of ``flax.nnx`` as the library takes them; ``whole`` makes three parts of them."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from flax import nnx

from dcmu_jax.errors import InputError
from dcmu_jax.networks.partition import mode_of
from dcmu_jax.networks.patterns import Patterns
from dcmu_jax.networks.whole import Note, Switch, Whole, in_parts

_FLAGS = {"use_running_average": False, "deterministic": False}
"""Attribute that switches a layer -> its value in training."""
_PATCHING = threading.RLock()


def is_nnx(module: Any) -> bool:
    """Whether a module is of ``flax.nnx``."""
    return isinstance(module, nnx.Module)


@dataclasses.dataclass(frozen=True)
class NnxInner:
    """A module of NNX, made by ``make(rngs)`` wherever it runs; hashable as ``make`` is."""

    make: Callable[[nnx.Rngs], nnx.Module]
    name: str

    def fresh(self, key: Any, x: Any) -> dict[str, Any]:
        """See ``Inner``."""
        del x
        return variables_of(self.make(nnx.Rngs(key)))

    def _loaded(self, variables: Mapping[str, Any], dropout_key: Any = None) -> nnx.Module:
        module = self.make(nnx.Rngs(0) if dropout_key is None else nnx.Rngs(dropout_key))
        _put(module, variables)
        return module

    def run(
        self, variables: Mapping[str, Any], x: Any, switch: Switch, dropout_key: Any
    ) -> tuple[Any, Any]:
        """See ``Inner``."""
        module: Any = self._loaded(variables, dropout_key)
        for path, layer in _modules(module):
            trains = switch.trains(tuple(path.split("/")) if path else ())
            for flag, in_training in _FLAGS.items():
                if hasattr(layer, flag):
                    setattr(layer, flag, in_training if trains else not in_training)
        outputs = module(x, **mode_of(module, switch.mode))
        return outputs, variables_of(module)["batch_stats"] if switch.training else {}

    def watched(self, variables: Mapping[str, Any], x: Any, note: Note) -> None:
        """See ``Inner``."""
        module: Any = self._loaded(variables)
        module.eval()
        with _noted(module, note):
            module(x, **mode_of(module, False))


def _modules(module: nnx.Module) -> list[tuple[str, Any]]:
    return [("/".join(map(str, path)), layer) for path, layer in nnx.iter_modules(module)]


@contextlib.contextmanager
def _noted(module: nnx.Module, note: Note) -> Iterator[None]:
    """Have ``note`` told of the layers of a module: NNX has no way to look at calls."""
    paths = {id(layer): path for path, layer in _modules(module) if path}
    kinds = {type(layer) for _, layer in _modules(module) if id(layer) in paths}
    with _PATCHING, contextlib.ExitStack() as stack:
        for kind in kinds:
            original = kind.__call__

            def call(self, x, *args, original=original, **kwargs):
                outputs = original(self, x, *args, **kwargs)
                if id(self) in paths:
                    note(paths[id(self)], x, outputs)
                return outputs

            kind.__call__ = call  # type: ignore[method-assign]
            stack.callback(setattr, kind, "__call__", original)
        yield


def _texts(tree: Any) -> Any:
    """Keys as text: those of lists are numbers."""
    return {str(k): _texts(v) for k, v in tree.items()} if isinstance(tree, dict) else tree


def variables_of(module: nnx.Module) -> dict[str, Any]:
    """Parameters and BatchNorm statistics of a module, as nested dictionaries.

    Raises:
        InputError: variables of other kinds, which cannot be kept.
    """
    _, params, stats, _, others = nnx.split(module, nnx.Param, nnx.BatchStat, nnx.RngState, ...)
    left = nnx.to_pure_dict(others)
    if left:
        raise InputError(
            f"Variables of {type(module).__name__} of other kinds, in {', '.join(map(str, left))}",
            "nnx.Param and nnx.BatchStat",
            "Make them one of these, or constants of the module",
        )
    return {
        "params": _texts(nnx.to_pure_dict(params)),
        "batch_stats": _texts(nnx.to_pure_dict(stats)),
    }


def load(module: nnx.Module | Any, variables: Any) -> None:
    """Put variables, as ``variables_of`` gives them, into a module: all of them.

    Args:
        module: which is changed.
        variables: of such a module.

    Raises:
        InputError: no module; variables that it lacks, or has of another shape, or that are
            missing. It is not changed then.
    """
    if not is_nnx(module):
        raise InputError(
            f"A {type(module).__name__} to load variables into", "an nnx module", "Make one first"
        )
    wanted, given = _shapes(variables_of(module)), _shapes(variables)
    for path in sorted(wanted.keys() ^ given.keys()) or [
        path for path in sorted(wanted) if wanted[path] != given[path]
    ]:
        raise InputError(
            f"Variables with {path} of {given.get(path, 'no')} shape for a "
            f"{type(module).__name__} that has it of {wanted.get(path, 'no')} shape",
            "what variables_of gives for such a module: params and batch_stats, all of them",
            "Give dcmu.variables_of(network), whole",
        )
    _put(module, variables)


def _put(module: nnx.Module, variables: Mapping[str, Any]) -> None:
    for kind, name in ((nnx.Param, "params"), (nnx.BatchStat, "batch_stats")):
        state = nnx.state(module, kind)
        nnx.replace_by_pure_dict(state, nnx.restore_int_paths(dict(variables.get(name, {}))))
        nnx.update(module, state)


def adopted(
    module: nnx.Module,
    make: Callable[[nnx.Rngs], nnx.Module] | None,
    parts: Patterns | Any,
    layer: str | None = None,
) -> tuple[Whole, dict[str, Any]]:
    """A user's module of NNX as the library takes it.

    Args:
        module: gives the variables.
        make: makes such a module from ``nnx.Rngs``; a function at the top of a module, or a class.
        parts: see ``patterns.labels_of``.
        layer: see ``Whole``.

    Raises:
        InputError: no ``make``, or one that makes another module; variables of other kinds; see
            ``labels_of``.
    """
    name = type(module).__name__
    if not callable(make):
        raise InputError(
            f"The NNX module {name} without make",
            "make, a function of nnx.Rngs that gives a fresh module of this kind",
            f"Give make={name}, or make=lambda rngs: {name}(..., rngs=rngs)",
        )
    try:
        fresh = make(nnx.Rngs(0))
        same = _shapes(variables_of(fresh)) == _shapes(variables_of(module))
    except InputError:
        raise
    except Exception as error:  # whatever a user's function may raise
        said = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise InputError(
            f"make of the NNX module {name} fails ({type(error).__name__}: {said})",
            "a function of nnx.Rngs that gives a fresh module of this kind",
            f"Write def make(rngs): return {name}(..., rngs=rngs)",
        ) from error
    if not same:
        raise InputError(
            f"make of the NNX module {name}, which makes another network",
            "a module with the same variables",
            "Give it the same sizes",
        )
    return in_parts(NnxInner(make, name), variables_of(module), parts, layer)


def _shapes(variables: Any) -> dict[str, tuple[int, ...]]:
    """Path of each parameter and statistic -> its shape."""
    leaves = jax.tree_util.tree_flatten_with_path(variables)[0]
    return {jax.tree_util.keystr(path): tuple(np.shape(leaf)) for path, leaf in leaves}

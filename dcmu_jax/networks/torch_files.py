"""Weights of PyTorch as they come: files, of which no code is ever run, and mappings."""

from __future__ import annotations

import importlib
import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import jax
import numpy as np
import safetensors

from dcmu_jax.errors import InputError, kind_of
from dcmu_jax.reading import opened, refused

Weights = dict[str, np.ndarray]

_WRAPPERS = ("state_dict", "model_state_dict", "model", "net")
"""Keys under which checkpoints keep the weights beside other things."""
_PREFIXES = ("module.", "_orig_mod.")
"""Of the names of layers in what DataParallel and torch.compile wrapped."""
_SAFETENSORS = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "U8": "u1"}
_SAFETENSORS |= {"I16": "<i2", "I8": "i1", "BOOL": "?", "BF16": "<u2"}


def _read_safetensors(
    path: str | os.PathLike[str], what: str, remedy: str
) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file, by name; bfloat16 as float32.

    Args:
        path: of the file.
        what: it is meant to hold, with an article, for messages.
        remedy: what to do if it does not.

    Raises:
        InputError: no such file; arrays of a type that NumPy has not.
    """
    with refused(path, what, remedy), opened(path) as file:
        found: Weights = {}
        for name, tensor in cast(Any, safetensors.deserialize(file.read())):
            kind = str(tensor["dtype"])
            if kind not in _SAFETENSORS:
                raise ValueError(f"{name[:80]} is of {kind}, not {', '.join(_SAFETENSORS)}")
            array = np.frombuffer(tensor["data"], _SAFETENSORS[kind]).reshape(tensor["shape"])
            if kind == "BF16":  # the upper half of a float32
                array = (array.astype("<u4") << 16).view("<f4")
            found[name] = array
        return found


def _read_torch(path: str | os.PathLike[str], what: str, remedy: str) -> Any:
    """What ``torch.save`` wrote, where it is tensors and plain values: no code in it is run.

    Args:
        path: see ``_read_safetensors``.
        what: likewise.
        remedy: likewise.

    Raises:
        InputError: PyTorch is not installed, or older than 2.10; no such file; one that holds
            anything else.
    """
    try:
        torch = importlib.import_module("torch")
    except ImportError as error:
        raise InputError(
            f"{str(path)!r}, which PyTorch alone can read and which is not installed",
            "a safetensors file, which needs no PyTorch",
            "Write one where PyTorch is, safetensors.torch.save_file(network.state_dict(), "
            "'weights.safetensors'), or install it here: pip install 'dcmu_jax[bench]'",
        ) from error
    if tuple(int(part) for part in torch.__version__.split(".")[:2]) < (2, 10):
        raise InputError(
            f"{str(path)!r} and PyTorch {torch.__version__}, whose reader such a file may abuse",
            "a safetensors file, or PyTorch 2.10 or later",
            "Write one where PyTorch is, safetensors.torch.save_file(network.state_dict(), "
            "'weights.safetensors'), or install a later one: pip install 'torch>=2.10'",
        )
    with refused(path, what, remedy), opened(path) as file:
        try:
            return torch.load(file, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            if "global" not in str(error).lower():
                raise ValueError("it is not what torch.save writes") from error
            raise ValueError(
                "it holds objects besides tensors, such as a whole module, which are not loaded"
            ) from error


_READERS = {
    ".safetensors": _read_safetensors,
    **dict.fromkeys((".pt", ".pth", ".bin", ".ckpt", ".tar"), _read_torch),
}


def read_weights(path: str | os.PathLike[str]) -> Any:
    """What a file of weights holds, by the reader that its ending names.

    Raises:
        InputError: another ending; see the readers.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in _READERS:
        raise InputError(
            f"Weights in {str(path)!r}",
            f"a file that ends in {', '.join(_READERS)}",
            "Give it the ending of what it is",
        )
    remedy = "Write it again with safetensors.torch.save_file(network.state_dict(), path)"
    return _READERS[suffix](path, "a file of weights", remedy)


def arrays_of(weights: Any) -> Weights:
    """Weights in NumPy, float32, without what wraps them and what only counts.

    Args:
        weights: a mapping of names to arrays or tensors, or what holds one.

    Raises:
        InputError: anything else; what is no array of finite numbers.
    """
    if not isinstance(weights, Mapping):
        raise InputError(
            f"Weights given as {kind_of(weights)}",
            "a file, or a mapping of names to arrays",
            "Give network.state_dict()"
            if hasattr(weights, "state_dict")
            else "Give the path of a safetensors file, or what state_dict() returns",
        )
    weights = unwrapped(weights)
    while prefix := next((p for p in _PREFIXES if _all_begin(weights, p)), ""):
        weights = {str(key).removeprefix(prefix): value for key, value in weights.items()}
    arrays = {
        str(key): _array(str(key), value)
        for key, value in weights.items()
        if not str(key).endswith("num_batches_tracked")
    }
    for key, array in arrays.items():
        if not array.size or not np.isfinite(array).all():
            raise InputError(
                f"The weights {key!r}, of shape {array.shape}, which are none or not all finite",
                "finite numbers, one or more",
                "Bring weights of a training that did not diverge",
            )
    return arrays


def unwrapped(weights: Mapping[str, Any]) -> Mapping[str, Any]:
    """Weights without the checkpoint that keeps them beside other things."""
    for wrapper in _WRAPPERS:
        if isinstance(weights.get(wrapper), Mapping):
            return unwrapped(weights[wrapper])
    return weights


def _all_begin(weights: Mapping[str, Any], prefix: str) -> bool:
    return bool(weights) and all(str(key).startswith(prefix) for key in weights)


def _array(key: str, value: Any) -> np.ndarray:
    try:
        if hasattr(value, "is_floating_point") and value.is_floating_point():
            value = value.detach().cpu().float().numpy()  # NumPy knows no bfloat16
        if not jax.numpy.issubdtype(np.asarray(value).dtype, jax.numpy.floating):
            raise TypeError("of another type than a floating-point one")
        with np.errstate(over="ignore"):  # infinite then, which is refused
            return np.asarray(value).astype(np.float32)
    except Exception as error:  # whatever a tensor may raise that holds no numbers
        raise InputError(
            f"The weights {key!r} given as {kind_of(value)}",
            "arrays or tensors of floating-point numbers",
            "Give the state_dict() of the network alone, without what else a checkpoint holds",
        ) from error

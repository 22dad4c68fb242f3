"""Common mistakes in the settings of a run, answered with what to type instead."""

from __future__ import annotations

import contextlib
import numbers
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import Any

import flax.linen as nn
import numpy as np

from dcmu_jax.data.dataset import Dataset, Splits
from dcmu_jax.data.requests import texts_meant
from dcmu_jax.errors import InputError, kind_of
from dcmu_jax.runs.options import MethodOptions
from dcmu_jax.runs.presets import PRESETS

_FUNCTIONS = (
    'Give functions to dcmu_jax.compare(run, request, metrics={"name": function}), '
    "or name them: 'file.py:attribute'"
)
_SHOWN = 12
"""The most ids that a message lists."""


def check_meant(config: Any) -> None:
    """Raise where an object was given for a setting that takes its name.

    Args:
        config: a ``RunConfig`` whose fields are not checked yet.

    Raises:
        InputError: with what to give in its place.
    """
    _check_dataset(config.dataset)
    _check_model(config.model)
    _check_forget(config.forget)
    if isinstance(config.method, str):
        raise InputError(
            f"method = {config.method!r}",
            "a MethodOptions, which has all settings of a preset",
            f"Give preset={config.method!r}, or method=dcmu_jax.preset(NAME, {config.model!r})",
        )
    if not isinstance(config.preset, str):
        options = isinstance(config.preset, MethodOptions)
        raise InputError(
            "preset given as a MethodOptions" if options else f"preset = {config.preset!r}",
            f"the name of a preset: {', '.join(PRESETS)}",
            "Give it as method" if options else f"Give {next(iter(PRESETS))!r}, or leave it out",
        )
    _check_baselines(config.baselines)
    _check_metrics(config.metrics)


def _check_metrics(given: Any) -> None:
    if isinstance(given, Mapping) or callable(given):
        raise InputError(
            f"metrics given as {kind_of(given)}",
            "names such as 'file.py:attribute', which config.json can hold",
            _FUNCTIONS,
        )
    if isinstance(given, Sequence) and not all(isinstance(one, str) for one in given):
        wrong = next(one for one in given if not isinstance(one, str))
        raise InputError(
            f"metrics holding {kind_of(wrong)}",
            "names such as 'file.py:attribute', which config.json can hold",
            _FUNCTIONS,
        )


def _check_baselines(given: Any) -> None:
    allowed = "a tuple of names"
    if given is None:
        raise InputError("baselines = None", allowed, "Give () for none")
    if isinstance(given, Mapping):
        names = tuple(given)
        raise InputError(
            "baselines given as a dictionary",
            f"{allowed}; settings of baselines are given separately",
            f"Give baselines={names!r}, settings={dict(given)!r}",
        )
    if isinstance(given, Set | Iterator):  # in no order, or gone when it was looked at
        names = tuple(sorted(map(str, given)))
        raise InputError(f"baselines given as {kind_of(given)}", allowed, f"Give {names!r}")
    wrong = [one for one in (given if isinstance(given, Sequence) else [given]) if callable(one)]
    if wrong:
        name = getattr(wrong[0], "__name__", type(wrong[0]).__name__)
        raise InputError(
            f"baselines holding {kind_of(wrong[0])}, {name}",
            "names, which config.json can hold: 'file.py:attribute', or one by register_method",
            f"Call dcmu.register_method('mine', {name}) and give 'mine', or 'file.py:{name}'",
        )


def _check_dataset(given: Any) -> None:
    if isinstance(given, os.PathLike):
        path = os.fspath(given)
        raise InputError(
            f"dataset given as the path {path!r}",
            "a text: the name of a source",
            f"Give {('npz:' if str(path).endswith('.npz') else 'npy:') + str(path)!r}",
        )
    if isinstance(given, Splits | Dataset | np.ndarray | tuple | list):
        raise InputError(
            f"dataset given as {kind_of(given)}",
            "a text: the name of a source, or any name for arrays",
            "Give a name, and the arrays as Run.create(..., splits=splits_from_arrays(x, y))",
        )


def _check_model(given: Any) -> None:
    kind = given if isinstance(given, type) else type(given)
    if issubclass(kind, nn.Module):
        raise InputError(
            f"model given as the module {kind.__name__}",
            "a text: the name of a model, or any name for a module",
            "Give a name, and the module as Run.create(..., model=module)",
        )


def _check_forget(given: Any) -> None:
    if isinstance(given, str) or given is None:
        return
    plain = isinstance(given, numbers.Real | bytes | bytearray | os.PathLike)
    texts = texts_meant(given) or ([] if plain else _listed(given))
    if texts:
        remedy = f"Give {' or '.join(map(repr, texts))}"
    elif isinstance(given, Iterable) and not plain:
        remedy = "Write the ids to a file and give 'ids:FILE'; Run.request takes arrays and masks"
    else:
        remedy = "Say in such a text what to forget"
    raise InputError(
        f"forget = {given!r}" if plain else f"forget given as {kind_of(given)}",
        "a text such as 'random:0.1', 'class:2' or 'ids:3,17'",
        remedy,
    )


def _listed(given: Any) -> list[str]:
    """A few different ids as one text; none for anything else."""
    values = np.empty(0)
    with contextlib.suppress(ValueError, TypeError, OverflowError):  # what is ragged, say
        values = np.asarray(given if hasattr(given, "dtype") else list(given))
    few = values.dtype.kind in "iu" and values.ndim == 1 and 0 < len(values) <= _SHOWN
    ids = values.tolist() if few and not isinstance(given, Mapping) else []
    good = len(set(ids)) == len(ids) and all(0 <= each < 10**18 for each in ids)
    return [f"ids:{','.join(map(str, ids))}"] if ids and good else []


def check_splits(given: Any) -> None:
    """Raise unless ``given`` is the data of a run.

    Raises:
        InputError: arrays, one set alone, or anything else.
    """
    if given is None or isinstance(given, Splits):
        return
    arrays = isinstance(given, tuple | list) and len(given) in (2, 4)
    raise InputError(
        f"splits given as {kind_of(given)}",
        "a Splits: a training and a test set",
        f"Give dcmu_jax.splits_from_arrays({'*splits' if arrays else 'x_train, y_train'})",
    )


def as_path(given: Any) -> Path:
    """The directory of a run as a path.

    Raises:
        InputError: anything but a text or a path.
    """
    try:
        return Path(given)
    except TypeError as error:
        raise InputError(
            f"The run directory given as {given!r}", "a text or a path", "Give 'runs/first', say"
        ) from error

"""The user's own metrics, besides those of the table: by object, by name, or by entry point."""

from __future__ import annotations

import importlib.metadata
import inspect
import math
import numbers
import traceback
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import numpy as np

from dcmu_jax.data.dataset import Dataset
from dcmu_jax.errors import InputError
from dcmu_jax.extensions import entry_point, is_reference, load_reference, said_of
from dcmu_jax.training.classifier import Classifier

GROUP = "dcmu_jax.metrics"
"""Entry points of this group, of any installed package, are metrics by their names."""

_SHAPE = "def metric(network, *, retain, forget, test): ..."
_REMEDY = f"Write {_SHAPE}, which returns a number; **rest may stand for sets it does not need"


def own_metrics(given: Any) -> dict[str, Any]:
    """Metrics of one's own by name, checked as far as can be without calling them.

    A metric is called with a network and three data sets, ``metric(network, retain=..., forget=...,
    test=...)``, and returns a finite number. ``test`` is without remembrance samples. One that
    draws at random makes its own key: it should give the same number again.

    Args:
        given: name -> callable; or a name or several: ``file.py:attribute``,
            ``package.module:attribute``, or that of an entry point of the group
            ``dcmu_jax.metrics``; or nothing.

    Raises:
        InputError: anything else; a name of nothing; a callable with other arguments.

    >>> list(own_metrics({"size": lambda network, **sets: float(len(sets["forget"]))}))
    ['size']
    """
    if given is None:
        return {}
    if isinstance(given, str):
        given = (given,)
    if not isinstance(given, Mapping):
        if not isinstance(given, Iterable) or not all(isinstance(name, str) for name in given):
            raise InputError(
                f"Metrics given as a {type(given).__name__}",
                "a dictionary of names and callables, or names such as 'file.py:attribute'",
                'Give {"name": function}',
            )
        given = {name: _named(name) for name in given}
    for name, metric in given.items():
        if not (isinstance(name, str) and name.strip() and name.isprintable()):
            raise InputError(
                f"The name {name!r} of a metric", "a printable text", "Give it another name"
            )
        _check_callable(name, metric)
    return dict(given)


def _named(name: str) -> Any:
    if is_reference(name):
        return load_reference(name, "metric")
    found = entry_point(GROUP, name)
    if found is None:
        known = sorted(entry.name for entry in importlib.metadata.entry_points(group=GROUP))
        also = f", or a name that a package gives ({', '.join(known)})" if known else ""
        raise InputError(
            f"Unknown metric {name!r}",
            f"file.py:attribute or package.module:attribute{also}",
            f"Name the function in it: {name}:FUNCTION"
            if name.endswith(".py")
            else "Say where the function is, as in mine.py:metric",
        )
    return found


def _check_callable(name: str, metric: Any) -> None:
    """Raise unless a metric can be called with a network and three data sets."""
    if not callable(metric) or inspect.isclass(metric):
        kind = "class" if inspect.isclass(metric) else type(metric).__name__
        raise InputError(
            f"The metric {name!r}, which is a {kind}",
            "a function, or an instance that can be called",
            _REMEDY,
        )
    try:
        inspect.signature(metric).bind(None, retain=None, forget=None, test=None)
    except TypeError as error:
        raise InputError(
            f"The metric {name!r} cannot be called with a network, retain, forget and test "
            f"({error})",
            "(network, *, retain, forget, test)",
            _REMEDY,
        ) from error
    except ValueError:  # a builtin that does not say what it takes
        pass


def measured_by(
    metrics: Mapping[str, Any],
    network: Classifier,
    *,
    retain: Dataset,
    forget: Dataset,
    test: Dataset,
) -> dict[str, float]:
    """What metrics of one's own say of a network; see ``own_metrics``.

    Args:
        metrics: as ``own_metrics`` gives them.
        network: any.

    Other Args:
        retain: the retain set.
        forget: the forget set.
        test: test samples that no network was trained on.

    Raises:
        InputError: a metric raised, or returned anything but a finite number.
    """
    found = {}
    for name, metric in metrics.items():
        try:
            value = metric(network, retain=retain, forget=forget, test=test)
        except MemoryError:  # of the machine, and told of as such
            raise
        except (Exception, SystemExit) as error:  # whatever a user's function may raise
            last = traceback.extract_tb(error.__traceback__)[-1]
            raise InputError(
                f"The metric {name!r} fails ({said_of(error)}, {last.filename}, line "
                f"{last.lineno})",
                "a function that returns a number for every network",
                "Mend it, and run the same command again: what was trained is found",
            ) from error
        found[name] = _number(name, value)
    return found


def _number(name: str, value: Any) -> float:
    """What a metric returned, as a number of Python."""
    single = isinstance(value, np.ndarray | np.generic | jax.Array) and value.ndim == 0
    plain = value.item() if single else value
    if isinstance(plain, bool) or not isinstance(plain, numbers.Real):
        shape = f" of shape {value.shape}" if hasattr(value, "shape") else ""
        raise InputError(
            f"The metric {name!r} returned a {type(plain).__name__}{shape}",
            "one number",
            "Return a float, such as float(values.mean())",
        )
    if not math.isfinite(plain):
        raise InputError(
            f"The metric {name!r} returned {float(plain)}",
            "a finite number",
            "Look for a division by 0 or a logarithm of 0 in it, or return the number that such a "
            "case shall count as",
        )
    return float(plain)

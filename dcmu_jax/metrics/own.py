"""The user's own metrics, besides those of the table: by object, by name, or by entry point."""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import numpy as np

from dcmu_jax.data.dataset import Dataset, lent
from dcmu_jax.errors import InputError, as_names, kind_of
from dcmu_jax.extensions import calling, check_takes, named_object
from dcmu_jax.training.classifier import Classifier

GROUP = "dcmu_jax.metrics"
"""Entry points of this group, of any installed package, are metrics by their names."""

_WRITE = (
    "Write def metric(network, *, retain, forget, test): ..., which returns a number; **rest may "
    "stand for sets it does not need"
)


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
    if isinstance(given, str | set | frozenset):
        given = as_names(given)
    if not isinstance(given, Mapping):
        given = list(given) if isinstance(given, Iterable) else given
        if not isinstance(given, list) or not all(isinstance(name, str) for name in given):
            raise InputError(
                f"Metrics given as {kind_of(given)}",
                "a dictionary of names and callables, or names such as 'file.py:attribute'",
                'Give {"name": function}',
            )
        given = {name: named_object(name, "metric", GROUP) for name in given}
    for name, metric in given.items():
        if not (isinstance(name, str) and name.strip() and name.isprintable()):
            raise InputError(
                f"The name {name!r} of a metric", "a printable text", "Give it another name"
            )
        check_takes(
            f"metric {name!r}", metric, ["network"], ["retain", "forget", "test"], write=_WRITE
        )
    return dict(given)


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
        sets = {"retain": retain, "forget": forget, "test": test}
        with calling(f"metric {name!r}", "a function that returns a number for every network"):
            value = metric(lent(network), **{kind: lent(each) for kind, each in sets.items()})
        found[name] = _number(name, value)
    return found


def _number(name: str, value: Any) -> float:
    """What a metric returned, as a number of Python."""
    if value is np.ma.masked:  # the mean of what is masked altogether
        value = math.nan
    single = isinstance(value, np.ndarray | np.generic | jax.Array) and value.ndim == 0
    plain = value.item() if single else value
    if isinstance(plain, bool) or not isinstance(plain, numbers.Real):
        shape = f" of shape {value.shape}" if hasattr(value, "shape") else ""
        raise InputError(
            f"The metric {name!r} returned {kind_of(plain)}{shape}",
            "one number",
            "Return a float, such as float(values.mean())",
        )
    try:
        plain = float(plain)
    except OverflowError:
        plain = math.inf
    if not math.isfinite(plain):
        raise InputError(
            f"The metric {name!r} returned {plain}",
            "a finite number",
            "Look for a division by 0 or a logarithm of 0 in it, or return the number that such a "
            "case shall count as",
        )
    return plain

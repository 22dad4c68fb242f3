"""The methods by name. A new one is a class like those here and a line in ``METHODS``."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping
from typing import Any, cast

import pydantic
import pydantic_core

from dcmu_jax.baselines.ascent import GradientAscent, NegativeGradient
from dcmu_jax.baselines.by_importance import FisherForgetting, SelectiveSynapticDampening
from dcmu_jax.baselines.fine_tuning import (
    CatastrophicForgetting,
    CatastrophicForgettingLast,
    ExactUnlearningLast,
    SparsityUnlearning,
)
from dcmu_jax.baselines.newton import InfluenceUnlearning, NtkScrubbing
from dcmu_jax.baselines.own import own_target, unknown_method, wrapped
from dcmu_jax.baselines.pruning import PruneAndUnlearn
from dcmu_jax.baselines.relabelling import BoundaryShrink, RandomLabels, SaliencyUnlearning
from dcmu_jax.baselines.retraining import FastRetraining, Retraining
from dcmu_jax.baselines.teachers import BadTeaching, DistillationUnlearning, Scrub
from dcmu_jax.errors import InputError, check_at_least, unknown_name
from dcmu_jax.unlearning.modular import ModularUnlearning
from dcmu_jax.unlearning.task import Method, Training

METHODS: dict[str, type[Any]] = {
    "retrain": Retraining,
    "fast_retraining": FastRetraining,
    "catastrophic_forgetting": CatastrophicForgetting,
    "distillation": DistillationUnlearning,
    "bad_teaching": BadTeaching,
    "sparsity": SparsityUnlearning,
    "prune_and_unlearn": PruneAndUnlearn,
    "fisher_forgetting": FisherForgetting,
    "ntk_scrubbing": NtkScrubbing,
    "selective_synaptic_dampening": SelectiveSynapticDampening,
    "gradient_ascent": GradientAscent,
    "negative_gradient": NegativeGradient,
    "random_labels": RandomLabels,
    "scrub": Scrub,
    "saliency": SaliencyUnlearning,
    "boundary_shrink": BoundaryShrink,
    "influence": InfluenceUnlearning,
    "eu_k": ExactUnlearningLast,
    "cf_k": CatastrophicForgettingLast,
    "modular": ModularUnlearning,
}
"""Name -> class of every unlearning method; its fields are its settings."""

_LEAST = {"epochs": 0, "batch_size": 1, "forget_batch_size": 1}
"""Setting of several methods -> the least that all of them can do with."""


def method_class(name: str) -> type[Any]:
    """The class registered under ``name``; raises ``InputError`` with the nearest name.

    >>> method_class("retrain").__name__
    'Retraining'
    """
    if name not in METHODS:
        raise unknown_method("unlearning method", name, METHODS)
    return METHODS[name]


def is_method(name: str) -> bool:
    """Whether a name is of a method here, or of one of the user's own.

    Raises:
        InputError: see ``own_target``.
    """
    return name in METHODS or own_target(name) is not None


def build_method(name: str, settings: Mapping[str, Any] | None = None) -> Method:
    """The method ``name`` with some of its settings changed.

    Args:
        name: registered here or by ``register_method``, of an entry point, or a reference as
            ``file.py:attribute``.
        settings: field -> value, as JSON has them: of an optimizer those fields that differ from
            the method's own.

    Raises:
        InputError: an unknown name or field, or a value that the field cannot have: of another
            type, or one that the method would refuse when it is called.

    >>> method = build_method("catastrophic_forgetting", {"epochs": 5, "optimizer": {"l1": 1e-4}})
    >>> method.epochs, method.optimizer.l1, method.optimizer.schedule, method.sees_forget_set
    (5, 0.0001, 'cosine', False)
    """
    target = None if name in METHODS else own_target(name)
    if target is None:
        return cast(Method, _built(name, method_class(name), settings))
    if not inspect.isclass(target):
        if settings:
            raise _without_settings(name, settings)
        return wrapped(name, target, target)
    if not dataclasses.is_dataclass(target):
        if settings:
            raise _without_settings(name, settings)
        return wrapped(name, target, target())
    return wrapped(name, target, _built(name, target, settings))


def _without_settings(name: str, settings: Mapping[str, Any]) -> InputError:
    return InputError(
        f"{', '.join(map(repr, settings))} for the method {name!r}, which has no settings",
        "no settings",
        "Leave them out; it trains as RunConfig.training says"
        if name == "retrain"
        else "Leave them out, or make the method a dataclass, whose fields are settings",
    )


def _built(name: str, kind: type[Any], settings: Mapping[str, Any] | None) -> Any:
    """An instance of a method's dataclass with some of its fields changed."""
    if settings and not dataclasses.fields(kind):
        raise _without_settings(name, settings)
    settings = _over_defaults(kind, settings or {}, f"setting of {name}")
    try:
        method = pydantic.TypeAdapter(kind).validate_json(_json(settings), strict=True)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "settings"
        raise InputError(
            f"{where} = {first['input']!r} for the method {name!r}",
            first["msg"].removeprefix("Input should be "),
            "See its class for what each setting may be",
        ) from error
    if settings:
        try:
            _check_values(method)
        except InputError as error:
            given = f"{error.given} for the method {name!r}"
            raise InputError(given, error.allowed, error.remedy) from error
    return method


_UNSHARED = (InfluenceUnlearning, NtkScrubbing, SelectiveSynapticDampening)
"""Methods that take gradients batch by batch on one device, and train on no batch."""


def trained_batches(method: Method) -> dict[str, int]:
    """The settings of a method that are sizes of batches which the devices share.

    >>> trained_batches(build_method("scrub"))
    {'batch_size': 256, 'forget_batch_size': 256}
    """
    if isinstance(method, _UNSHARED):
        return {}
    found: dict[str, int] = {}
    for field in dataclasses.fields(cast(Any, method)):
        value = getattr(method, field.name)
        if field.name in ("batch_size", "forget_batch_size"):
            found[field.name] = value
        elif isinstance(value, Training):
            found[f"{field.name}.batch_size"] = value.batch_size
    return found


def _json(settings: dict[str, Any]) -> bytes:
    """As JSON, in which a list is a tuple, and a text that looks like a number is none."""
    try:
        return pydantic_core.to_json(settings, inf_nan_mode="constants")
    except pydantic_core.PydanticSerializationError as error:
        raise InputError(
            f"Settings of a method that are no JSON ({error})",
            "numbers, texts, True, False, None, lists and dictionaries of these",
            "Give one of these",
        ) from error


def _check_values(settings: Any) -> None:
    """Raise where settings make no sense, a method's or those within them."""
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if field.name in _LEAST:
            check_at_least(field.name, value, _LEAST[field.name])
        if dataclasses.is_dataclass(value):
            _check_values(value)
    if hasattr(settings, "check"):
        settings.check()


def _over_defaults(cls: Any, values: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """``values``, those that are mappings completed by the other fields of the default there.

    Raises for a field that ``cls`` lacks: pydantic would pass over it without a word.
    """
    defaults = {field.name: field.default for field in dataclasses.fields(cls)}
    whole = dict(values)
    for field, value in values.items():
        if field not in defaults:
            raise unknown_name(kind, field, defaults)
        default = defaults[field]
        if isinstance(value, Mapping) and dataclasses.is_dataclass(default):
            inner = _over_defaults(type(default), value, f"{kind}.{field}")
            whole[field] = dataclasses.asdict(default) | inner  # type: ignore[arg-type]
    return whole

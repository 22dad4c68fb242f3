"""The methods by name. A new one is a class like those here and a line in ``METHODS``."""

from __future__ import annotations

from collections.abc import Callable

from dcmu_jax.errors import unknown_name
from dcmu_jax.unlearning.catastrophic_forgetting import CatastrophicForgetting
from dcmu_jax.unlearning.modular import ModularUnlearning
from dcmu_jax.unlearning.retraining import Retraining
from dcmu_jax.unlearning.task import Method

METHODS: dict[str, Callable[..., Method]] = {
    "retrain": Retraining,
    "catastrophic_forgetting": CatastrophicForgetting,
    "modular": ModularUnlearning,
}
"""Name -> class of every unlearning method; its fields are its settings."""


def method_class(name: str) -> Callable[..., Method]:
    """The class registered under ``name``; raises ``InputError`` with the nearest name."""
    if name not in METHODS:
        raise unknown_name("unlearning method", name, METHODS)
    return METHODS[name]

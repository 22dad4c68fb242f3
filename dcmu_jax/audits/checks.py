"""What every attack asks of its arrays before it looks at them."""

from __future__ import annotations

import numpy as np

from dcmu_jax.data.numbers import Numbers, as_numbers
from dcmu_jax.errors import InputError


def check_same_shape(name: str, array: np.ndarray, of: str, other: np.ndarray) -> None:
    """Raise unless the two arrays have the same shape."""
    _check_shapes(name, array.shape, of, other.shape)


def check_same_examples(name: str, array: np.ndarray, of: str, other: np.ndarray) -> None:
    """Raise unless the last axes of the two arrays have the same length."""
    _check_shapes(name, ("...", *array.shape[-1:]), of, ("...", *other.shape[-1:]))


def check_models(name: str, models: int, least: int, attack: str) -> None:
    """Raise if there are fewer models than the attack can work with."""
    if models < least:
        raise InputError(
            f"{attack} with {models} {name} model{'s' * (models != 1)}",
            f"{least} or more of them",
            f"Train more {name} models",
        )


def _check_shapes(name: str, shape: tuple, of: str, other: tuple) -> None:
    if shape != other:
        text = [f"({', '.join(map(str, sizes))})" for sizes in (shape, other)]
        raise InputError(
            f"{name} of shape {text[0]} for {of} of shape {text[1]}",
            "the same shape, models first and examples after",
            "Take both from the same models and examples",
        )


def two_kinds(
    unlearned: Numbers, oracles: Numbers, least: int, attack: str
) -> tuple[np.ndarray, np.ndarray]:
    """Margins of both kinds of models, float64, once there are enough of each to compare."""
    checked = []
    for name, margins in (("unlearned", unlearned), ("oracle", oracles)):
        checked.append(as_numbers(f"Margins of the {name} models", margins, "models examples"))
        check_models(name, len(checked[-1]), least, attack)
    check_same_examples(
        "Margins of the unlearned", checked[0], "margins of the oracles", checked[1]
    )
    return checked[0], checked[1]

"""Optimizers as values: hashable settings that build the optax transformation."""

from __future__ import annotations

import dataclasses
from typing import Literal

import optax

from dcmu_jax.errors import check_at_least, check_positive, unknown_name


@dataclasses.dataclass(frozen=True, kw_only=True)
class Optimizer:
    """An optimizer by name and numbers.

    Two equal values are one key of the compilation cache, which two optax closures would not be.

    Attributes:
        name: adam, adamw or sgd.
        learning_rate: the (peak) learning rate.
        schedule: constant, or cosine from ``learning_rate`` to 0 over the steps of the call.
        momentum: of sgd.
        weight_decay: of adamw.
    """

    name: Literal["adam", "adamw", "sgd"] = "adam"
    learning_rate: float = 1e-3
    schedule: Literal["constant", "cosine"] = "constant"
    momentum: float = 0.9
    weight_decay: float = 1e-4

    def check(self) -> None:
        """Raise ``InputError`` for a name or number that makes no sense."""
        if self.name not in ("adam", "adamw", "sgd"):
            raise unknown_name("optimizer", self.name, ("adam", "adamw", "sgd"))
        if self.schedule not in ("constant", "cosine"):
            raise unknown_name("schedule", self.schedule, ("constant", "cosine"))
        check_positive("learning_rate", self.learning_rate)
        check_at_least("momentum", self.momentum, 0)
        check_at_least("weight_decay", self.weight_decay, 0)

    def build(self, steps: int) -> optax.GradientTransformation:
        """The optax transformation for a call of ``steps`` steps in all."""
        rate = (
            self.learning_rate
            if self.schedule == "constant"
            else optax.cosine_decay_schedule(self.learning_rate, max(steps, 1))
        )
        if self.name == "adam":
            return optax.adam(rate)
        if self.name == "adamw":
            return optax.adamw(rate, weight_decay=self.weight_decay)
        return optax.sgd(rate, momentum=self.momentum or None)

"""Gaussians fitted to the margins of many models, for many examples at once."""

from __future__ import annotations

import dataclasses
from typing import Literal, TypeAlias, get_args

import numpy as np

from dcmu_jax.errors import unknown_name

Variance: TypeAlias = Literal["fixed", "per_example"]
"""One variance pooled within the examples, or one for each example."""

LEAST_VARIANCE = 1e-12
"""Smaller variances count as this; rounding alone makes as much of margins near 100."""


@dataclasses.dataclass(frozen=True)
class Sums:
    """Count, sum and sum of squares over models, each float64 ``(examples,)``.

    Margins are to be centred for every example first, or the squares lose their digits.
    """

    count: np.ndarray
    total: np.ndarray
    square: np.ndarray

    @classmethod
    def over(cls, margins: np.ndarray, chosen: np.ndarray) -> Sums:
        """Over the ``chosen`` of the margins, both ``(models, examples)``."""
        kept = np.where(chosen, margins, 0.0)
        return cls(chosen.sum(axis=0).astype(np.float64), kept.sum(axis=0), (kept**2).sum(axis=0))

    def without(self, margins: np.ndarray) -> Sums:
        """With one model less for every example, whose margins ``(examples,)`` are given."""
        return Sums(self.count - 1, self.total - margins, self.square - margins**2)

    def fit(self, variance: Variance) -> tuple[np.ndarray, np.ndarray]:
        """Mean and unbiased variance, both ``(examples,)``; a pooled one is the same in all."""
        mean = self.total / self.count
        residual = np.maximum(self.square - self.total * mean, 0.0)
        if variance == "fixed":
            spread = np.full_like(mean, residual.sum() / (self.count - 1).sum())
        else:
            spread = residual / (self.count - 1)
        return mean, np.maximum(spread, LEAST_VARIANCE)


def check_variance(variance: str) -> None:
    """Raise for a name that is not of ``Variance``."""
    if variance not in get_args(Variance):
        raise unknown_name("variance", variance, get_args(Variance))


def enough(counts: np.ndarray, variance: Variance) -> bool:
    """Whether a Gaussian can be fitted from that many models for each example."""
    if variance == "per_example":
        return bool(counts.min() >= 2)
    return bool(counts.min() >= 1 and counts.max() >= 2)


def log_density(values: np.ndarray, mean: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Of a normal distribution with that mean and variance."""
    return -0.5 * (np.log(2 * np.pi * variance) + (values - mean) ** 2 / variance)

"""The band in which one more draw from the same population would lie."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from jaxtyping import Float
from scipy import stats

from dcmu_jax.data.numbers import as_numbers
from dcmu_jax.errors import InputError, check_fraction

_ROUNDING = 1e-9


@dataclasses.dataclass(frozen=True)
class NullBand:
    """The outcome of ``null_band``, in the unit of its values.

    Attributes:
        low: lower end.
        high: upper end.
        mean: of the values.
        std: of the values, unbiased variance.
        count: number of values.
        level: the probability that a further draw lies within.
    """

    low: float
    high: float
    mean: float
    std: float
    count: int
    level: float

    def contains(self, value: float) -> bool:
        """Whether a value lies within the band, its ends included; NaN does not."""
        return bool(self.low <= value <= self.high)


def null_band(values: Float[np.ndarray, " draws"], *, level: float = 0.99) -> NullBand:
    r"""Prediction interval for one more draw of a normal population.

    .. math:: \bar x \pm t_{(1 + level)/2,\, n - 1}\; s \sqrt{1 + 1/n}

    which is exact for independent normal values of any number n. Each end is moved out by 1e-9 of
    the mean's size, so that equal values, whose s is 0, still hold their own mean.

    Args:
        values: a number measured on each of several models that are as they should be, such as the
            AUC of each oracle against the others.

    Other Args:
        level: strictly between 0 and 1.

    Raises:
        InputError: fewer than 3 values, values that are not finite, a level out of range.
    """
    check_fraction("level", level)
    values = as_numbers("Values", values, "draws")
    if len(values) < 3:
        raise InputError(
            f"A null band of {len(values)} values",
            "3 or more",
            "Measure more models that are as they should be",
        )
    count, mean = len(values), float(values.mean())
    std = float(values.std(ddof=1))
    quantile = float(stats.t.ppf((1 + level) / 2, count - 1))
    reach = quantile * std * math.sqrt(1 + 1 / count) + _ROUNDING * abs(mean)
    return NullBand(mean - reach, mean + reach, mean, std, count, level)

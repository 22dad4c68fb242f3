"""The band by hand, its coverage by simulation, and what it refuses."""

import math

import numpy as np
import pytest

from dcmu_jax.audits.null_band import NullBand, null_band
from dcmu_jax.errors import InputError


def test_band_by_hand():
    # Mean 2, s = 1, n = 3; the 97.5 % quantile of Student's t with 2 degrees is 4.30265.
    found = null_band(np.array([1.0, 2.0, 3.0]), level=0.95)
    reach = 4.30265 * math.sqrt(4 / 3)
    assert (found.low, found.high) == pytest.approx((2 - reach, 2 + reach), rel=1e-5)
    assert (found.mean, found.std, found.count, found.level) == (2.0, 1.0, 3, 0.95)
    assert found.contains(found.low) and found.contains(found.high)
    assert not found.contains(found.high + 1e-6) and not found.contains(math.nan)


@pytest.mark.parametrize(("count", "level"), [(8, 0.99), (4, 0.9), (30, 0.99)])
def test_coverage_of_one_more_draw(count, level):
    draws = np.random.default_rng(count).normal(0.5, 0.02, (3000, count + 1))
    hits = [null_band(row[:-1], level=level).contains(row[-1]) for row in draws]
    error = math.sqrt(level * (1 - level) / len(draws))
    assert abs(np.mean(hits) - level) < 4 * error


def test_equal_values_hold_themselves():
    for value in (0.1, 0.0, -3e5):
        found = null_band(np.full(5, value))
        assert found.contains(value)
        assert not found.contains(value + 1e-6 * max(1, abs(value)))


def test_float32_values_are_averaged_in_float64():
    values = np.array([1000.1, 1000.2, 1000.3], np.float32)
    assert null_band(values) == null_band(values.astype(np.float64))


def test_it_is_a_value():
    assert null_band(np.arange(3.0)) == null_band(np.arange(3.0))
    assert NullBand(0.0, 1.0, 0.5, 0.1, 9, 0.99).contains(0.5)


def test_refusals():
    with pytest.raises(InputError, match=r"A null band of 2 values. Allowed: 3 or more"):
        null_band(np.ones(2))
    with pytest.raises(InputError, match=r"Values of shape \(3,\), 1 of them not finite"):
        null_band(np.array([1.0, 2.0, np.nan]))
    for level in (0.0, 1.0):
        with pytest.raises(InputError, match=f"level = {level}"):
            null_band(np.ones(4), level=level)

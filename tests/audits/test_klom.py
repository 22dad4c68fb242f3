"""KLoM against histograms of one example at a time, its null, and shifted populations."""

import math

import numpy as np
import pytest

from dcmu_jax.audits.klom import klom, klom_null
from dcmu_jax.errors import InputError


def _draws(models, examples, seed, shift=0.0):
    return np.random.default_rng(seed).normal(shift, 1, (models, examples))


@pytest.mark.parametrize("sizes", [(30, 30), (7, 40)])
def test_values_are_those_of_plain_histograms(sizes):
    unlearned, oracles = _draws(sizes[0], 12, 0, 0.5), _draws(sizes[1], 12, 1)
    found = klom(unlearned, oracles, bins=10, smoothing=1e-3)
    for x in range(12):
        both = np.concatenate([unlearned[:, x], oracles[:, x]])
        shares = []
        for part in (unlearned, oracles):
            counts = np.histogram(part[:, x], bins=10, range=(both.min(), both.max()))[0]
            share = counts / len(part) + 1e-3
            shares.append(share / share.sum())
        assert found[x] == pytest.approx(
            sum(p * math.log(p / q) for p, q in zip(*shares, strict=True))
        )


def test_equal_populations_lie_in_their_null_and_it_is_not_zero():
    # As many models in each as the halves of the null have.
    null = klom_null(_draws(200, 300, 0), repeats=10)
    assert null.shape == (10, 300)
    found = klom(_draws(100, 300, 1), _draws(100, 300, 2)).mean()
    error = null.std() * math.sqrt(1 / 300 + 1 / 300)
    assert abs(found - null.mean()) < 4 * error
    assert null.mean() > 0.1


def test_the_bias_falls_with_the_number_of_models():
    biases = [klom(_draws(n, 200, 3), _draws(n, 200, 4)).mean() for n in (20, 100, 2000)]
    assert biases[0] > 1.5 * biases[1] > 3 * biases[2] >= 0


def test_large_samples_reach_the_divergence():
    # KL of two normals of equal variance is shift^2 / 2; binning loses some of it.
    found = klom(_draws(40_000, 2, 5, 1.0), _draws(40_000, 2, 6), bins=60)
    np.testing.assert_allclose(found, 0.5, atol=0.05)


def test_populations_apart_reach_the_largest_value():
    found = klom(_draws(100, 50, 7, 50.0), _draws(100, 50, 8))
    null = klom_null(_draws(100, 50, 8), repeats=3)
    assert found.min() > 5 > 2 * np.quantile(null, 0.95)
    assert found.max() < -math.log(1e-5)
    point = klom(np.full((9, 1), 3.0), np.full((9, 1), -3.0))
    assert point[0] == pytest.approx(-math.log(1e-5), rel=1e-3)


def test_margins_are_clipped_and_equal_ones_have_no_divergence():
    assert klom(np.full((3, 2), 500.0), np.full((4, 2), 100.0)).tolist() == [0.0, 0.0]
    wide = klom(np.full((3, 2), 500.0), np.full((4, 2), 100.0), clip=1000.0)
    assert (wide > 5).all()


def test_same_seed_same_null():
    oracles = _draws(21, 4, 9)
    np.testing.assert_array_equal(klom_null(oracles, seed=1), klom_null(oracles, seed=1))
    assert (klom_null(oracles, seed=1) != klom_null(oracles, seed=2)).any()


def test_refusals():
    good = _draws(6, 3, 0)
    with pytest.raises(InputError, match="KLoM with 1 unlearned model"):
        klom(good[:1], good)
    with pytest.raises(InputError, match="KLoM with 1 oracle model"):
        klom(good, good[:1])
    with pytest.raises(
        InputError, match=r"A null of KLoM with 3 oracle models. Allowed: 4 or more"
    ):
        klom_null(good[:3])
    with pytest.raises(InputError, match="Margins of the unlearned of shape"):
        klom(good[:, 1:], good)
    with pytest.raises(InputError, match=r"oracle models .* 3 of them not finite"):
        klom(good, np.where(np.arange(6)[:, None] == 2, np.inf, good))
    for settings, says in (
        ({"bins": 1}, "bins = 1"),
        ({"clip": 0.0}, r"clip = 0\.0"),
        ({"smoothing": 0.0}, r"smoothing = 0\.0"),
    ):
        with pytest.raises(InputError, match=says):
            klom(good, good, **settings)
    with pytest.raises(InputError, match="repeats = 0"):
        klom_null(good, repeats=0)

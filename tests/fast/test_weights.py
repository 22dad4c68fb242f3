import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dcmu_jax.fast.weights import combine, constrain, membership

CLUSTER = np.array([1, 0, 1, 1, 2, 3, 3], np.int32)  # 3 is padding
OWN = membership(jnp.asarray(CLUSTER), 3)
SIZES = np.array([1, 3, 1])
START = jnp.array([0.5, 1, 0.2, 0.3, 1, 0, 0], jnp.float32)
SCALE = jnp.array([0.5, 1, 0.5, 0.5, 1, 1, 1], jnp.float32)
MOVED = jnp.array([0.4, 3, -2, 0.1, 1, 9, 9], jnp.float32)


def test_membership():
    np.testing.assert_array_equal(np.asarray(OWN).sum(axis=1), SIZES)
    assert not OWN[:, 5:].any()


@pytest.mark.parametrize("kind", ["free", "sum_to_one", "convex"])
def test_nothing_moved_is_the_start(kind):
    got = constrain(kind, jnp.zeros(7), START, SCALE, OWN)
    np.testing.assert_allclose(got[:5], START[:5], rtol=1e-6)


def test_the_formulas_cluster_by_cluster():
    free = constrain("free", MOVED, START, SCALE, OWN)
    np.testing.assert_allclose(free, START + SCALE * MOVED, rtol=1e-6)
    ones = np.asarray(constrain("sum_to_one", MOVED, START, SCALE, OWN))
    convex = np.asarray(constrain("convex", MOVED, START, SCALE, OWN))
    for j in range(3):
        at = CLUSTER == j
        step = SCALE[at] * MOVED[at]
        np.testing.assert_allclose(ones[at], START[at] + step - step.mean(), rtol=1e-5)
        shares = START[at] * np.exp(MOVED[at])
        np.testing.assert_allclose(convex[at], shares / shares.sum(), rtol=1e-5)
        np.testing.assert_allclose([ones[at].sum(), convex[at].sum()], 1, rtol=1e-6)
    assert (convex[:5] > 0).all() and (ones[:5] < 0).any()


def test_convex_weights_stay_finite():
    far = jnp.array([200.0, 0, -200, 0, 0, 0, 0])
    value, gradient = jax.value_and_grad(lambda m: constrain("convex", m, START, SCALE, OWN)[0])(
        far
    )
    np.testing.assert_allclose(value, 1.0)
    assert np.isfinite(gradient).all()
    negative = START - 0.4
    assert np.isfinite(constrain("convex", MOVED, negative, SCALE, OWN)[:5]).all()


def test_combine_is_the_weighted_sum():
    x = jax.random.normal(jax.random.key(0), (7, 4, 4, 2))
    images = combine(MOVED, x, OWN)
    for j in range(3):
        at = CLUSTER == j
        want = np.sum(MOVED[at][:, None, None, None] * x[at], axis=0)
        np.testing.assert_allclose(images[j], want, rtol=1e-5, atol=1e-5)

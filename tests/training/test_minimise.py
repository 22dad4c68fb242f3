import jax
import jax.numpy as jnp
import numpy as np
import optax

from dcmu_jax.training.minimise import minimise


def quadratic(params, target):
    return jnp.sum((params["a"] - target) ** 2) + jnp.sum(params["b"] ** 2)


START = {"a": jnp.zeros(3), "b": jnp.ones(2)}


def test_equals_a_plain_loop():
    optimizer = optax.adam(0.1)
    target = jnp.array([1.0, -2.0, 3.0])
    params, losses = minimise(quadratic, START, optimizer, 7, target)
    expected, state, values = START, optimizer.init(START), []
    for _ in range(7):
        value, gradient = jax.value_and_grad(quadratic)(expected, target)
        updates, state = optimizer.update(gradient, state)
        expected = jax.tree.map(jnp.add, expected, updates)
        values.append(value)
    np.testing.assert_allclose(losses, np.array(values), rtol=1e-6)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6), params, expected)


def test_reaches_the_minimum():
    params, losses = minimise(quadratic, START, optax.adam(0.1), 400, jnp.array([1.0, -2.0, 3.0]))
    np.testing.assert_allclose(params["a"], [1.0, -2.0, 3.0], atol=1e-3)
    assert losses[-1] < 1e-5 < losses[0]


def test_no_steps():
    params, losses = minimise(quadratic, START, optax.sgd(0.1), 0, jnp.zeros(3))
    assert losses.shape == (0,)
    jax.tree.map(np.testing.assert_array_equal, params, START)


def test_under_jit_and_vmap_without_a_second_trace():
    traces = []

    @jax.jit
    def run(targets):
        traces.append(1)
        return jax.vmap(lambda t: minimise(quadratic, START, optax.adam(0.1), 5, t)[0]["a"])(
            targets
        )

    targets = jnp.arange(6.0).reshape(2, 3)
    together = run(targets)
    run(targets + 1)
    assert len(traces) == 1
    for t, row in zip(targets, together, strict=True):
        alone, _ = minimise(quadratic, START, optax.adam(0.1), 5, t)
        np.testing.assert_allclose(row, alone["a"], rtol=1e-6)

import jax
import jax.numpy as jnp
import numpy as np

from dcmu_jax.fast.gauss_newton import newton_step

PROBLEM = np.repeat(np.arange(4), [3, 1, 5, 2])
OWN = jnp.asarray(PROBLEM[None] == np.arange(4)[:, None])


def linear(seed=0):
    """Four linear problems side by side, as one function of all parameters."""
    rng = np.random.default_rng(seed)
    matrices = rng.normal(size=(len(PROBLEM), 7)).astype(np.float32)
    goals = rng.normal(size=(4, 7)).astype(np.float32)

    def residual(params):
        return jnp.where(OWN, params[None], 0.0) @ matrices - goals

    return residual, matrices, goals


def losses(residual, params):
    return np.sum(np.asarray(residual(params)) ** 2, axis=1)


def test_a_linear_problem_is_solved_in_one_step():
    residual, matrices, goals = linear()
    params, damping = newton_step(residual, jnp.zeros(11), jnp.zeros(4), OWN, 5)
    for j in range(4):
        at = PROBLEM == j
        want, *_ = np.linalg.lstsq(matrices[at].T, goals[j], rcond=None)
        np.testing.assert_allclose(params[at], want, atol=0.01)
        a = matrices[at]
        downhill = a @ goals[j]
        least = 1e-3 * np.sum((downhill @ a) ** 2) / np.sum(downhill**2)
        np.testing.assert_allclose(damping[j], least / 4, rtol=1e-4)


def test_damping_is_levenberg_and_marquardts():
    residual, matrices, goals = linear(1)
    damping = jnp.array([0.5, 1.0, 2.0, 4.0])
    params, _ = newton_step(residual, jnp.zeros(11), damping, OWN, 5)
    for j in range(4):
        a = matrices[PROBLEM == j]
        want = np.linalg.solve(a @ a.T + float(damping[j]) * np.eye(len(a)), a @ goals[j])
        np.testing.assert_allclose(params[PROBLEM == j], want, atol=1e-4)


def test_fewer_inner_steps_still_go_down():
    residual, _, _ = linear(2)
    params, damping = jnp.zeros(11), jnp.zeros(4)
    before = losses(residual, params)
    for _ in range(3):
        params, damping = newton_step(residual, params, damping, OWN, 1)
        after = losses(residual, params)
        assert (after <= before).all() and (after < before).any()
        before = after


def test_a_step_that_would_climb_is_not_taken_but_damped():
    def residual(params):  # far from 0 the slope of the root promises what it does not hold
        every = jnp.where(OWN, params[None], 0.0).sum(axis=1)
        return jnp.stack([jnp.arctan(every), jnp.zeros(4)], axis=1)

    params, damping = jnp.full(11, 4.0), jnp.zeros(4)
    stayed, raised = newton_step(residual, params, damping, OWN, 3)
    np.testing.assert_array_equal(stayed, params)
    assert (raised > 0).all()
    step = jax.jit(newton_step, static_argnums=(0, 4))
    for _ in range(40):
        params, damping = step(residual, params, damping, OWN, 3)
    assert (losses(residual, params) < 1e-6).all()


def test_problems_do_not_touch_each_other():
    residual, matrices, goals = linear(3)
    together, _ = newton_step(residual, jnp.zeros(11), jnp.zeros(4), OWN, 2)
    alone = PROBLEM == 2

    def one(params):
        return params[None] @ matrices[alone] - goals[2:3]

    apart, _ = newton_step(one, jnp.zeros(5), jnp.zeros(1), jnp.ones((1, 5), bool), 2)
    np.testing.assert_allclose(together[alone], apart, atol=1e-5)


def test_a_solved_problem_and_a_parameter_of_none_stay():
    def residual(params):
        return jnp.stack([params[:1], 0.0 * params[1:2]])

    own = jnp.array([[True, False, False], [False, True, False]])
    params, damping = jax.jit(newton_step, static_argnums=(0, 4))(
        residual, jnp.array([2.0, 5.0, 7.0]), jnp.zeros(2), own, 2
    )
    np.testing.assert_allclose(params, [0.0, 5.0, 7.0], atol=0.01)
    assert np.isfinite(damping).all()

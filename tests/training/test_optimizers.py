"""Optimizers as values: what each builds, step by step in plain NumPy; names and numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from toys import TRACES, Plain, examples_of, fresh, same_bits, toy_splits

from dcmu_jax.errors import InputError
from dcmu_jax.training.arguments import Trainable
from dcmu_jax.training.keys import named_key
from dcmu_jax.training.loop import fit
from dcmu_jax.training.optimizers import Optimizer, as_optimizer

GRADIENTS = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)


def path(optimizer, steps=6):
    """The parameters after every step on ``GRADIENTS``."""
    transform = optimizer.build(steps)
    params = jnp.ones(4)
    state, seen = transform.init(params), []
    for gradient in GRADIENTS[:steps]:
        updates, state = transform.update(jnp.asarray(gradient), state, params)
        params = optax.apply_updates(params, updates)
        seen.append(np.asarray(params))
    return np.stack(seen)


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_sgd_l2_adds_the_decay_to_the_gradient(decay):
    params, velocity, expected = np.ones(4), np.zeros(4), []
    for gradient in GRADIENTS:
        velocity = 0.9 * velocity + gradient + decay * params
        params = params - 0.05 * velocity
        expected.append(params)
    ours = path(Optimizer(name="sgd_l2", learning_rate=0.05, momentum=0.9, weight_decay=decay))
    np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("steps", [5, 6])
def test_step_is_a_tenth_in_the_second_half(steps):
    ours = path(Optimizer(name="sgd", learning_rate=0.5, momentum=0.0, schedule="step"), steps)
    moved = np.diff(ours, axis=0, prepend=1.0)
    rates = np.array([0.5] * 3 + [0.05] * (steps - 3))
    np.testing.assert_allclose(moved, -rates[:, None] * GRADIENTS[:steps], rtol=1e-4, atol=1e-6)


def test_nesterov_looks_ahead():
    params, velocity, expected = np.ones(4), np.zeros(4), []
    for gradient in GRADIENTS:
        velocity = 0.9 * velocity + gradient
        params = params - 0.05 * (gradient + 0.9 * velocity)
        expected.append(params)
    ours = path(Optimizer(name="sgd", learning_rate=0.05, momentum=0.9, nesterov=True))
    np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("steps", "shares"),
    [(1, [1]), (4, [1, 0.75, 0.5, 0.25]), (10, [1 / 2, 1, *(k / 9 for k in range(8, 0, -1))])],
)
def test_triangle_rises_over_a_fifth_and_moves_in_every_step(steps, shares):
    optimizer = Optimizer(name="sgd", learning_rate=0.5, momentum=0.0, schedule="triangle")
    gradients = np.ones((steps, 1), np.float32)
    transform = optimizer.build(steps)
    params, seen = jnp.zeros(1), [0.0]
    state = transform.init(params)
    for gradient in gradients:
        updates, state = transform.update(jnp.asarray(gradient), state, params)
        params = optax.apply_updates(params, updates)
        seen.append(float(params[0]))
    np.testing.assert_allclose(-np.diff(seen), 0.5 * np.array(shares), rtol=1e-4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "sdg"}, r"optimizer 'sdg'.*Did you mean 'sgd'"),
        ({"schedule": "steps"}, r"schedule 'steps'.*Did you mean 'step'"),
    ],
)
def test_unknown_names(settings, message):
    optimizer = Optimizer()
    for name, value in settings.items():  # the tests' checked annotations refuse it at once
        object.__setattr__(optimizer, name, value)
    with pytest.raises(InputError, match=message):
        optimizer.check()


def l1_gradients(optimizer, steps, params):
    """What is added to a gradient of zero at every step, ``(steps, parameters)``."""
    transform = optimizer.build(steps)
    state, added = transform.init(params), []
    for _ in range(steps):
        updates, state = transform.update(jnp.zeros_like(params), state, params)
        added.append(-np.asarray(updates))
    return np.stack(added)


@pytest.mark.parametrize("per_epoch", [1, 7])
def test_l1_falls_as_published_over_its_share_of_the_steps(per_epoch):
    """The paper: 1e-4 (1 - e / (E - 15)) for e < E - 15, then 0, with E = 30 epochs."""
    params = jnp.array([2.0, -0.5, 0.0, 1e-6])
    plain = Optimizer(name="sgd", learning_rate=1.0, momentum=0.0, l1=1e-4, l1_until=0.5)
    added = l1_gradients(plain, 30 * per_epoch, params)
    factors = np.array([1e-4 * (1 - e / 15) if e < 15 else 0.0 for e in range(30)])
    expected = factors[:, None] * np.sign(params)
    np.testing.assert_allclose(added[::per_epoch], expected, rtol=1e-5, atol=1e-10)
    assert (np.diff(added[:, 0]) <= 0).all()
    assert (added[15 * per_epoch :] == 0).all() and (added[15 * per_epoch - 1, :2] != 0).all()


def test_l1_until_the_end():
    plain = Optimizer(name="sgd", learning_rate=1.0, momentum=0.0, l1=0.5, l1_until=1.0)
    added = l1_gradients(plain, 4, jnp.ones(1))
    np.testing.assert_allclose(added[:, 0], [0.5, 0.375, 0.25, 0.125], rtol=1e-6)


def test_l1_comes_before_the_optimizer_as_a_term_of_the_loss_does():
    """Adam normalises it with the gradient, where decay beside it would not be."""
    with_l1 = path(Optimizer(learning_rate=0.1, l1=100.0, l1_until=1.0), 1)
    np.testing.assert_allclose(with_l1, 0.9, rtol=1e-4)


def test_a_run_with_l1_is_laid_out_for_one_call():
    data = toy_splits().train
    options = {"epochs": 1, "key": named_key(0, ""), "batch_size": 8}
    start, examples = fresh(Plain(), data), examples_of(data)
    fitted = fit(start, examples, optimizer=Optimizer(l1=1e-4), **options)
    going_on = Trainable(opt_state=fitted.opt_state)
    with pytest.raises(InputError, match=r"go on from.*and l1.*l1 = 0"):
        fit(start, examples, optimizer=Optimizer(l1=1e-4), parts=going_on, **options)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"l1": -1.0}, r"l1 = -1"),
        ({"l1_until": 0.0}, r"l1_until = 0"),
        ({"l1_until": 1.5}, r"l1_until = 1\.5"),
    ],
)
def test_penalties_without_sense_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        Optimizer(**settings).check()


def _fit(start, data, optimizer, epochs=2, **rest):
    key = named_key(0, "training")
    return fit(start, examples_of(data), optimizer=optimizer, epochs=epochs, key=key, **rest)


def test_an_optax_transformation_trains_as_our_own_of_the_same_numbers():
    data = toy_splits().train
    start = fresh(Plain(), data)
    ours = _fit(start, data, Optimizer(learning_rate=0.01), batch_size=8)
    theirs = _fit(start, data, optax.adam(0.01), batch_size=8)
    assert same_bits(ours.classifier.variables, theirs.classifier.variables)
    assert ours.losses == theirs.losses


def test_a_chain_of_the_users_own_is_applied_and_goes_on():
    """Each call goes on in the user's schedule, where one of ours would be laid out anew."""
    data = toy_splits().train
    start = fresh(Plain(), data)
    rate = optax.piecewise_constant_schedule(0.1, {3: 0.0})
    own = optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(rate))
    whole = _fit(start, data, own, epochs=1, batch_size=len(data.labels))
    for _ in range(4):
        before = whole.classifier
        going_on = Trainable(opt_state=whole.opt_state)
        whole = _fit(before, data, own, epochs=1, batch_size=len(data.labels), parts=going_on)
    assert same_bits(
        whole.classifier.variables, before.variables
    )  # the rate is 0 from the fourth step on
    assert not same_bits(start.variables, before.variables)


@pytest.mark.parametrize(
    "given", ["adam", {"name": "adam"}, None, dict, lambda rate: rate, lambda: optax.adam(1e-3)]
)
def test_what_is_no_optimizer_is_refused(given):
    with pytest.raises(InputError, match=r"An optimizer given as .*optax\.adam"):
        as_optimizer(given)


def test_a_function_of_the_rate_trains_as_what_it_returns_and_takes_a_schedule():
    data = toy_splits().train
    start = fresh(Plain(), data)
    named = _fit(start, data, Optimizer(name="sgd", momentum=0.0, schedule="cosine"))
    given = _fit(start, data, Optimizer(name=optax.sgd, schedule="cosine"))
    assert same_bits(named.classifier.variables, given.classifier.variables)
    assert as_optimizer(optax.adam) == Optimizer(name=optax.adam)


@pytest.mark.parametrize(
    "given", [optax.lbfgs(), optax.lbfgs, optax.chain(optax.clip(1.0), optax.polyak_sgd())]
)
def test_what_needs_the_loss_itself_is_refused(given):
    with pytest.raises(InputError, match=r"update needs (value|value, grad, value_fn) besides"):
        as_optimizer(given)


def test_it_is_refused_where_only_the_true_parameters_tell():
    data = toy_splits().train
    start = fresh(Plain(), data)
    everywhere = jax.tree.map(lambda _: True, start.variables["params"])
    with pytest.raises(InputError, match="update needs value besides"):
        _fit(start, data, optax.masked(optax.polyak_sgd(), everywhere))


@pytest.mark.parametrize(
    ("init", "update", "message"),
    [
        (lambda p: {"a": 1.0}, lambda g, s, p: (g, {"b": 1.0}), "another state .*'b'.*'a'"),
        (lambda p: jnp.zeros(()), lambda g, s, p: (g, jnp.zeros(2)), "another state .*(2,)"),
        (lambda p: (), lambda g, s, p: ({"x": 1.0}, s), "cannot be added to the parameters"),
        (lambda p: (), lambda g, s, p: (jax.tree.map(lambda a: a[None], g), s), "cannot be added"),
        (lambda p: (), lambda g, s, p: g, "fails .ValueError"),
        (lambda p: (), lambda g, s: (g, s), "fails .TypeError"),
    ],
)
def test_a_transformation_of_the_users_own_that_cannot_step_is_refused(init, update, message):
    data = toy_splits().train
    with pytest.raises(InputError, match=message):
        _fit(fresh(Plain(), data), data, optax.GradientTransformation(init, update))


def test_a_state_that_grows_from_a_number_of_python_is_let_in():
    data = toy_splits().train
    own = optax.GradientTransformation(lambda p: 1, lambda g, s, p: (g, s * 0.5))
    assert float(_fit(fresh(Plain(), data), data, own, batch_size=None).opt_state) == 0.25


def test_a_state_of_another_optimizer_is_refused():
    data = toy_splits().train
    start = fresh(Plain(), data)
    fitted = _fit(start, data, optax.adam(0.01), epochs=1)
    for other in (optax.sgd(0.01), Optimizer(name="sgd")):
        with pytest.raises(InputError, match="opt_state of another optimizer"):
            _fit(start, data, other, epochs=1, parts=Trainable(opt_state=fitted.opt_state))
    with pytest.raises(InputError, match="opt_state of another optimizer"):
        parts = Trainable(("final",), opt_state=fitted.opt_state)
        _fit(start, data, optax.adam(0.01), parts=parts)


def test_one_transformation_is_compiled_once():
    data, own = toy_splits().train, optax.adam(0.01)
    start = fresh(Plain(width=17), data)
    _fit(start, data, own, batch_size=8)
    before = len(TRACES)
    _fit(start, data, own, batch_size=8)
    assert len(TRACES) == before

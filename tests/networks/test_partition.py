"""A user's own module in three parts, and the two views of training some of them."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dcmu_jax.errors import InputError
from dcmu_jax.networks import (
    PARTS,
    apply_features,
    apply_parts,
    create,
    freeze_mask,
    initialise,
    part_optimizer,
    partition,
)
from dcmu_jax.networks.partition import check_kind

SHAPE = (4, 4, 1)


class Flatten(nn.Module):
    @nn.compact
    def __call__(self, x, train=False):
        return nn.Dense(6)(x.reshape(x.shape[0], -1))


class Own(nn.Module):
    """Parts with and without the argument ``train``, and with a layer of Flax itself."""

    def setup(self):
        self.beginning = Flatten()
        self.intermediate = nn.Sequential([nn.Dense(5), nn.relu])
        self.final = nn.Dense(3)


class WithoutFinal(nn.Module):
    def setup(self):
        self.beginning = Flatten()
        self.intermediate = nn.Dense(5)


class WithMore(nn.Module):
    """A layer beside the three parts, which no partition would cover."""

    def setup(self):
        self.beginning, self.intermediate, self.final = Flatten(), nn.Dense(5), nn.Dense(3)
        self.scale = self.param("scale", nn.initializers.ones, ())


def test_a_users_own_module_runs_by_parts():
    model = Own()
    variables = initialise(model, jax.random.key(0), SHAPE)
    assert set(variables["params"]) == set(PARTS) and variables["batch_stats"] == {}
    x = jax.random.normal(jax.random.key(1), (2, *SHAPE))
    logits, _ = apply_parts(model, variables, x, train=PARTS)
    features = apply_features(model, variables, x)
    assert logits.shape == (2, 3) and features.shape == (2, 5)
    on, _ = apply_parts(model, variables, features, start="final")
    np.testing.assert_allclose(on, logits, rtol=1e-6)


def test_a_module_without_a_part_is_refused():
    with pytest.raises(InputError, match="without 'final'"):
        initialise(WithoutFinal(), jax.random.key(0), SHAPE)


@pytest.mark.parametrize(
    ("given", "called"),
    [(len, "The function len"), (object(), "An object of type object"), (str, "The class str")],
)
def test_what_is_no_module_is_called_by_its_name(given, called):
    with pytest.raises(InputError) as caught:
        check_kind(given)
    assert caught.value.given == called


def test_a_module_with_parameters_beside_its_parts_is_refused():
    with pytest.raises(InputError, match="scale"):
        initialise(WithMore(), jax.random.key(0), SHAPE)


def test_an_unknown_part_is_refused_with_the_nearest():
    with pytest.raises(InputError, match="Did you mean 'final'"):
        partition({"final": {}}, ["finals"])


def test_the_mask_is_true_where_frozen():
    params = initialise(Own(), jax.random.key(0), SHAPE)["params"]
    mask = freeze_mask(params, ["final"])
    assert set(jax.tree.leaves(mask["beginning"])) == {True}
    assert set(jax.tree.leaves(mask["final"])) == {False}


@pytest.mark.parametrize("parts", [("intermediate",), ("beginning", "final")])
def test_the_optax_view_equals_differentiating_the_sub_tree(parts, random_variables):
    # Steps so small that they do not run away from parameters drawn at random.
    # Not Adam: a bias before BatchNorm has gradient 0, whose rounding Adam would blow up to a step.
    optimizer = optax.sgd(1e-3, momentum=0.9)
    model = create("cnn", image_shape=(16, 16, 1), num_classes=3, width=0.04, conv="lax")
    variables = random_variables(model, (16, 16, 1))
    x = jax.random.normal(jax.random.key(1), (6, 16, 16, 1))
    y = jnp.arange(6) % 3

    def loss(params, stats, step):
        logits, new = apply_parts(
            model,
            {"params": params, "batch_stats": stats},
            x,
            train=parts,
            dropout_key=jax.random.fold_in(jax.random.key(2), step),
        )
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean(), {**stats, **new}

    def steps(params, optimizer, gradient):
        stats, state = variables["batch_stats"], optimizer.init(params)

        @jax.jit
        def one(params, stats, state, step):
            (_, stats), grads = gradient(params, stats, step)
            updates, state = optimizer.update(grads, state, params)
            return optax.apply_updates(params, updates), stats, state

        for step in range(3):
            params, stats, state = one(params, stats, state, step)
        return params, stats

    params = variables["params"]
    chosen, frozen = partition(params, parts)
    sub_tree, sub_stats = steps(
        chosen,
        optimizer,
        lambda p, s, i: jax.value_and_grad(lambda p: loss({**frozen, **p}, s, i), has_aux=True)(p),
    )
    masked, mask_stats = steps(
        params,
        part_optimizer(optimizer, params, parts),
        lambda p, s, i: jax.value_and_grad(lambda p: loss(p, s, i), has_aux=True)(p),
    )
    for name in PARTS:
        ours, theirs, before = (
            jax.tree.leaves(tree)
            for tree in (masked[name], sub_tree.get(name, params[name]), params[name])
        )
        for a, b, old in zip(ours, theirs, before, strict=True):
            if name in parts:
                # What the steps moved, which is small beside the parameters themselves.
                moved, expected = np.asarray(a - old), np.asarray(b - old)
                assert np.isfinite(moved).all()
                near = 1e-3 * np.abs(expected).max() + 3 * np.spacing(np.abs(old).max())
                np.testing.assert_allclose(moved, expected, rtol=1e-3, atol=near)
            else:
                np.testing.assert_array_equal(a, old)
        assert any(not np.array_equal(a, b) for a, b in zip(ours, before, strict=True)) == (
            name in parts
        )
        ours, theirs = (jax.tree.leaves(tree.get(name, {})) for tree in (mask_stats, sub_stats))
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)

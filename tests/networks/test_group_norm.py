"""Group normalisation and dropout by choice: no image sees another, and nothing else changes."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dcmu_jax.errors import InputError
from dcmu_jax.networks import apply_parts, count_parameters, create
from dcmu_jax.networks.cnn import CNN
from dcmu_jax.networks.layers import Layers
from dcmu_jax.networks.mlp import MLP
from dcmu_jax.networks.partition import PARTS, initialise

SHAPE = (16, 16, 1)


class One(nn.Module):
    """A single normalisation."""

    @nn.compact
    def __call__(self, x):
        return Layers().group_norm(x)


def _cnn(norm):
    return create("cnn", image_shape=SHAPE, num_classes=3, width=0.25, conv="lax", norm=norm)


def test_an_image_is_treated_alike_whatever_is_beside_it():
    x = jax.random.normal(jax.random.key(0), (4, *SHAPE))
    for norm, alike in (("group", True), ("batch", False)):
        model = _cnn(norm)
        variables = initialise(model, jax.random.key(1), SHAPE)
        run = jax.jit(lambda x, m=model, v=variables: apply_parts(m, v, x, train=PARTS[:2])[0])
        together, alone = run(x)[:1], run(jnp.concatenate([x[:1], 5 * x[1:]]))[:1]
        assert np.allclose(together, alone, atol=1e-5) == alike
        assert bool(jax.tree.leaves(variables["batch_stats"])) != alike


def test_group_and_batch_norm_have_as_many_parameters():
    counts = [
        count_parameters(initialise(_cnn(norm), jax.random.key(0), SHAPE)["params"])
        for norm in ("batch", "group")
    ]
    assert counts[0] == counts[1]


def test_a_group_has_mean_zero_and_variance_one():
    x = 3 + 2 * jax.random.normal(jax.random.key(0), (2, 5, 5, 16))

    y, _ = One().init_with_output(jax.random.key(0), x)
    groups = np.asarray(y).reshape(2, 25, 2, 8)  # eight channels to a group
    np.testing.assert_allclose(groups.mean((1, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(groups.var((1, 3)), 1, atol=1e-3)


def test_dropout_is_a_setting():
    x = jnp.ones((2, 8, 8, 1))
    dropped = MLP(num_classes=3, widths=(16, 64), dropout=0.5)
    variables = initialise(dropped, jax.random.key(0), (8, 8, 1))
    keys = {"train": PARTS, "dropout_key": jax.random.key(1)}
    plain = MLP(num_classes=3, widths=(16, 64))
    still = apply_parts(dropped, variables, x)[0]
    np.testing.assert_array_equal(still, apply_parts(plain, variables, x, **keys)[0])
    assert not np.array_equal(still, apply_parts(dropped, variables, x, **keys)[0])
    assert CNN().dropout == 0.5 and MLP().dropout == 0.0  # as published


@pytest.mark.parametrize(
    ("name", "norm", "message"),
    [("vgg16", "group", "'group' for cnn"), ("cnn", "grup", "Did you mean 'group'")],
)
def test_a_norm_that_a_model_does_not_have(name, norm, message):
    with pytest.raises(InputError, match=message):
        create(name, image_shape=(32, 32, 3), num_classes=3, norm=norm)

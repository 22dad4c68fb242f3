"""The condensed model's networks, and the transposed convolution that the decoder is made of."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dcmu_jax.errors import InputError
from dcmu_jax.networks.autoencoder import (
    Architecture,
    Decoder,
    condensed_network,
    pretraining_network,
)
from dcmu_jax.networks.catalogue import create
from dcmu_jax.networks.convolution import convolve_doubling
from dcmu_jax.networks.partition import apply_features, apply_parts, count_parameters, initialise

TINY = Architecture(
    channels=(4, 6, 8), head=(8,), small_channels=(4, 4, 4), small_hidden=8, extra_channels=2
)
KEY = jax.random.key(0)


def draw(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def plainly_doubled(x, kernel):
    """Every input pixel adds the kernel to the output, one after another."""
    batch, height, width, _ = x.shape
    y = np.zeros((batch, 2 * height, 2 * width, kernel.shape[-1]))
    for i, j, a, b in np.ndindex(height, width, 4, 4):
        row, column = 2 * i - 1 + a, 2 * j - 1 + b
        if 0 <= row < 2 * height and 0 <= column < 2 * width:
            y[:, row, column] += np.asarray(x[:, i, j]) @ np.asarray(kernel[a, b])
    return y


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (4, 4)])
def test_the_doubling_convolution_equals_its_plain_twin_in_both_implementations(shape):
    x, kernel = draw(0, 2, *shape, 3), draw(1, 4, 4, 3, 5)

    def run(impl):
        y, back = jax.vjp(lambda x, w: convolve_doubling(x, w, impl, "highest"), x, kernel)
        return (y, *back(jnp.cos(jnp.arange(y.size, dtype=jnp.float32)).reshape(y.shape)))

    ours, theirs = jax.jit(lambda: (run("dot"), run("lax")))()
    np.testing.assert_allclose(ours[0], plainly_doubled(x, kernel), rtol=1e-4, atol=1e-5)
    for mine, reference in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine, reference, rtol=1e-4, atol=1e-4)


def test_the_doubling_convolution_has_no_lax_convolution_in_its_gradient():
    x, kernel = draw(0, 2, 4, 4, 3), draw(1, 4, 4, 3, 5)
    lowered = jax.jit(
        jax.grad(lambda x, w: convolve_doubling(x, w, "dot").sum(), argnums=(0, 1))
    ).lower(x, kernel)
    assert "convolution" not in lowered.as_text()


def shapes(function, *arguments):
    """What a function gives, as shapes: traced, never compiled."""
    return jax.tree.map(lambda a: a.shape, jax.eval_shape(function, *arguments))


@pytest.mark.parametrize("image_shape", [(8, 8, 1), (12, 10, 3)])
@pytest.mark.parametrize("norm", [False, True])
def test_the_decoder_gives_images_of_the_size_of_its_input_with_extra_channels(image_shape, norm):
    architecture = Architecture(
        channels=(4, 6, 8), small_channels=(4, 4), extra_channels=2, batch_norm=norm, convolutions=1
    )
    model = condensed_network(architecture, image_shape, 3)

    def run(x):
        variables = initialise(model, KEY, image_shape)
        decoded, _ = apply_parts(model, variables, x, stop="final")
        return decoded, apply_features(model, variables, x), variables["batch_stats"]

    decoded, code, statistics = shapes(run, draw(0, 2, *image_shape))
    assert decoded == (2, *image_shape[:2], image_shape[2] + 2)
    assert code == (2, 8 * -(-image_shape[0] // 8) * -(-image_shape[1] // 8))
    assert set(statistics) == ({"beginning", "intermediate"} if norm else set())


def test_pretraining_has_the_same_encoder_and_decoder_by_name():
    shape = (8, 8, 1)
    kept, pretraining = (
        shapes(lambda f=f: initialise(f(TINY, shape, 3), KEY, shape))["params"]
        for f in (condensed_network, pretraining_network)
    )
    for part in ("beginning", "intermediate"):
        assert kept[part] == pretraining[part]


class Named(nn.Module):
    """The decoder of pretraining, given a code and an image."""

    @nn.compact
    def __call__(self, code, image):
        return Decoder(TINY, (8, 8, 1), keep_input=True)((code, image))


def test_the_decoder_ends_in_a_linear_layer_and_hands_on_its_target():
    # A sigmoid could not follow: normalised images lie below 0 and above 1.
    code, image = draw(0, 1, 1, 1, 8), draw(1, 1, 8, 8, 1)
    sizes = jax.eval_shape(lambda: Named().init(KEY, code, image))
    params = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), sizes)["params"]
    last = params["Decoder_0"]["DoublingConv_2"]
    run = jax.jit(Named().apply)
    for bias in (-3.0, 4.0):
        last["bias"] = jnp.full_like(last["bias"], bias)
        same_code, decoded, target = run({"params": params}, code, image)
        np.testing.assert_array_equal(decoded, np.full((1, 8, 8, 3), bias))
        np.testing.assert_array_equal(same_code, code)
        np.testing.assert_array_equal(target, image)


def test_a_target_of_the_catalogue_counts_as_final():
    shape = (16, 16, 3)
    target = create("cnn", image_shape=(16, 16, 5), num_classes=3, width=0.1)
    alone = jax.eval_shape(lambda: initialise(target, KEY, (16, 16, 5)))
    joined = jax.eval_shape(
        lambda: initialise(condensed_network(TINY, shape, 3, target), KEY, shape)
    )
    counts = count_parameters(joined["params"])
    assert counts["final"] == sum(count_parameters(alone["params"]).values())
    assert set(joined["params"]["final"]) == {"beginning", "intermediate", "final"}
    assert set(joined["batch_stats"]) == {"final"}


@pytest.mark.parametrize(
    ("settings", "shape", "says"),
    [
        ({}, (4, 4, 1), "8x8 or more"),
        ({"channels": ()}, (8, 8, 1), "channels"),
        ({"extra_channels": -1}, (8, 8, 1), "extra_channels"),
    ],
)
def test_sizes_that_do_not_fit(settings, shape, says):
    with pytest.raises(InputError, match=says):
        condensed_network(Architecture(**settings), shape, 3)

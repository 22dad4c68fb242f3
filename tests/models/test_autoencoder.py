"""The condensed model's networks, and the transposed convolution that the decoder is made of."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dcmu_jax.errors import InputError
from dcmu_jax.models.autoencoder import (
    Architecture,
    Decoder,
    condensed_network,
    pretraining_network,
)
from dcmu_jax.models.catalogue import create
from dcmu_jax.models.convolution import convolve_doubling
from dcmu_jax.models.partition import apply_features, apply_parts, count_parameters, initialise

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


def test_pretraining_has_the_same_encoder_and_decoder_by_name_and_gives_its_own_target():
    shape, x = (8, 8, 1), draw(0, 2, 8, 8, 1)
    kept, pretraining = (f(TINY, shape, 3) for f in (condensed_network, pretraining_network))

    @jax.jit
    def run():
        theirs = initialise(pretraining, KEY, shape)
        ours = initialise(kept, KEY, shape)
        params = ours["params"] | {"final": theirs["params"]["final"]}
        found = apply_parts(pretraining, {"params": params}, x)[0]
        return found, apply_parts(kept, ours, x, stop="final")[0]

    (logits, decoded, image), mine = run()
    assert logits.shape == (2, 3)
    np.testing.assert_array_equal(image, x)
    np.testing.assert_allclose(decoded, mine[..., :1], rtol=1e-6, atol=1e-6)


def test_the_decoder_can_leave_the_unit_interval():
    # A sigmoid could not: normalised images lie below 0 and above 1.
    decoder = Decoder(TINY, (8, 8, 1))

    @jax.jit
    def mean(bias):
        code = jnp.zeros((1, 1, 1, 8))
        variables = decoder.init(KEY, code)
        last = variables["params"]["DoublingConv_2"]
        return decoder.apply(
            {"params": variables["params"] | {"DoublingConv_2": last | {"bias": bias}}}, code
        ).mean()

    for bias in (-3.0, 4.0):
        assert abs(float(mean(jnp.full(3, bias))) - bias) < 1


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

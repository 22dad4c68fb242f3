"""The two convolutions and the pooling: equal values, equal gradients, plain-NumPy twins."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from toys import assert_close

from dcmu_jax.errors import InputError
from dcmu_jax.networks import PARTS, apply_parts, cnn, convolution, create
from dcmu_jax.networks.convolution import (
    avg_pool,
    convolution_hook,
    max_pool,
    resolve_implementation,
    whole_batches,
)

EXPLICIT = ((1, 1), (1, 1))
NHWC = ("NHWC", "HWIO", "NHWC")


def draw(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def counted(program):
    """Matrix products in a lowered program."""
    return program.as_text().count("dot_general")


def convolved(impl, x, w, strides, padding):
    hook = convolution_hook(impl)
    return hook(x, w, (strides, strides), padding, dimension_numbers=NHWC)


@pytest.mark.parametrize(
    ("image", "kernel", "strides", "padding"),
    [
        ((8, 8), 3, 1, EXPLICIT),
        ((7, 5), 3, 1, EXPLICIT),
        ((8, 8), 3, 2, EXPLICIT),
        ((7, 9), 3, 2, EXPLICIT),
        ((7, 9), 3, 2, "SAME"),
        ((8, 6), 3, 2, "SAME"),
        ((7, 8), 3, 1, "VALID"),
        ((6, 7), 1, 1, "VALID"),
        ((7, 6), 1, 2, ((0, 0), (0, 0))),
        ((8, 7), 4, 2, EXPLICIT),
        ((9, 8), 4, 1, "SAME"),
        ((6, 6), 3, 1, ((2, 0), (1, 3))),
        ((2, 2), 3, 1, EXPLICIT),
        ((1, 1), 3, 1, EXPLICIT),
    ],
)
def test_dot_equals_lax_in_value_and_both_gradients(image, kernel, strides, padding):
    x, w = draw(0, 3, *image, 4), draw(1, kernel, kernel, 4, 5)

    def run(impl):
        y, back = jax.vjp(lambda x, w: convolved(impl, x, w, strides, padding), x, w)
        return (y, *back(jnp.cos(jnp.arange(y.size, dtype=jnp.float32)).reshape(y.shape)))

    with jax.default_matmul_precision("highest"):
        ours, theirs = jax.jit(lambda: (run("dot"), run("lax")))()
    for mine, reference in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine, reference, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("image", "padding"),
    [((8, 8), EXPLICIT), ((5, 7), EXPLICIT), ((6, 5), "VALID"), ((1, 2), ((2, 0), (1, 3)))],
)
def test_winograd_equals_lax_in_value_and_both_gradients(image, padding):
    x, w = draw(0, 2, *image, 32), draw(1, 3, 3, 32, 33)
    program = jax.jit(lambda x, w: convolved("dot", x, w, 1, padding)).lower(x, w)
    assert counted(program) == (16 if jax.default_backend() == "cpu" else 1)

    def run(impl):
        y, back = jax.vjp(lambda x, w: convolved(impl, x, w, 1, padding), x, w)
        return (y, *back(jnp.cos(jnp.arange(y.size, dtype=jnp.float32)).reshape(y.shape)))

    with jax.default_matmul_precision("highest"):
        ours, theirs = jax.jit(lambda: (run("dot"), run("lax")))()
    for mine, reference in zip(ours, theirs, strict=True):
        scale = np.abs(reference).max()
        np.testing.assert_allclose(mine, reference, rtol=0, atol=3e-6 * scale)


def test_winograd_has_forward_mode_and_second_derivatives():
    x, w = draw(0, 1, 4, 4, 32), draw(1, 3, 3, 32, 32)

    def product(impl):
        def loss(w):
            return jnp.tanh(0.1 * convolved(impl, x, w, 1, EXPLICIT)).sum()

        return jax.jit(lambda: jax.jvp(jax.grad(loss), (w,), (jnp.ones_like(w),))[1])()

    np.testing.assert_allclose(product("dot"), product("lax"), rtol=1e-3, atol=1e-3)


on_cpu = pytest.mark.skipif(jax.default_backend() != "cpu", reason="CPU only: pieces and pairs")


def pieces(fun, *args):
    """How many pieces the batches of the loops in a program are cut into."""
    return [
        e.params["length"] for e in jax.make_jaxpr(fun)(*args).eqns if e.primitive.name == "scan"
    ]


@on_cpu
@pytest.mark.parametrize(("taps", "channels", "out"), [(9, 4, 5), (9, 4, 16), (4, 32, 32)])
def test_a_batch_in_pieces_equals_lax_in_value_and_all_derivatives(
    monkeypatch, taps, channels, out
):
    patches, kernel = taps * 4 * 16 * channels, 4 * 9 * channels * out  # bytes
    monkeypatch.setattr(convolution, "_PIECE_BYTES", 2 * patches)
    fits = max(2 * patches, kernel) // patches
    x, w = draw(0, 4 * fits, 4, 4, channels), draw(1, 3, 3, channels, out)

    def loss(impl, x, w):
        return jnp.tanh(0.1 * convolved(impl, x, w, 1, EXPLICIT)).sum()

    assert pieces(lambda x, w: convolved("dot", x, w, 1, EXPLICIT), x, w) == [4]

    def run(impl):
        y, back = jax.vjp(lambda x, w: convolved(impl, x, w, 1, EXPLICIT), x, w)
        along = jax.jvp(jax.grad(lambda w: loss(impl, x, w)), (w,), (jnp.ones_like(w),))[1]
        return (y, *back(jnp.cos(jnp.arange(y.size, dtype=jnp.float32)).reshape(y.shape)), along)

    with jax.default_matmul_precision("highest"):
        ours, theirs = jax.jit(lambda: (run("dot"), run("lax")))()
    for mine, reference in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine, reference, rtol=0, atol=1e-5 * np.abs(reference).max())


@on_cpu
@pytest.mark.parametrize(
    ("budget", "batch", "expected"),
    [
        (0, 6, [6]),  # not even one image fits: one after another
        (4, 6, [2]),
        (4, 7, []),  # pieces of one would be far smaller than four
        (4, 4, []),
        (100, 6, []),
    ],
)
def test_pieces_are_equal_and_near_the_budget(monkeypatch, budget, batch, expected):
    x, w = draw(0, batch, 16, 16, 2), draw(1, 3, 3, 2, 3)
    monkeypatch.setattr(convolution, "_PIECE_BYTES", budget * 9 * x[0].nbytes)

    def convolve(x):
        return convolved("dot", x, w, 1, EXPLICIT)

    assert pieces(convolve, x) == expected
    with whole_batches():
        assert pieces(lambda x: convolve(x), x) == []
    with whole_batches(False):
        assert pieces(lambda x: convolve(x), x) == expected
    assert pieces(lambda x: convolved("dot", x, w, 2, EXPLICIT), x) == []
    assert pieces(lambda x: convolved("dot", x, w[1:2, 1:2], 1, "VALID"), x) == []


@on_cpu
@pytest.mark.parametrize(
    ("kernel", "width", "out", "columns"),
    [(3, 6, 5, 10), (3, 5, 5, 5), (3, 6, 16, 16), (1, 6, 5, 5)],
)
def test_few_channels_are_computed_two_columns_at_once(kernel, width, out, columns):
    x, w = draw(0, 2, 6, width, 3), draw(1, kernel, kernel, 3, out)
    jaxpr = jax.make_jaxpr(lambda x: convolved("dot", x, w, 1, "SAME"))(x)
    made = [e.outvars[0].aval.shape[-1] for e in jaxpr.eqns if e.primitive.name == "dot_general"]
    assert made == [columns]


def test_dot_keeps_the_compute_dtype():
    x, w = draw(0, 2, 6, 6, 3).astype(jnp.bfloat16), draw(1, 3, 3, 3, 4).astype(jnp.bfloat16)
    y, back = jax.vjp(lambda x, w: convolved("dot", x, w, 1, EXPLICIT), x, w)
    assert {y.dtype, *(g.dtype for g in back(y))} == {jnp.dtype(jnp.bfloat16)}


def test_dot_under_vmap_over_weights_equals_one_after_another():
    x, w = draw(0, 2, 6, 6, 3), draw(1, 5, 3, 3, 3, 4)

    def loss(w):
        return jnp.sin(convolved("dot", x, w, 1, EXPLICIT)).sum()

    together = jax.vmap(jax.grad(loss))(w)
    apart = jnp.stack([jax.grad(loss)(member) for member in w])
    np.testing.assert_allclose(together, apart, rtol=1e-4, atol=1e-4)


def test_dot_makes_no_convolution():
    x, w = draw(0, 2, 6, 6, 3), draw(1, 3, 3, 3, 4)
    program = jax.jit(jax.grad(lambda w: convolved("dot", x, w, 1, EXPLICIT).sum())).lower(w)
    assert "convolution" not in program.as_text()


def test_dot_refuses_what_it_cannot_do():
    x, w = draw(0, 2, 6, 6, 4), draw(1, 3, 3, 2, 4)
    with pytest.raises(InputError, match="groups"):
        convolution_hook("dot")(x, w, (1, 1), EXPLICIT, feature_group_count=2)


def test_implementations_by_name():
    assert resolve_implementation("auto") == ("dot" if jax.default_backend() == "cpu" else "lax")
    with pytest.raises(InputError, match="Did you mean 'lax'"):
        resolve_implementation("lux")


@pytest.mark.parametrize(("height", "width"), [(4, 6), (5, 7), (2, 3)])
def test_pooling_equals_a_loop_and_drops_the_odd_edge(height, width):
    x = np.random.default_rng(0).normal(size=(2, height, width, 3)).astype(np.float32)
    expected = np.zeros((2, height // 2, width // 2, 3), np.float32)
    gradient = np.zeros_like(x)
    for n, i, j, c in np.ndindex(expected.shape):
        window = x[n, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2, c]
        expected[n, i, j, c] = window.max()
        gradient[n, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2, c] = window == window.max()
    pooled, back = jax.vjp(max_pool, jnp.asarray(x))
    np.testing.assert_array_equal(pooled, expected)
    np.testing.assert_array_equal(back(jnp.ones_like(pooled))[0], gradient)


@pytest.mark.parametrize("ties", [(0, 1, 2, 3), (1, 2), (2, 3), (1, 3)])
def test_the_first_of_equal_pixels_gets_the_gradient(ties):
    window = np.zeros(4, np.float32)
    window[list(ties)] = 1
    x = jnp.asarray(np.tile(window.reshape(1, 2, 2, 1), (1, 2, 2, 2)))
    gradient = jax.grad(lambda x: max_pool(x).sum())(x)
    first = np.eye(4, dtype=np.float32)[ties[0]].reshape(1, 2, 2, 1)
    np.testing.assert_array_equal(gradient, np.tile(first, (1, 2, 2, 2)))


@pytest.mark.parametrize("at", range(4))
def test_nan_is_the_maximum(at):
    window = np.arange(4, dtype=np.float32)
    window[at] = np.nan
    assert np.isnan(max_pool(jnp.asarray(window.reshape(1, 2, 2, 1)))).all()


def test_no_gradient_is_lost_where_the_compiler_computes_the_pooled_twice(monkeypatch):
    """As it did of this network: kernels' gradients were off by half of their largest entry."""

    def by_windows(x):
        return jax.lax.reduce_window(x, -np.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")

    model = create("cnn", image_shape=(28, 28, 1), num_classes=10, width=0.5).clone(dropout=0.0)
    rng = np.random.default_rng(0)

    def filled(path, like):
        if path[-1].key in ("scale", "var"):
            return rng.uniform(0.5, 1.5, like.shape).astype(np.float32)
        return rng.normal(0, np.prod(like.shape[:-1]) ** -0.5, like.shape).astype(np.float32)

    like = jax.eval_shape(model.init, jax.random.key(0), np.zeros((1, 28, 28, 1), np.float32))
    variables = jax.tree_util.tree_map_with_path(filled, like)
    x, labels = draw(2, 32, 28, 28, 1), np.arange(32) % 10

    def gradient(pool):
        monkeypatch.setattr(cnn, "max_pool", pool)

        def loss(params):
            held = {**variables, "params": params}
            logits, _ = apply_parts(model, held, x, train=PARTS, dropout_key=jax.random.key(0))
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

        return jax.jit(jax.grad(loss))(variables["params"])

    wanted = gradient(by_windows)
    largest = max(float(abs(x).max()) for x in jax.tree.leaves(wanted))
    assert_close(gradient(max_pool), wanted, atol=1e-4 * largest)


@pytest.mark.parametrize("shape", [(2, 6, 4, 3), (1, 7, 5, 2)])
def test_mean_pooling_is_the_mean_of_whole_windows(shape):
    x = np.asarray(draw(3, *shape))
    height, width = shape[1] // 2, shape[2] // 2
    expected, gradient = np.zeros((shape[0], height, width, shape[3])), np.zeros(shape)
    for i in range(height):
        for j in range(width):
            expected[:, i, j] = x[:, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].mean(axis=(1, 2))
            gradient[:, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2] = 0.25
    pooled, back = jax.vjp(avg_pool, jnp.asarray(x))
    np.testing.assert_allclose(pooled, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(back(jnp.ones_like(pooled))[0], gradient)

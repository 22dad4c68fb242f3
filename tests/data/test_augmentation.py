"""Augmentation: equal to padding, cropping and flipping one by one; shapes, dtypes, draws."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dcmu_jax.data import Augmentation, augment, augmentation
from dcmu_jax.errors import InputError

BOTH = Augmentation(flip=True, crop_padding=2)


jitted = jax.jit(augment, static_argnames="augmentation")


def _images(batch=64, height=9, width=8, channels=3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (batch, height, width, channels), np.uint8)


def _variants(image: np.ndarray, augmentation: Augmentation) -> list[np.ndarray]:
    """Every result that one image may have, by padding, cropping and flipping."""
    p = augmentation.crop_padding
    padded = np.pad(image, ((p, p), (p, p), (0, 0)), mode="reflect")
    height, width, _ = image.shape
    crops = [
        padded[i : i + height, j : j + width] for i in range(2 * p + 1) for j in range(2 * p + 1)
    ]
    return crops + [crop[:, ::-1] for crop in crops] if augmentation.flip else crops


@pytest.mark.parametrize(
    "augmentation",
    [BOTH, Augmentation(flip=True), Augmentation(crop_padding=1), Augmentation(crop_padding=5)],
)
def test_results_are_those_of_pad_crop_flip_and_all_occur(augmentation):
    image = _images(1)[0]
    variants = _variants(image, augmentation)
    batch = np.repeat(image[None], 2000, 0)
    out = np.asarray(jitted(batch, jax.random.key(0), augmentation))
    codes = {variant.tobytes(): 0 for variant in variants}
    assert len(codes) == len(variants)
    for result in out:
        codes[result.tobytes()] += 1  # a KeyError would be a result that cannot be
    # With n variants each is drawn about 2000 / n times.
    counts, mean = np.array(list(codes.values())), 2000 / len(variants)
    assert np.all(np.abs(counts - mean) < 6 * np.sqrt(mean)) and np.all(counts > 0)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, jnp.bfloat16])
def test_shape_and_dtype_stay(dtype):
    images = jnp.asarray(_images(), dtype)
    out = jitted(images, jax.random.key(1), BOTH)
    chex.assert_equal_shape([out, images])
    assert out.dtype == images.dtype
    # Cast first or last: the same pixels move.
    np.testing.assert_array_equal(
        np.asarray(out), np.asarray(jitted(_images(), jax.random.key(1), BOTH).astype(dtype))
    )


def test_nothing_to_do_is_nothing_done():
    images = _images()
    np.testing.assert_array_equal(augment(images, jax.random.key(0), Augmentation()), images)


def test_drawn_by_key():
    images = _images()
    first, again, other = (jitted(images, jax.random.key(k), BOTH) for k in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_under_jit_and_vmap():
    images = jnp.asarray(_images(12)).reshape(3, 4, 9, 8, 3)
    keys = jax.random.split(jax.random.key(0), 3)
    one_by_one = jnp.stack([jitted(x, k, BOTH) for x, k in zip(images, keys, strict=True)])
    np.testing.assert_array_equal(
        jax.vmap(lambda x, k: jitted(x, k, augmentation=BOTH))(images, keys), one_by_one
    )


def test_one_gather_and_no_retrace():
    jaxpr = jax.make_jaxpr(lambda x, k: augment(x, k, BOTH))(_images(), jax.random.key(0))
    assert str(jaxpr).count(" gather[") == 1
    chex.clear_trace_counter()

    def once(pixels, key, augmentation):
        return augment(pixels, key, augmentation)

    step = jax.jit(chex.assert_max_traces(once, n=1), static_argnums=2)
    step(_images(), jax.random.key(0), BOTH)
    step(_images(), jax.random.key(1), Augmentation(True, 2))  # an equal value: no new program


def test_flip_is_left_to_right_only():
    image = np.zeros((1, 8, 8, 1), np.uint8)
    image[:, 0, 0] = 1
    out = np.asarray(jitted(np.repeat(image, 50, 0), jax.random.key(0), Augmentation(flip=True)))
    assert set(map(tuple, np.argwhere(out)[:, 1:3].tolist())) == {(0, 0), (0, 7)}


TURNS = Augmentation(alternating_flip=True)


@pytest.mark.parametrize("scale", [1, 16])  # as many grey values as the digits have
def test_by_turns_every_image_is_seen_both_ways_in_two_epochs(scale):
    images = _images(400) // scale * scale
    key = jax.random.key(0)
    epochs = [np.asarray(jitted(images, key, TURNS, jnp.int32(e))) for e in range(4)]
    flipped = [np.all(out == images[:, :, ::-1], axis=(1, 2, 3)) for out in epochs]
    for out, other in zip(epochs, flipped, strict=True):
        np.testing.assert_array_equal(out[~other], images[~other])
        assert 150 < other.sum() < 250
    np.testing.assert_array_equal(flipped[0], ~flipped[1])
    np.testing.assert_array_equal(flipped[0], flipped[2])
    # Whose turn it is depends on the image alone: not on the key, its place or the dtype.
    order = np.random.default_rng(1).permutation(400)
    again = jitted(images[order].astype(np.float32), jax.random.key(5), TURNS, jnp.int32(1))
    np.testing.assert_array_equal(np.asarray(again), epochs[1][order])


def test_one_way_to_mirror():
    with pytest.raises(InputError, match="flipped at random or by turns"):
        Augmentation(flip=True, alternating_flip=True)


@pytest.mark.parametrize("padding", [8, 100])
def test_padding_beyond_the_image(padding):
    with pytest.raises(InputError, match=rf"crop_padding = {padding} on images of 9x8.*0\.\.7"):
        augment(_images(), jax.random.key(0), Augmentation(crop_padding=padding))


def test_negative_padding():
    with pytest.raises(InputError, match=r"crop_padding = -1"):
        Augmentation(crop_padding=-1)


def test_a_tpu_multiplies_where_others_gather_to_the_same_bits():
    pixels = _images(16)
    rows, columns = jnp.asarray(np.random.default_rng(1).integers(0, 8, (2, 16, 5)))
    by_index = augmentation._by_index(jnp.asarray(pixels), rows, columns)
    by_products = augmentation._by_products(jnp.asarray(pixels), rows, columns)
    chex.assert_trees_all_equal(by_products, by_index)
    assert by_products.dtype == jnp.uint8
    traced = jitted.trace(jnp.asarray(pixels), jax.random.key(0), augmentation=BOTH)
    for platform, products in (("cpu", 0), ("cuda", 0), ("tpu", 2)):
        text = traced.lower(lowering_platforms=(platform,)).as_text()
        assert text.count("stablehlo.dot_general") == products
        assert ("9x8x3xui8>, tensor" in text and '"stablehlo.gather"' in text) == (products == 0)

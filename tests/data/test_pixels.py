"""Pixels at the door of a network: what is scaled, turned round or broken is refused."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from toys import Plain, fresh, toy_splits

from dcmu_jax.condensation.features import extract
from dcmu_jax.data.arrays import splits_from_arrays
from dcmu_jax.data.pixels import check_pixels
from dcmu_jax.errors import InputError
from dcmu_jax.training.classifier import in_batches
from dcmu_jax.training.population import population_logits, stack

TRAIN = toy_splits().train
NETWORK = fresh(Plain(), TRAIN)
IMAGES, SHAPE = TRAIN.images, NETWORK.image_shape
COLOUR = np.arange(2 * 8 * 6 * 3, dtype=np.uint8).reshape(2, 8, 6, 3)

WRONG = {
    "scaled": (IMAGES / 255.0, "Multiply by 255"),
    "scaled, float32": (np.float32(IMAGES / 255.0), "Multiply by 255"),
    "scaled, of JAX": (jnp.asarray(IMAGES / 255.0), "Multiply by 255"),
    "scaled, a list": ((IMAGES / 255.0).tolist(), "Multiply by 255"),
    "ones": (np.ones((1, *SHAPE)), "Multiply by 255"),
    "normalised": (np.asarray(NETWORK.normalisation.apply(IMAGES)), "normalised already"),
    "minus one to one": (IMAGES / 127.5 - 1, "normalised already"),
    "scaled, brightened": (IMAGES / 170, "scaled to"),
    "scaled by the deviation": (IMAGES / 60, "scaled to"),
    "black and white": ((IMAGES > 100).astype(int), "0 and 1 alone.*Multiply by 255"),
    "black and white, uint8": ((IMAGES > 100).astype(np.uint8), "0 and 1 alone"),
    "black and white, floats": ((IMAGES > 100).astype(float), "Multiply by 255"),
    "too bright": (IMAGES.astype(np.float32) * 2, "to 5.*8 bits"),
    "around zero": (IMAGES.astype(np.float32) - 128, "from -1.*8 bits"),
    "16 bits": (IMAGES * 257.3, "8 bits"),
    "NaN": (np.where(np.arange(8)[:, None] == 3, np.nan, np.float32(IMAGES)), "NaN"),
    "infinite": (np.full((1, *SHAPE), np.inf), "infinite"),
    "booleans": (IMAGES > 100, "dtype bool"),
    "texts": (IMAGES.astype(str), "dtype <U"),
    "complex": (IMAGES.astype(complex), "dtype complex"),
    "large integers": (IMAGES.astype(int) + 1000, "0..255"),
    "negative integers": (IMAGES.astype(int) - 1, "0..255"),
    "one image": (IMAGES[0], r"pixels\[None\]"),
    "no channel": (IMAGES[..., 0], r"pixels\[..., None\]"),
    "flat": (IMAGES.reshape(len(IMAGES), -1), "size and channels"),
    "channels": (np.repeat(IMAGES, 3, axis=-1), "size and channels"),
    "larger": (np.repeat(IMAGES, 2, axis=1), "size and channels"),
    "channels first": (IMAGES.transpose(0, 3, 1, 2), r"transpose\(0, 2, 3, 1\)"),
    "ragged": ([[1], [2, 3]], "no array"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_refused_by_every_method_of_a_network(kind):
    pixels, says = WRONG[kind]
    for call in (NETWORK.logits, NETWORK.features, lambda x: NETWORK.inputs_of("final", x)):
        with pytest.raises(InputError, match=says):
            call(pixels)


@pytest.mark.parametrize("kind", ["scaled", "channels first", "NaN", "one image"])
def test_refused_by_functions_that_take_images(kind):
    pixels, says = WRONG[kind]
    pixels = np.asarray(pixels)
    for call in (
        lambda: extract(NETWORK, pixels),
        lambda: population_logits(stack([NETWORK, NETWORK]), pixels),
    ):
        with pytest.raises(InputError, match=says):
            call()


def test_one_image_that_is_scaled_is_no_longer_silently_wrong():
    float_images = IMAGES.astype(np.float32)
    np.testing.assert_array_equal(NETWORK.logits(float_images), NETWORK.logits(IMAGES))
    np.testing.assert_array_equal(NETWORK.logits(IMAGES.astype(int)), NETWORK.logits(IMAGES))
    np.testing.assert_array_equal(NETWORK.logits(jnp.asarray(IMAGES)), NETWORK.logits(IMAGES))
    np.testing.assert_array_equal(
        NETWORK.logits(IMAGES[::2, ::-1]), NETWORK.logits(IMAGES[::2, ::-1].copy())
    )


def test_black_and_condensed_images_pass():
    for dtype in (np.uint8, np.float32, np.int64):
        assert NETWORK.logits(np.zeros((2, *SHAPE), dtype)).shape == (2, 3)
    assert NETWORK.logits(np.ones((2, *SHAPE), np.uint8)).shape == (2, 3)
    loose = IMAGES.astype(np.float32) * 1.1 - 12  # free weights leave 0..255
    assert check_pixels(loose, SHAPE) is loose
    wild = IMAGES * 2.6 - 180.5  # as those of model inversion are
    assert check_pixels(wild, SHAPE) is wild
    dark = (IMAGES % 3).astype(np.float32)
    assert check_pixels(dark, SHAPE) is dark


def test_a_network_of_black_and_white_images_takes_them():
    pixels = (IMAGES > 100).astype(np.uint8)
    network = fresh(Plain(), dataclasses.replace(TRAIN, images=pixels))
    assert network.evaluate(dataclasses.replace(TRAIN, images=pixels)).correct.shape == (
        len(TRAIN),
    )
    with pytest.raises(InputError, match="brighter"):
        NETWORK.evaluate(dataclasses.replace(TRAIN, images=pixels))


def test_the_remedies_work_as_typed():
    pixels = COLOUR.transpose(0, 3, 1, 2)
    assert check_pixels(pixels.transpose(0, 2, 3, 1), (8, 6, 3)).shape == COLOUR.shape
    with pytest.raises(InputError, match="transpose"):
        check_pixels(pixels, (8, 6, 3))


def test_no_images_have_no_logits():
    none = np.zeros((0, *SHAPE), np.uint8)
    for pixels in (none, none.astype(np.float32)):
        assert NETWORK.logits(pixels).shape == (0, 3)
        assert NETWORK.features(pixels).shape == (0, 16)
    assert extract(NETWORK, none).shape == (0, 16)
    found = NETWORK.evaluate(TRAIN.take([]))
    assert found.losses.shape == found.correct.shape == (0,) and found.correct.dtype == bool
    assert in_batches(lambda x: x * 2, np.zeros((0, 4))).shape == (0, 4)


def test_an_unknown_part_has_no_inputs():
    for part in ("beginning", "finale"):
        with pytest.raises(InputError, match="final"):
            NETWORK.inputs_of(part, IMAGES)


def test_labels_that_the_network_has_no_output_for():
    more = dataclasses.replace(TRAIN, num_classes=5, labels=TRAIN.labels + 2)
    with pytest.raises(InputError, match="class 4 for a network of 3 outputs"):
        NETWORK.evaluate(more)


LABELS = np.arange(20) % 2
ARRAYS = np.zeros((20, 8, 8), np.uint8)


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        (ARRAYS, LABELS - 1),
        (ARRAYS, LABELS * 2),
        (ARRAYS, LABELS + 0.5),
        (ARRAYS, np.where(LABELS, np.nan, 0)),
        (ARRAYS, LABELS[:-1]),
        (ARRAYS, np.eye(2)[LABELS]),
        (ARRAYS, LABELS.astype(str)),
        (ARRAYS > 0, LABELS),
        (ARRAYS.astype(int), LABELS),
        (ARRAYS[:, None, :, :], LABELS),
    ],
)
def test_arrays_that_are_no_images_with_classes(images, labels):
    with pytest.raises(InputError):
        splits_from_arrays(images, labels)

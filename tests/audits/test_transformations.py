"""Shifts and horizontal flips are those of padding and cropping, in the order that is promised."""

import dataclasses

import jax
import numpy as np
import pytest
from toys import Plain, fresh, toy_splits

from dcmu_jax.audits.label_only import (
    correct_under_transformations,
    gap_attack_scores,
    label_only_scores,
    shifted,
)
from dcmu_jax.data.augmentation import Augmentation, augment
from dcmu_jax.errors import InputError


@pytest.fixture(scope="module")
def data():
    return toy_splits().train


@pytest.fixture(scope="module")
def network(data):
    return fresh(Plain(), data)


@pytest.mark.parametrize("shift", [(0, 0), (2, 0), (0, -3), (-1, 2), (6, -6)])
def test_a_shift_is_padding_by_reflection_and_a_crop(shift):
    images = np.random.default_rng(0).integers(0, 256, (4, 7, 8, 3), np.uint8)
    padded = np.pad(images, ((0, 0), (6, 6), (6, 6), (0, 0)), mode="reflect")
    low, left = 6 + shift[0], 6 + shift[1]
    expected = padded[:, low : low + 7, left : left + 8]
    np.testing.assert_array_equal(shifted(images, shift), expected)


def test_every_draw_of_the_augmentation_is_one_of_them():
    image = np.random.default_rng(1).integers(0, 256, (1, 6, 6, 1), np.uint8)
    moves = [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)]
    known = {shifted(image, move).tobytes() for move in moves}
    drawn = augment(np.repeat(image, 200, 0), jax.random.key(0), Augmentation(crop_padding=1))
    assert {np.asarray(one).tobytes() for one in drawn} == known


def test_columns_are_the_plain_image_the_shifts_and_their_mirror_images(data, network):
    shifts = ((1, 0), (0, -2))
    found = correct_under_transformations(network, data, shifts=shifts)
    assert found.shape == (len(data), 6) and found.dtype == bool
    plain = [data.images, shifted(data.images, (1, 0)), shifted(data.images, (0, -2))]
    for column, images in enumerate([*plain, *(each[:, :, ::-1] for each in plain)]):
        copy = dataclasses.replace(data, images=images)
        np.testing.assert_array_equal(found[:, column], network.evaluate(copy).correct)
    assert len({column.tobytes() for column in found.T}) > 1
    assert correct_under_transformations(network, data, flip=False).shape == (len(data), 5)


def test_they_feed_the_label_only_attack(data, network):
    found = correct_under_transformations(network, data)
    np.testing.assert_array_equal(gap_attack_scores(found), network.evaluate(data).correct)
    np.testing.assert_allclose(label_only_scores(found) * 10, found.sum(axis=1))


def test_refusals(data, network):
    with pytest.raises(InputError, match=r"A shift by \(8, 0\) of images of 8x8 pixels.*at most 7"):
        correct_under_transformations(network, data, shifts=((8, 0),))
    for shifts in (((0, 0),), ((0, 1), (1, 0), (0, 1))):
        with pytest.raises(InputError, match=r"The shift \(0, [01]\) more than once"):
            correct_under_transformations(network, data, shifts=shifts)

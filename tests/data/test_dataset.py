"""Datasets: samples keep their ids through every selection; statistics and normalisation."""

import hashlib

import jax
import numpy as np
import pytest

from dcmu_jax.data import Dataset, Normalisation, channel_statistics, splits_from_arrays
from dcmu_jax.data.chunks import chunks
from dcmu_jax.errors import InputError


def _dataset() -> Dataset:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (20, 8, 8, 3), np.uint8)
    ids = rng.permutation(100)[:20].astype(np.int64)
    return Dataset(images, (np.arange(20) % 4).astype(np.int32), ids, 4)


def test_positions_find_every_id():
    data = _dataset()
    for wanted in (data.ids, data.ids[[4, 1, 9]], data.ids[:0]):
        np.testing.assert_array_equal(data.ids[data.positions(wanted)], wanted)


def test_unknown_ids_are_named():
    with pytest.raises(InputError, match=r"Unknown id\(s\): 500, -1\. Allowed: ids of the 20"):
        _dataset().positions(np.array([500, _dataset().ids[0], -1]))


def test_an_id_within_a_gap_is_said_to_lie_elsewhere():
    data = _dataset()
    gap = int(np.sort(data.ids)[4])
    with pytest.raises(InputError, match=rf"Unknown id\(s\): {gap}\. .* with gaps\. .*test sample"):
        data.without([gap]).positions([gap])


def test_take_and_without_keep_samples_whole():
    data = _dataset()
    rest = data.without(data.ids[[3, 8]])
    assert len(rest) == 18 and not np.isin(data.ids[[3, 8]], rest.ids).any()
    for part in (rest, data.take(np.array([5, 0, 7])), data.take(data.labels == 2)):
        at = data.positions(part.ids)
        np.testing.assert_array_equal(part.images, data.images[at])
        np.testing.assert_array_equal(part.labels, data.labels[at])
        assert part.num_classes == 4


def test_fingerprint_tells_data_apart():
    data = _dataset()
    images = data.images.copy()
    images[3, 2, 1, 0] ^= 1
    others = [
        Dataset(images, data.labels, data.ids, 4),
        Dataset(data.images, data.labels[::-1], data.ids, 4),
        Dataset(data.images, data.labels, data.ids + 1, 4),
    ]
    prints = {data.fingerprint(), *(other.fingerprint() for other in others)}
    assert len(prints) == 4 and _dataset().fingerprint() == data.fingerprint()


def test_fingerprint_is_one_hash_of_all_bytes(tmp_path):
    """Whatever chunks it is read in, and wherever it lies: saved runs and banks name it."""
    images = np.random.default_rng(1).integers(0, 256, (900, 16, 16, 3), np.uint8)
    labels, ids = (np.arange(900) % 4).astype(np.int32), np.arange(900, dtype=np.int64)
    assert len(list(chunks(images))) > 2
    digest = hashlib.sha256()
    for array in (images, labels, ids):
        digest.update(str((array.dtype.str, array.shape)).encode())
        digest.update(array.tobytes())
    np.save(tmp_path / "images.npy", images)
    on_disk = np.load(tmp_path / "images.npy", mmap_mode="r")
    for same in (images, np.asfortranarray(images), on_disk):
        assert Dataset(same, labels, ids, 4).fingerprint() == digest.hexdigest()
    assert _dataset().take(np.arange(0)).fingerprint() == (
        Dataset(np.zeros((0, 8, 8, 3), np.uint8), labels[:0], ids[:0], 2).fingerprint()
    )


def test_channel_statistics_of_pieces_are_those_of_the_whole():
    images = np.random.default_rng(1).integers(0, 200, (900, 16, 16, 3), np.uint8)
    images[::2, ..., 1] = 255
    found = channel_statistics(images)
    for channel in range(3):
        share = np.bincount(images[..., channel].ravel(), minlength=256) / (900 * 16 * 16)
        mean = share @ (np.arange(256) / 255.0)
        std = np.sqrt(share @ (np.arange(256) / 255.0 - mean) ** 2)
        assert found.mean[channel] == np.float32(mean) and found.std[channel] == np.float32(std)


def test_channel_statistics_are_the_mean_and_deviation():
    images = _dataset().images
    statistics = channel_statistics(images)
    np.testing.assert_allclose(statistics.mean, (images / 255).mean((0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(statistics.std, (images / 255).std((0, 1, 2)), rtol=1e-5)
    assert channel_statistics(np.full((3, 8, 8, 1), 7, np.uint8)).std.tolist() == [1.0]


def test_normalisation_and_back():
    images = _dataset().images
    normalisation = channel_statistics(images)
    seen = jax.jit(Normalisation.apply)(normalisation, images)
    assert seen.dtype == np.float32
    np.testing.assert_allclose(np.asarray(seen).mean((0, 1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(np.asarray(seen).std((0, 1, 2)), 1, atol=1e-5)
    np.testing.assert_allclose(normalisation.invert(seen), images, atol=1e-3)


def test_images_of_true_and_false_are_refused():
    images, labels = np.zeros((20, 8, 8, 1), bool), np.arange(20) % 2
    with pytest.raises(InputError, match=r"255 \* x_train\.astype\('uint8'\)"):
        splits_from_arrays(images, labels)
    with pytest.raises(InputError, match=r"255 \* images\.astype\('uint8'\)"):
        Dataset(images, labels, np.arange(20), 2)
    assert splits_from_arrays(255 * images.astype("uint8"), labels).train.images.dtype == np.uint8


def test_masked_arrays_are_refused():
    images, labels = np.zeros((20, 8, 8), np.uint8), np.repeat([0, 1], 10)
    for given in ((np.ma.masked_array(images), labels), (images, np.ma.masked_array(labels))):
        with pytest.raises(InputError, match=r"_train is a masked array.*_train.filled\(...\)"):
            splits_from_arrays(*given)

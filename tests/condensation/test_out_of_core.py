"""Banks of images and features on disk: the bits of those in memory, and no copy of either."""

import dataclasses
import errno
import os
import tracemalloc

import numpy as np
import pytest
from banks import FEW, Net, assert_same, make_dataset

from dcmu_jax.condensation import (
    build_bank,
    build_clean_bank,
    building,
    extract,
    lineage,
    minibatch,
)
from dcmu_jax.condensation.features import features_for
from dcmu_jax.condensation.inversion import InversionConfig
from dcmu_jax.condensation.statistics import feature_sums
from dcmu_jax.data import Dataset, channel_statistics
from dcmu_jax.errors import InputError
from dcmu_jax.training.classifier import fresh_classifier


@pytest.fixture(scope="module")
def many():
    return make_dataset(n=1100)  # three batches, the last one ragged


@pytest.fixture(scope="module")
def network(many):
    return fresh_classifier(Net(), many, 0)


@pytest.fixture
def on_disk(many, tmp_path):
    return mapped(many, tmp_path / "images.npy")


def mapped(data, path):
    np.save(path, data.images)
    return dataclasses.replace(data, images=np.load(path, mmap_mode="r"))


@pytest.mark.parametrize("method", ["kmeans", "minibatch"])
def test_a_bank_from_disk_is_that_from_memory(
    many, on_disk, network, method, tmp_path, monkeypatch
):
    monkeypatch.setattr(minibatch, "BATCH", 64)
    kinds, cluster_classes = [], building.cluster_classes

    def watched(features, *args, **settings):
        kinds.append(type(features))
        return cluster_classes(features, *args, **settings)

    monkeypatch.setattr(building, "cluster_classes", watched)
    settings = {"clusters_per_class": 6, "method": method, "matching": FEW}
    scratch = tmp_path / "not yet" / "there"
    expected = build_bank(many, network, **settings)
    assert_same(build_bank(on_disk, network, **settings, scratch=scratch), expected)
    assert kinds == [np.ndarray, np.memmap]
    assert not list(scratch.iterdir())


def test_a_clean_bank_from_disk_is_that_from_memory(many, on_disk, tmp_path, monkeypatch):
    reference = make_dataset(seed=9, n=40)
    settings = {"clusters_per_class": 6, "matching": FEW, "seed": 2}
    expected = build_clean_bank(many, Net(), reference=reference, **settings)
    theirs = mapped(reference, tmp_path / "theirs.npy")
    monkeypatch.setattr(lineage, "_CHUNK", 50)  # of some 370 samples of a class
    found = build_clean_bank(on_disk, Net(), reference=theirs, **settings, scratch=tmp_path / "s")
    assert_same(found, expected)
    assert not list((tmp_path / "s").iterdir())


def test_an_error_in_the_middle_leaves_nothing(on_disk, network, tmp_path):
    both = {"matching": FEW, "inversion": InversionConfig()}
    with pytest.raises(InputError, match="Settings of two condensers"):  # features are there
        build_bank(on_disk, network, clusters_per_class=2, **both, scratch=tmp_path / "s")
    assert not list((tmp_path / "s").iterdir())


def test_features_go_where_they_are_told(many, on_disk, network, tmp_path):
    expected = extract(network, many.images)
    path = tmp_path / "features.npy"
    out = np.lib.format.open_memmap(path, "w+", np.float32, expected.shape)
    assert extract(network, on_disk.images, out=out) is out
    out.flush()
    np.testing.assert_array_equal(np.load(path), expected)
    for shape, dtype in ((expected.shape, np.float64), ((1100, 9), np.float32)):
        with pytest.raises(InputError, match=r"out = .*float32 of shape \(1100, 8\)"):
            extract(network, many.images, out=np.zeros(shape, dtype))


def test_a_scratch_folder_without_room(many, network, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(InputError, match=r"scratch = '.*file'.*folder with room"),
        features_for(network, many.images, scratch=tmp_path / "file"),
    ):
        pass

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with (
        pytest.raises(InputError, match=r"35200 bytes of features .*No space left on device"),
        features_for(network, many.images, scratch=tmp_path),
    ):
        pass


def test_memory_is_a_fraction_of_what_is_read(tmp_path):
    n, rng = 12_000, np.random.default_rng(0)
    images = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.uint8, (n, 16, 16, 3))
    for low in range(0, n, 2000):
        images[low : low + 2000] = rng.integers(0, 256, (2000, 16, 16, 3), np.uint8)
    data = Dataset(images, (np.arange(n) % 3).astype(np.int32), np.arange(n), 3)

    def peak(scratch, rows):
        part = Dataset(images[:rows], data.labels[:rows], data.ids[:rows], 3)
        tracemalloc.start()
        try:
            channel_statistics(part.images)
            with features_for(network, part.images, "pixels", scratch) as features:
                feature_sums(features, part.labels, 3)
            part.fingerprint()
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    network = fresh_classifier(Net(), data, 0)
    peak(tmp_path, 500)  # compiles
    assert peak(tmp_path, n) < images.nbytes / 2  # and an eighth of the features
    assert peak(None, n) > 4 * images.nbytes  # what the measure says of features in memory

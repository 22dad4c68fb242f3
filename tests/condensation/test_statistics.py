import numpy as np
import pytest

from dcmu_jax.condensation.statistics import cluster_means, feature_sums, means
from dcmu_jax.data.chunks import chunks
from dcmu_jax.errors import InputError


@pytest.fixture
def features():
    return np.random.default_rng(0).normal(size=(5000, 3)).astype(np.float32)


def test_means_are_the_means(features):
    cluster = np.arange(5000) % 7
    got = cluster_means(features, cluster)
    for j in range(7):
        np.testing.assert_allclose(got[j], features[cluster == j].mean(axis=0), atol=1e-6)
    assert got.dtype == np.float32


def test_sums_do_not_depend_on_the_order_of_samples(features):
    cluster = np.arange(5000) % 7
    huge = features * np.where(np.arange(5000) % 11 == 0, 1e6, 1)[:, None].astype(np.float32)
    order = np.random.default_rng(1).permutation(5000)
    np.testing.assert_array_equal(
        feature_sums(huge[order], cluster[order], 7), feature_sums(huge, cluster, 7)
    )
    one, other = huge[cluster == 0], huge[order][cluster[order] == 0]
    assert (one.sum(axis=0) != other.sum(axis=0)).any()  # why whole numbers are needed


def test_sums_are_those_of_one_row_after_another(tmp_path):
    rng = np.random.default_rng(2)
    features = (rng.normal(size=(3000, 64)) * 1e3).astype(np.float32)
    cluster = rng.integers(0, 9, 3000)
    assert len(list(chunks(features))) == 2
    expected = np.zeros((9, 64), np.int64)
    for row, j in zip(features, cluster, strict=True):
        expected[j] += np.rint(row.astype(np.float64) * 2**24).astype(np.int64)
    on_disk = np.memmap(tmp_path / "features", np.float32, "w+", shape=features.shape)
    on_disk[:] = features
    np.testing.assert_array_equal(feature_sums(features, cluster, 9), expected)
    np.testing.assert_array_equal(feature_sums(on_disk, cluster, 9), expected)


def test_empty_clusters_and_no_samples():
    sums = feature_sums(np.ones((2, 3), np.float32), np.array([2, 2]), 4)
    np.testing.assert_array_equal(means(sums[2:3], np.array([2])), np.ones((1, 3)))
    assert not sums[[0, 1, 3]].any()
    assert feature_sums(np.ones((0, 3), np.float32), np.array([], int), 4).shape == (4, 3)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e13])
def test_features_that_cannot_be_added_up(bad):
    with pytest.raises(InputError, match="finite numbers"):
        feature_sums(np.full((2, 3), bad, np.float32), np.array([0, 1]), 2)

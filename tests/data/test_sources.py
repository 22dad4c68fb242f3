"""``load``: the digits, the synthetic images, names of sources and their options."""

import numpy as np
import pytest

from dcmu_jax.data import load
from dcmu_jax.errors import InputError


def test_digits():
    splits = load("digits")
    assert (splits.name, splits.num_classes, splits.image_shape) == ("digits", 10, (8, 8, 1))
    assert splits.class_names == tuple("0123456789")
    assert len(splits.train) + len(splits.test) == 1797
    assert splits.train.images.dtype == np.uint8 and splits.train.images.max() == 255
    shares = np.bincount(splits.test.labels) / np.bincount(
        np.concatenate([splits.train.labels, splits.test.labels])
    )
    assert np.all(np.abs(shares - 0.2) < 0.005)


def test_ids_of_digits_are_positions_in_the_whole_set():
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    splits = load("digits", test_fraction=0.3)
    for data in (splits.train, splits.test):
        np.testing.assert_array_equal(data.labels, labels[data.ids])
        grey = data.images.reshape(len(data), -1) * (16 / 255)
        np.testing.assert_allclose(grey, pixels[data.ids], atol=0.04)
    everything = np.sort(np.concatenate([splits.train.ids, splits.test.ids]))
    np.testing.assert_array_equal(everything, np.arange(1797))


@pytest.mark.parametrize("source", ["digits", "synthetic:per_class=9,seed=3"])
def test_the_same_source_gives_the_same_bits(source):
    first, again = load(source), load(source)
    assert first.train.fingerprint() == again.train.fingerprint()
    assert first.test.fingerprint() == again.test.fingerprint()


def test_the_cut_of_digits_does_not_change():
    # The ids that users and saved runs name depend on it.
    splits = load("digits")
    assert splits.test.ids[:5].tolist() == [5, 9, 12, 14, 16]


def test_synthetic_options():
    splits = load("synthetic:classes=3,per_class=12,size=9,channels=1,seed=5", test_fraction=0.25)
    assert (splits.name, splits.num_classes, splits.image_shape) == ("synthetic", 3, (9, 9, 1))
    np.testing.assert_array_equal(np.bincount(splits.train.labels), [12] * 3)
    np.testing.assert_array_equal(np.bincount(splits.test.labels), [4] * 3)
    np.testing.assert_array_equal(splits.train.ids, np.arange(36))
    np.testing.assert_array_equal(splits.test.ids, np.arange(36, 48))
    assert not np.all(np.diff(splits.train.labels) >= 0)  # not sorted by class
    other = load("synthetic:classes=3,per_class=12,size=9,channels=1,seed=6")
    assert not np.array_equal(splits.train.images, other.train.images)
    assert not np.array_equal(splits.train.labels, other.train.labels)


def test_synthetic_training_images_do_not_depend_on_the_test_fraction():
    small, large = (load("synthetic:per_class=8", test_fraction=f) for f in (0.1, 0.6))
    assert small.train.fingerprint() == large.train.fingerprint()
    assert len(small.test) < len(large.test)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("seed", range(5))
def test_synthetic_classes_are_easy_to_tell_apart(channels, seed):
    splits = load(f"synthetic:classes=6,per_class=40,size=12,channels={channels},seed={seed}")
    train, test = (d.images.reshape(len(d), -1) / 255 for d in (splits.train, splits.test))
    means = np.stack([train[splits.train.labels == c].mean(0) for c in range(6)])
    distances = ((test[:, None] - means[None]) ** 2).sum(-1)
    assert np.mean(distances.argmin(1) == splits.test.labels) > 0.95
    # and no two images are equal: a sample can be told from the rest of its class
    assert len({image.tobytes() for image in splits.train.images}) == len(splits.train)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("digts", r"Unknown source 'digts'.*Did you mean 'digits'\?"),
        ("cifar", r"Unknown source 'cifar'.*Did you mean 'cifar10'\?"),
        ("", r"Unknown source ''\. Allowed: cifar10, digits, npy, npz, svhn, synthetic, tfds"),
        ("mine.npz", r"Unknown source 'mine\.npz'.*Write npz:mine\.npz"),
        ("npz:", r"Source 'npz:' without a name"),
        ("npz", r"Source 'npz' without a name"),
        ("npy:", r"Source 'npy:' without a name"),
        ("tfds:", r"Source 'tfds:' without a name"),
        ("digits:8", r"digits takes no options"),
        ("cifar10:3", r"cifar10 takes no options"),
        ("synthetic:clases=3", r"Unknown option of synthetic 'clases'.*Did you mean 'classes'"),
        ("synthetic:classes", r"Option 'classes' of synthetic.*classes=a whole number"),
        ("synthetic:classes=two", r"Option 'classes=two' of synthetic"),
        ("synthetic:seed=-1", r"Option 'seed=-1' of synthetic"),
        ("synthetic:classes=1", r"classes = 1\. Allowed: 2 or more"),
        ("synthetic:per_class=0", r"per_class = 0\. Allowed: 1 or more"),
        ("synthetic:size=7", r"size = 7\. Allowed: 8 or more"),
        ("synthetic:channels=2", r"channels = 2\. Allowed: 1 or 3"),
        ("synthetic:classes=" + "9" * 5000, r"Option 'classes=9{72}' of synthetic"),
        ("npz:~nobody of this name/x.npz", r"There is no file ~nobody of this name/x\.npz"),
        ("npy:~nobody of this name/x", r"There is no folder ~nobody of this name/x"),
        ("npz:a\0b", "There is no file"),
        ("npy:a\0b", "There is no folder"),
        ("npz:" + "x" * 300, "There is no file"),
        ("npy:" + "x" * 300, "There is no folder"),
    ],
)
def test_bad_source(source, message):
    with pytest.raises(InputError, match=message):
        load(source)


@pytest.mark.parametrize("source", ["digits", "synthetic"])
def test_bad_test_fraction(source):
    with pytest.raises(InputError, match=r"test_fraction = 1\.5"):
        load(source, test_fraction=1.5)

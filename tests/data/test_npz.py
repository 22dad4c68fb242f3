"""Archives of a user's own: what is read, and that every bad one is refused by its own message."""

import re

import numpy as np
import pytest
from bad_archives import BAD_ARCHIVES, good_arrays
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dcmu_jax.data import load, splits_from_arrays
from dcmu_jax.errors import InputError


def _load(tmp_path, arrays, **options):
    np.savez(tmp_path / "mine.npz", **arrays)
    return load(f"npz:{tmp_path / 'mine.npz'}", **options)


def test_arrays_arrive_as_they_are(tmp_path):
    arrays = good_arrays()
    splits = _load(tmp_path, arrays)
    for data, split in ((splits.train, "train"), (splits.test, "test")):
        np.testing.assert_array_equal(data.images, arrays[f"x_{split}"])
        np.testing.assert_array_equal(data.labels, arrays[f"y_{split}"])
        assert (data.images.dtype, data.labels.dtype, data.ids.dtype) == (
            np.uint8,
            np.int32,
            np.int64,
        )
    np.testing.assert_array_equal(splits.train.ids, np.arange(24))
    np.testing.assert_array_equal(splits.test.ids, np.arange(24, 33))
    assert (splits.name, splits.num_classes, splits.image_shape) == ("mine", 3, (8, 10, 3))
    assert splits.class_names == ("0", "1", "2")


def test_ids_are_kept_and_test_ids_follow_the_largest(tmp_path):
    ids = np.random.default_rng(0).permutation(1000)[:24]
    splits = _load(tmp_path, {**good_arrays(), "ids": ids.astype(np.uint16)})
    np.testing.assert_array_equal(splits.train.ids, ids)
    np.testing.assert_array_equal(splits.test.ids, ids.max() + 1 + np.arange(9))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floats_are_rounded_to_8_bits(tmp_path, dtype):
    arrays = good_arrays()
    for offset in (-0.3, 0, 0.3):  # to the nearest of the 256 values
        floats = {
            name: np.clip((arrays[name] + offset) / 255, 0, 1).astype(dtype)
            for name in ("x_train", "x_test")
        }
        splits = _load(tmp_path, {**arrays, **floats})
        np.testing.assert_array_equal(splits.train.images, arrays["x_train"])
        np.testing.assert_array_equal(splits.test.images, arrays["x_test"])


def test_grey_images_without_a_channel_axis(tmp_path):
    arrays = good_arrays()
    for name in ("x_train", "x_test"):
        arrays[name] = arrays[name][..., 0]
    splits = _load(tmp_path, arrays)
    assert splits.image_shape == (8, 10, 1)
    np.testing.assert_array_equal(splits.train.images[..., 0], arrays["x_train"])


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint64, np.float32, bool])
def test_whole_labels_of_any_type(tmp_path, dtype):
    labels = (np.arange(24) % 2).astype(dtype)
    splits = _load(tmp_path, {**good_arrays(), "y_train": labels, "y_test": np.arange(9) % 2})
    np.testing.assert_array_equal(splits.train.labels, np.arange(24) % 2)


def test_without_test_arrays_a_stratified_set_is_cut_off(tmp_path):
    arrays = good_arrays()
    labels = np.array([0] * 12 + [1] * 10 + [2] * 2)
    arrays = {"x_train": arrays["x_train"], "y_train": labels, "ids": np.arange(24) * 10}
    splits = _load(tmp_path, arrays, test_fraction=0.25)
    np.testing.assert_array_equal(np.bincount(splits.test.labels), [3, 2, 1])
    np.testing.assert_array_equal(np.bincount(splits.train.labels), [9, 8, 1])
    both = np.concatenate([splits.train.ids, splits.test.ids])
    np.testing.assert_array_equal(np.sort(both), arrays["ids"])
    for data in (splits.train, splits.test):
        np.testing.assert_array_equal(data.images, arrays["x_train"][data.ids // 10])
        np.testing.assert_array_equal(data.labels, labels[data.ids // 10])
        assert np.all(np.diff(data.ids) > 0)
    again = _load(tmp_path, arrays, test_fraction=0.25)
    assert again.test.fingerprint() == splits.test.fingerprint()


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, float("nan")])
def test_test_fraction_is_checked(tmp_path, fraction):
    arrays = {name: good_arrays()[name] for name in ("x_train", "y_train")}
    with pytest.raises(InputError, match=r"test_fraction = .*strictly between 0 and 1"):
        _load(tmp_path, arrays, test_fraction=fraction)


@pytest.mark.parametrize("kind", BAD_ARCHIVES)
def test_bad_archive_is_refused(tmp_path, kind):
    write, message = BAD_ARCHIVES[kind]
    path = tmp_path / "bad.npz"
    write(path)
    with pytest.raises(InputError) as caught:
        load(f"npz:{path}")
    assert re.search(message, str(caught.value)), str(caught.value)
    assert caught.value.allowed and caught.value.remedy


def test_an_unreadable_file(tmp_path, monkeypatch):
    path = tmp_path / "locked.npz"
    np.savez(path, **good_arrays())

    def refuse(*_args, **_kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(path), "open", refuse)
    with pytest.raises(InputError, match=r"cannot be read \(Permission denied\)"):
        load(f"npz:{path}")


def test_class_names_must_fit():
    arrays = good_arrays()
    splits = splits_from_arrays(**arrays, class_names=["cat", "dog", "owl"], name="pets")
    assert (splits.class_names, splits.name) == (("cat", "dog", "owl"), "pets")
    with pytest.raises(InputError, match=r"2 class names.*3, one for each"):
        splits_from_arrays(**arrays, class_names=["cat", "dog"])


@settings(
    max_examples=60,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    prefix=st.sampled_from([b"", b"PK\x03\x04", b"PK\x05\x06", b"\x93NUMPY\x01\x00"]),
    content=st.binary(max_size=300),
)
def test_arbitrary_bytes_raise_only_input_errors(tmp_path, prefix, content):
    path = tmp_path / "any.npz"
    path.write_bytes(prefix + content)
    with pytest.raises(InputError):
        load(f"npz:{path}")


@settings(
    max_examples=100,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(at=st.integers(0, 20_000), value=st.integers(0, 255), cut=st.integers(0, 400))
def test_damaged_archives_raise_only_input_errors(tmp_path, at, value, cut):
    path = tmp_path / "damaged.npz"
    np.savez(path, **good_arrays())
    content = bytearray(path.read_bytes())
    content[at % len(content)] = value
    path.write_bytes(content[: len(content) - cut])
    try:
        load(f"npz:{path}")  # a byte may have kept its value, or be one that nothing reads
    except InputError:
        pass

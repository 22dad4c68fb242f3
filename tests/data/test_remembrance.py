"""Remembrance samples: how many, which, and that one of each class stays for evaluation."""

import importlib.util
import re

import numpy as np
import pytest

from dcmu_jax.data import Dataset, allowed_remembrance, parse_request, remembrance_samples
from dcmu_jax.data import remembrance as remembrance_module
from dcmu_jax.errors import InputError


def _test_set(counts=(7, 5, 9)) -> Dataset:
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.repeat(np.arange(len(counts)), counts)).astype(np.int32)
    images = rng.integers(0, 256, (len(labels), 8, 8, 1), np.uint8)
    return Dataset(images, labels, 500 + np.arange(len(labels), dtype=np.int64), len(counts))


@pytest.mark.parametrize("method", ["first", "random"])
def test_as_many_of_each_class_and_one_stays(method):
    test = _test_set()
    chosen = remembrance_samples(test, 4, method=method, seed=0)
    np.testing.assert_array_equal(np.bincount(chosen.labels), [4, 4, 4])
    left = test.without(chosen.ids)
    assert len(left) == len(test) - 12 and np.all(np.bincount(left.labels) >= 1)
    at = test.positions(chosen.ids)
    assert np.all(np.diff(at) > 0)
    np.testing.assert_array_equal(test.images[at], chosen.images)


def test_first_is_the_order_of_the_split():
    test = _test_set()
    chosen = remembrance_samples(test, 2, method="first", seed=0)
    seen: dict[int, list[int]] = {}
    for label, name in zip(test.labels, test.ids, strict=True):
        seen.setdefault(int(label), []).append(int(name))
    expected = sorted(name for names in seen.values() for name in names[:2])
    assert chosen.ids.tolist() == expected
    other_seed = remembrance_samples(test, 2, method="first", seed=9)
    np.testing.assert_array_equal(chosen.ids, other_seed.ids)


def test_random_is_drawn_by_seed():
    test = _test_set((30, 30, 30))
    draws = [remembrance_samples(test, 5, method="random", seed=s).ids for s in (0, 0, 1)]
    np.testing.assert_array_equal(draws[0], draws[1])
    assert not np.array_equal(draws[0], draws[2])
    assert not np.array_equal(draws[0], remembrance_samples(test, 5, method="first", seed=0).ids)
    larger = remembrance_samples(test, 8, method="random", seed=0).ids
    assert np.isin(draws[0], larger).all()


@pytest.mark.parametrize(
    ("counts", "per_class", "message"),
    [
        ((7, 5, 9), 5, r"class 1 has only 5 test samples\. Allowed: 1\.\.4 per class"),
        ((7, 5, 9), 50, r"50 remembrance samples per class, but class 1 has only 5"),
        ((7, 1, 9), 1, r"class 1 has only 1 test samples\. Allowed: test sets with 2 samples"),
        ((7, 5, 0), 1, r"class 2 has only 0 test samples"),
        ((7, 5, 9), 0, r"per_class = 0\. Allowed: 1 or more"),
        ((7, 5, 9), -2, r"per_class = -2"),
    ],
)
def test_too_many(counts, per_class, message):
    for method in ("first", "random"):
        with pytest.raises(InputError, match=message):
            remembrance_samples(_test_set(counts), per_class, method=method, seed=0)


@pytest.mark.parametrize("counts", [(7, 5, 9), (2, 5, 9)])
def test_what_is_advised_is_enough(counts):
    with pytest.raises(InputError, match="Lower --many to") as caught:
        remembrance_samples(_test_set(counts), 50, method="first", seed=0, setting="--many")
    most = int(re.search(r"--many to (\d+)", caught.value.remedy)[1])
    assert most == min(counts) - 1
    remembrance_samples(_test_set(counts), most, method="first", seed=0)
    with pytest.raises(InputError, match="Add test samples of class 1"):
        remembrance_samples(_test_set((7, 1, 9)), 1, method="first", seed=0)


def test_unknown_method():
    # Imported once more without the type checks of the test run, which would speak first.
    spec = importlib.util.spec_from_file_location("unchecked", remembrance_module.__file__)
    unchecked = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(unchecked)
    with pytest.raises(InputError, match=r"Unknown remembrance method 'fist'.*'first'"):
        unchecked.remembrance_samples(_test_set(), 1, method="fist", seed=0)


def test_wholly_forgotten_classes_are_not_remembered():
    test = _test_set()
    remembrance = remembrance_samples(test, 2, method="random", seed=0)
    train = Dataset(np.zeros((9, 8, 8, 1), np.uint8), np.arange(9, dtype=np.int32) % 3,
                    np.arange(9), 3)  # fmt: skip
    allowed = allowed_remembrance(remembrance, parse_request("class:1+random:0.3", train, 0))
    np.testing.assert_array_equal(allowed.ids, remembrance.ids[remembrance.labels != 1])
    kept = allowed_remembrance(remembrance, parse_request("random:0.2", train, 0))
    np.testing.assert_array_equal(kept.ids, remembrance.ids)

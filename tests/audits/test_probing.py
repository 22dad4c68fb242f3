"""Probes on features of which the answer is known, and on what they are fitted to."""

import dataclasses

import flax.linen as nn
import numpy as np
import pytest
from toys import fresh, toy_splits

from dcmu_jax.audits.probing import knn_probe, linear_probe, probe_samples
from dcmu_jax.data.dataset import Dataset
from dcmu_jax.errors import InputError


class Through(nn.Module):
    def __call__(self, x):
        return x.reshape(x.shape[0], -1)


class Bare(nn.Module):
    """Its features are the normalised pixels."""

    def setup(self):
        self.beginning, self.intermediate, self.final = Through(), Through(), nn.Dense(3)


class Overflow(nn.Module):
    def __call__(self, x):
        return 1e38 * (1 + x**2) * 1e38


class Overflowing(Bare):
    """Its features are infinite."""

    def setup(self):
        self.beginning, self.intermediate, self.final = Through(), Overflow(), nn.Dense(3)


def dataset(per_class, seed, first_id=0):
    """Three classes, each bright in a corner of its own: separable, far apart."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(3, dtype=np.int32), per_class)
    images = rng.integers(0, 100, (len(labels), 2, 2, 1)).astype(np.uint8)
    images[np.arange(len(labels)), labels // 2, labels % 2, 0] += 150
    ids = first_id + np.arange(len(labels), dtype=np.int64)
    return Dataset(images, labels, ids, 3)


@pytest.fixture(scope="module")
def train():
    return dataset(20, 0)


@pytest.fixture(scope="module")
def test():
    return dataset(10, 1, 1000)


@pytest.fixture(scope="module")
def network(train):
    return fresh(Bare(), train)


def ids_of(samples):
    return [part.ids for part in (samples.fitted, samples.forgotten, samples.rest)]


def test_no_sample_is_fitted_and_scored(train, test):
    gone = train.ids[train.labels == 1]
    samples = probe_samples(train, gone, test)
    fitted, forgotten, rest = ids_of(samples)
    assert len(np.unique(np.concatenate([fitted, forgotten, rest]))) == 50 + 20 + 20
    assert np.isin(fitted, train.ids).all() and np.isin(fitted, gone).sum() == 10
    assert (samples.forgotten.labels == 1).all() and np.isin(forgotten, gone).sum() == 10
    assert (samples.rest.labels != 1).all() and np.isin(rest, test.ids).all()
    np.testing.assert_array_equal(samples.unseen, np.isin(forgotten, test.ids))


def test_forgotten_samples_leave_their_class(train, test):
    gone = train.ids[::7]
    fitted, forgotten, rest = ids_of(probe_samples(train, gone, test))
    assert (
        np.isin(forgotten, gone).all() and len(forgotten) == 5 and np.isin(fitted, gone).sum() == 4
    )
    np.testing.assert_array_equal(np.sort(rest), test.ids)


def test_the_excess_is_that_of_forgotten_over_unseen_images(train, test, network):
    # Unseen images of the class as dark as class 0 is where class 1 is bright: none is recognised.
    swapped = test.images.copy()
    swapped[test.labels == 1] = test.images[test.labels == 0]
    samples = probe_samples(
        train, train.ids[train.labels == 1], dataclasses.replace(test, images=swapped)
    )
    for probe in (linear_probe, knn_probe):
        found = probe(network, samples)
        assert (found.forgotten, found.excess) == (50.0, 100.0)
    nowhere = linear_probe(network, probe_samples(train, train.ids[::7], test))
    assert nowhere.excess is None


def test_a_limit_keeps_the_proportion(train, test):
    gone = train.ids[train.labels == 1]
    samples = probe_samples(train, gone, test, limit=25)
    fitted, forgotten, rest = ids_of(samples)
    assert len(fitted) == 25 and np.isin(fitted, gone).sum() == 5
    assert len(forgotten) == len(rest) == 20
    assert len(probe_samples(train, gone, test, limit=2).fitted) == 2
    again = probe_samples(train, gone, test, limit=25)
    other = probe_samples(train, gone, test, limit=25, seed=1)
    for a, b in zip(ids_of(samples), ids_of(again), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(ids_of(other)[0], fitted)


@pytest.mark.parametrize("probe", [linear_probe, knn_probe])
def test_separable_features_are_told_apart(train, test, network, probe):
    samples = probe_samples(train, train.ids[train.labels == 1], test)
    found = probe(network, samples)
    assert (found.forgotten, found.rest) == (100.0, 100.0)
    assert (found.fitted, found.scored) == (50, 40)
    assert probe(network, samples) == found


@pytest.mark.parametrize("probe", [linear_probe, knn_probe])
def test_features_that_know_nothing_do_not(train, test, network, probe):
    def grey(part):
        return dataclasses.replace(part, images=np.full_like(part.images, 9))

    samples = probe_samples(grey(train), train.ids[train.labels == 1], grey(test))
    assert probe(network, samples).forgotten == 0  # the smallest class among those fitted


def test_neighbours_are_those_of_brute_force():
    splits = toy_splits(per_class=30)
    noise = np.random.default_rng(0).integers(0, 256, splits.train.images.shape).astype(np.uint8)
    train = dataclasses.replace(splits.train, images=noise)
    network = fresh(Bare(), train)
    samples = probe_samples(train, train.ids[train.labels == 0], splits.test)
    x, scored = (network.features(p.images) for p in (samples.fitted, samples.rest))
    cosine = scored @ x.T / np.linalg.norm(x, axis=1) / np.linalg.norm(scored, axis=1)[:, None]
    nearest = np.argsort(-cosine, axis=1)[:, :3]
    votes = [np.bincount(row, minlength=3).argmax() for row in samples.fitted.labels[nearest]]
    expected = 100 * np.mean(votes == samples.rest.labels)
    assert knn_probe(network, samples, neighbours=3).rest == pytest.approx(expected)
    assert 0 < expected < 100


def test_refusals(train, test, network):
    samples = probe_samples(train, train.ids[:20], test)
    with pytest.raises(InputError, match="A vote of 51 neighbours among 50 fitted"):
        knn_probe(network, samples, neighbours=51)
    with pytest.raises(InputError, match="strength = 0"):
        linear_probe(network, samples, strength=0.0)
    with pytest.raises(InputError, match="A probe for 1 forgotten samples of 60"):
        probe_samples(train, train.ids[:1], test)
    with pytest.raises(InputError, match="with 0 test images of classes that stay"):
        probe_samples(train, train.ids[:20], test.take(test.labels == 0))
    with pytest.raises(InputError, match="limit = 1"):
        probe_samples(train, train.ids[:20], test, limit=1)
    one = dataclasses.replace(samples, fitted=samples.fitted.take(samples.fitted.labels == 1))
    with pytest.raises(InputError, match="samples of one class"):
        linear_probe(network, one)
    broken = dataclasses.replace(network, model=Overflowing())
    for probe in (linear_probe, knn_probe):
        with pytest.raises(InputError, match="Features of shape"):
            probe(broken, samples)

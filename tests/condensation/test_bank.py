import dataclasses

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest

from dcmu_jax.condensation import CondensedBank, MatchingConfig, build_bank, recondense
from dcmu_jax.data.dataset import Dataset
from dcmu_jax.errors import InputError
from dcmu_jax.training.classifier import fresh_classifier

FEW = MatchingConfig(steps=8, learning_rate=0.01)


class Stage(nn.Module):
    width: int

    @nn.compact
    def __call__(self, x):
        return nn.tanh(nn.Dense(self.width)(x.reshape(x.shape[0], -1)))


class Net(nn.Module):
    def setup(self):
        self.beginning, self.intermediate, self.final = Stage(16), Stage(8), nn.Dense(3)


def make_dataset(seed=0, n=60):
    rng = np.random.default_rng(seed)
    return Dataset(
        images=rng.integers(0, 256, (n, 6, 6, 1), dtype=np.uint8),
        labels=rng.permutation(np.arange(n) % 3).astype(np.int32),
        ids=1000 + rng.permutation(n).astype(np.int64),
        num_classes=3,
    )


@pytest.fixture(scope="module")
def dataset():
    return make_dataset()


@pytest.fixture(scope="module")
def classifier(dataset):
    return fresh_classifier(Net(), dataset, 0)


@pytest.fixture(scope="module")
def bank(dataset, classifier):
    return build_bank(dataset, classifier, clusters_per_class=6, matching=FEW, seed=0)


def assert_same(one, other):
    for field in dataclasses.fields(CondensedBank):
        a, b = getattr(one, field.name), getattr(other, field.name)
        np.testing.assert_array_equal(a, b, err_msg=field.name)
        assert np.asarray(a).dtype == np.asarray(b).dtype


def test_what_a_bank_holds(bank, dataset, classifier):
    assert bank.images.shape == (18, 6, 6, 1) and bank.images.dtype == np.float32
    np.testing.assert_array_equal(bank.ids, dataset.ids)
    np.testing.assert_array_equal(bank.labels[bank.cluster], dataset.labels)
    np.testing.assert_array_equal(np.bincount(bank.cluster), bank.sizes)
    assert (bank.final_loss <= bank.initial_loss + 1e-6).all()
    for j in np.flatnonzero(bank.sizes > 1):
        at = bank.cluster == j
        x = classifier.normalisation.apply(dataset.images[at])
        image = classifier.normalisation.invert(
            jnp.sum(bank.weights[at][:, None, None, None] * x, axis=0)
        )
        np.testing.assert_allclose(bank.images[j], image, atol=1e-3)
    again = build_bank(dataset, classifier, clusters_per_class=6, matching=FEW, seed=0)
    assert_same(bank, again)


def test_round_trip(bank, dataset, classifier, tmp_path):
    path = tmp_path / "bank.npz"
    bank.save(path)
    bank.save(path)  # over an older one
    assert [p.name for p in tmp_path.iterdir()] == ["bank.npz"]
    loaded = CondensedBank.load(path)
    assert_same(bank, loaded)
    loaded.check(dataset, classifier)


def test_a_bank_of_something_else(bank, dataset, classifier):
    other = dataclasses.replace(dataset, images=dataset.images ^ np.uint8(1))
    with pytest.raises(InputError, match="another training set"):
        bank.check(other)
    with pytest.raises(InputError, match="another model"):
        bank.check(dataset, fresh_classifier(Net(), dataset, 1))


def test_bad_files(bank, tmp_path):
    path = tmp_path / "bank.npz"
    with pytest.raises(InputError, match="No condensed bank"):
        CondensedBank.load(path)
    bank.save(path)
    whole = path.read_bytes()
    np.save(tmp_path / "array.npy", bank.weights)
    for content in (b"", b"not an archive", whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(InputError, match="cannot be read"):
            CondensedBank.load(path)
    with pytest.raises(InputError, match="cannot be read"):
        CondensedBank.load(tmp_path / "array.npy")

    def broken(**changes):
        arrays = dataclasses.asdict(bank) | changes
        np.savez(path, **{k: v for k, v in arrays.items() if v is not None})
        return path

    for changes, message in (
        ({"weights": None}, "no array weights"),
        ({"weights": bank.weights.astype(object)}, "cannot be read"),
        ({"weights": bank.weights.astype(np.float64)}, "weights is float64"),
        ({"images": bank.images[:, :, :, 0]}, "images is float32 of rank 3"),
        ({"images": bank.images * np.nan}, "not finite"),
        ({"labels": bank.labels[:-1]}, "lengths differ"),
        ({"cluster": bank.cluster + np.int32(1)}, "not within 0..17"),
        ({"sizes": bank.sizes[::-1]}, "do not count"),
        ({"ids": bank.ids * 0}, "ids occur twice"),
        ({"data_fingerprint": np.float32(3.0)}, "not a string"),
    ):
        with pytest.raises(InputError, match=message):
            CondensedBank.load(broken(**changes))


def test_a_failed_save_leaves_the_old_file(bank, tmp_path, monkeypatch):
    path = tmp_path / "bank.npz"
    bank.save(path)
    whole = path.read_bytes()

    def fail(file, **arrays):
        file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(np, "savez", fail)
    with pytest.raises(OSError, match="disk full"):
        bank.save(path)
    assert path.read_bytes() == whole and len(list(tmp_path.iterdir())) == 1


def request(bank):
    """One cluster emptied, one thinned by half, one left with a single sample."""
    large = np.argsort(-bank.sizes, kind="stable")[:3]
    emptied, halved, single = (np.flatnonzero(bank.cluster == j) for j in large)
    return bank.ids[np.concatenate([emptied, halved[::2], single[1:]])]


@pytest.mark.parametrize("warm", [True, False])
def test_recondense(bank, dataset, classifier, warm):
    forget = request(bank)
    new = recondense(bank, dataset, classifier, forget, FEW, warm=warm)
    left = dataset.without(forget)
    new.check(left, classifier)
    assert len(new.labels) == len(bank.labels) - 1
    np.testing.assert_array_equal(new.labels[new.cluster], left.labels)
    np.testing.assert_array_equal(np.bincount(new.cluster), new.sizes)
    old = bank.cluster[dataset.positions(new.ids)]
    for j in range(len(new.labels)):
        at = new.cluster == j
        (before,) = np.unique(old[at])
        untouched = bank.sizes[before] == new.sizes[j]
        if untouched:
            np.testing.assert_array_equal(new.images[j], bank.images[before])
            np.testing.assert_array_equal(
                new.weights[at], bank.weights[dataset.positions(new.ids[at])]
            )
        else:
            assert new.final_loss[j] <= new.initial_loss[j]
            target = classifier.features(left.images[at]).mean(axis=0)
            got = classifier.features(new.images[j][None])[0]
            loss = np.sum((got - target) ** 2)
            np.testing.assert_allclose(new.final_loss[j], loss, rtol=1e-3, atol=1e-7)
        if new.sizes[j] == 1:
            np.testing.assert_array_equal(new.images[j], left.images[at][0])
            assert new.weights[at] == 1


@pytest.mark.parametrize("warm", [True, False])
def test_forgotten_pixels_do_not_enter(bank, dataset, classifier, warm):
    forget = request(bank)
    images = dataset.images.copy()
    images[dataset.positions(forget)] ^= np.uint8(255)
    touched = np.unique(bank.cluster[dataset.positions(forget)])
    stale = bank.images.copy()
    stale[touched] = -1.0
    changed = recondense(
        dataclasses.replace(bank, images=stale),
        dataclasses.replace(dataset, images=images),
        classifier,
        forget,
        FEW,
        warm=warm,
    )
    assert_same(recondense(bank, dataset, classifier, forget, FEW, warm=warm), changed)
    if not warm:  # nor do the weights from the time before
        other = bank.weights.copy()
        other[np.isin(bank.cluster, touched)] = 0.25
        strict = dataclasses.replace(bank, weights=other)
        assert_same(changed, recondense(strict, dataset, classifier, forget, FEW, warm=False))


def test_recondense_of_whole_clusters_and_of_nothing_left(bank, dataset, classifier):
    new = recondense(bank, dataset, classifier, bank.ids[bank.cluster == 4], FEW)
    np.testing.assert_array_equal(new.images, np.delete(bank.images, 4, axis=0))
    with pytest.raises(InputError, match="every sample"):
        recondense(bank, dataset, classifier, bank.ids, FEW)
    with pytest.raises(InputError, match="Unknown id"):
        recondense(bank, dataset, classifier, np.array([5]), FEW)
    with pytest.raises(InputError, match="other ids"):
        recondense(bank, dataset.take(np.arange(5, 60)), classifier, bank.ids[:1], FEW)


def test_cancelling_weights_restart_evenly(bank, dataset, classifier):
    j = int(np.argmax(bank.sizes))
    at = np.flatnonzero(bank.cluster == j)
    weights = bank.weights.copy()
    weights[at] = np.where(np.arange(len(at)) % 2, 1.0, -1.0)
    weights[at[-1]] -= weights[at[1:]].sum() - 0.01
    bad = dataclasses.replace(bank, weights=weights)
    still = MatchingConfig(steps=0)
    new = recondense(bad, dataset, classifier, bank.ids[at[:1]], still)
    kept = np.isin(new.ids, bank.ids[at])
    np.testing.assert_allclose(new.weights[kept], 1 / (len(at) - 1), rtol=1e-6)

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from banks import FEW, Net, assert_same

from dcmu_jax.condensation import CondensedBank, build_bank
from dcmu_jax.errors import InputError
from dcmu_jax.training.classifier import fresh_classifier


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
        ({"feature_sums": bank.feature_sums[:-1]}, "lengths differ"),
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

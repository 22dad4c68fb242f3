"""What holds for every condenser of the registry; condensed images as files; the registry."""

import flax.linen as nn
import numpy as np
import pytest
from toys import fresh, toy_splits

from dcmu_jax.condensation import condenser as module
from dcmu_jax.condensation.condenser import CondensedImages, network_or_convnet
from dcmu_jax.condensation.inversion import InversionConfig
from dcmu_jax.condensation.registry import CONDENSERS, condenser
from dcmu_jax.errors import InputError
from dcmu_jax.networks import ConvNet
from dcmu_jax.training.classifier import Classifier

# Their iterations are tested, determinism included, in files of their own.
SETTINGS: dict[str, dict] = {name: {"iterations": 0} for name in ("dm", "dc", "dsa")}
SETTINGS["inversion"] = {
    "inversion": InversionConfig(network="mlp", hidden=8, epochs=20, warm_start=10)
}
WITHOUT_CHANCE = {"k_center", "herding"}
TRAIN = toy_splits(per_class=10).train


class Part(nn.Module):
    width: int

    @nn.compact
    def __call__(self, x):
        return nn.tanh(nn.Dense(self.width)(x.reshape(x.shape[0], -1)))


class Net(nn.Module):
    def setup(self):
        self.beginning, self.intermediate, self.final = Part(8), Part(5), nn.Dense(3)


CLASSIFIER = fresh(Net(), TRAIN)


def condense(name, dataset=TRAIN, count=2, **options):
    method = condenser(name)(**SETTINGS.get(name, {}))
    return method(dataset, count, **{"classifier": CLASSIFIER, **options})


@pytest.mark.parametrize("name", CONDENSERS)
def test_class_after_class_and_the_same_by_seed(name):
    first, again, other = (condense(name, seed=s) for s in (3, 3, 4))
    assert first.images.shape == (6, 8, 8, 1) and first.images.dtype == np.float32
    assert first.labels.dtype == np.int32 and first.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert first.images_per_class == 2
    np.testing.assert_array_equal(first.images, again.images)
    assert np.array_equal(first.images, other.images) == (name in WITHOUT_CHANCE)
    # Pixels, not network inputs.
    assert first.images.max() > 20 and np.isfinite(first.images).all()


@pytest.mark.parametrize("name", CONDENSERS)
def test_a_class_without_samples_gets_no_images(name):
    some = TRAIN.take(TRAIN.labels != 1)
    assert condense(name, some).labels.tolist() == [0, 0, 2, 2]


@pytest.mark.parametrize("name", CONDENSERS)
def test_too_many_and_too_few_are_refused(name):
    few = TRAIN.take(np.flatnonzero((TRAIN.labels != 2) | (np.cumsum(TRAIN.labels == 2) <= 2)))
    with pytest.raises(InputError, match=r"3 images per class.*class 2 has 2 samples.*1\.\.2"):
        condense(name, few, 3)
    with pytest.raises(InputError, match="images_per_class = 0"):
        condense(name, count=0)
    with pytest.raises(InputError, match="No samples to condense"):
        condense(name, TRAIN.take(np.zeros(0, int)))


def test_an_unknown_name():
    with pytest.raises(InputError, match=r"Unknown condenser 'herdin'.*Did you mean 'herding'"):
        condenser("herdin")


def test_the_network_that_is_taken_where_none_is_given(monkeypatch):
    def uninitialised(model, dataset, seed):
        return Classifier(model, {"params": {}}, CLASSIFIER.normalisation, (8, 8, 1))

    monkeypatch.setattr(module, "fresh_classifier", uninitialised)
    network = network_or_convnet(TRAIN, None)
    assert isinstance(network.model, ConvNet) and network.model.num_classes == 3
    assert network_or_convnet(TRAIN, CLASSIFIER) is CLASSIFIER


def test_saved_and_loaded(tmp_path):
    condensed = condense("random")
    condensed.save(tmp_path / "set.npz")
    back = CondensedImages.load(tmp_path / "set.npz")
    np.testing.assert_array_equal(back.images, condensed.images)
    np.testing.assert_array_equal(back.labels, condensed.labels)
    assert [path.name for path in tmp_path.iterdir()] == ["set.npz"]


@pytest.mark.parametrize("damage", [b"", b"no archive"])
def test_damaged_files_are_refused(tmp_path, damage):
    path = tmp_path / "set.npz"
    with pytest.raises(InputError, match=r"No set of condensed images.*Condense again"):
        CondensedImages.load(path)
    path.write_bytes(damage)
    with pytest.raises(InputError, match=r"set\.npz cannot be read.*Condense again"):
        CondensedImages.load(path)
    np.savez(path, images=np.zeros((1, 8, 8, 1), np.float32))
    with pytest.raises(InputError, match="labels"):
        CondensedImages.load(path)
    np.savez(path, images=np.zeros((2, 8, 8, 1), np.float32), labels=np.zeros(1, np.int32))
    with pytest.raises(InputError, match=r"images of \(2, 8, 8, 1\), labels of \(1,\)"):
        CondensedImages.load(path)

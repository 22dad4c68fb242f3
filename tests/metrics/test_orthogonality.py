"""The orthogonality conditions on gradients known by hand and by autodiff."""

import dataclasses

import flax.linen as nn
import jax
import numpy as np
import pytest
from toys import Noisy, Plain, fresh, toy_splits

from dcmu_jax.data.dataset import Dataset, Normalisation
from dcmu_jax.errors import InputError
from dcmu_jax.metrics.orthogonality import orthogonality
from dcmu_jax.networks.partition import apply_parts
from dcmu_jax.training.classifier import fresh_classifier
from dcmu_jax.training.examples import cross_entropy

TRAIN = toy_splits(classes=3, per_class=6).train
RETAIN, FORGET = TRAIN.take(np.arange(2, 18)), TRAIN.take(np.arange(2))


def _flat(x):
    return x.reshape(len(x), -1)


class Linear(nn.Module):
    """At zero parameters the gradient of a two-pixel image x of class 0 is (-x, x) / 2."""

    def setup(self):
        self.beginning, self.intermediate = nn.Sequential([_flat]), nn.Sequential([_flat])
        self.final = nn.Dense(2, use_bias=False, kernel_init=nn.initializers.zeros)


def images(pixels, label=0):
    array = np.array(pixels, np.uint8).reshape(-1, 1, 2, 1)
    count = len(array)
    return Dataset(array, np.full(count, label, np.int32), np.arange(count), 2)


def linear(kernel=None):
    plain = Normalisation(np.zeros(1, np.float32), np.ones(1, np.float32))
    network = fresh_classifier(Linear(), images([[1, 0]]), 0, plain)
    if kernel is None:
        return network
    variables = {"params": {"final": {"kernel": np.array(kernel, np.float32)}}, "batch_stats": {}}
    return dataclasses.replace(network, variables=variables)


@pytest.mark.parametrize(
    ("forget", "label", "cosine", "dot"),
    [
        ([[51, 0]], 0, 1, 0.1),  # (-1, 1, 0, 0) / 2 times (-0.2, 0.2, 0, 0) / 2
        ([[51, 0]], 1, -1, -0.1),
        ([[0, 51]], 0, 0, 0),
    ],
)
def test_known_angles(forget, label, cosine, dot):
    found = orthogonality(linear(), images([[255, 0]]), images(forget, label))
    assert found.cosine == pytest.approx(cosine, abs=1e-6)
    assert found.dot == pytest.approx(dot, abs=1e-6)
    assert found.retain_norm == pytest.approx(0.5**0.5)
    assert found.forget_norm == pytest.approx(0.2 * 0.5**0.5)


def test_a_zero_gradient_has_no_angle():
    found = orthogonality(linear(), images([[255, 0]]), images([[0, 0]]))
    assert found.dot == found.forget_norm == 0
    assert np.isnan(found.cosine)


def test_tiny_gradients_have_one():
    # A margin of 60: the gradient is about exp(-60), whose square is below float32.
    confident = linear([[60.0, 0.0], [0.0, 0.0]])
    found = orthogonality(confident, images([[255, 0]]), images([[255, 255]]))
    assert 0 < found.retain_norm < 1e-25
    assert found.cosine == pytest.approx(0.5**0.5, rel=1e-3)


def gradient(classifier, dataset):
    def loss(params):
        variables = {**classifier.variables, "params": params}
        x = classifier.normalisation.apply(dataset.images)
        logits, _ = apply_parts(classifier.model, variables, x)
        return cross_entropy(logits, jax.numpy.asarray(dataset.labels)).mean()

    leaves = jax.tree.leaves(jax.jit(jax.grad(loss))(classifier.variables["params"]))
    return np.concatenate([np.ravel(x) for x in leaves]).astype(float)


def test_each_condition_takes_its_own_networks():
    before, after = fresh(Noisy(), TRAIN, seed=0), fresh(Noisy(), TRAIN, seed=1)
    nineteen = orthogonality(after, RETAIN, FORGET, batch_size=5)
    twenty = orthogonality(after, RETAIN, FORGET, original=before)
    for found, network in ((nineteen, after), (twenty, before)):
        a, b = gradient(network, RETAIN), gradient(after, FORGET)
        assert found.dot == pytest.approx(a @ b, rel=1e-3, abs=1e-5)
        assert found.cosine == pytest.approx(
            a @ b / np.linalg.norm(a) / np.linalg.norm(b), rel=1e-3, abs=1e-5
        )
    assert nineteen.cosine != pytest.approx(twenty.cosine, rel=0.01)


def test_refusals():
    network = fresh(Noisy(), TRAIN)
    with pytest.raises(InputError, match="two networks of one architecture"):
        orthogonality(network, RETAIN, FORGET, original=fresh(Plain(), TRAIN))
    with pytest.raises(InputError, match="no samples"):
        orthogonality(network, RETAIN, TRAIN.take(np.arange(0)))
    with pytest.raises(InputError, match="batch_size = 0"):
        orthogonality(network, RETAIN, FORGET, batch_size=0)

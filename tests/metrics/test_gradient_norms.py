"""Norms of gradients against autodiff without batches; every batch stands for itself."""

import jax
import numpy as np
import pytest
from toys import Noisy, Plain, fresh, toy_splits

from dcmu_jax.errors import InputError
from dcmu_jax.metrics.gradient_norms import (
    batch_gradient_norms,
    layer_gradient_norms,
    norms_of_part,
)
from dcmu_jax.metrics.layers import by_layer, layer_names
from dcmu_jax.networks.catalogue import create
from dcmu_jax.networks.partition import apply_parts, initialise
from dcmu_jax.training.examples import cross_entropy

TRAIN = toy_splits(classes=3, per_class=6).train


def gradient(classifier, dataset):
    def loss(params):
        variables = {**classifier.variables, "params": params}
        x = classifier.normalisation.apply(dataset.images)
        logits, _ = apply_parts(classifier.model, variables, x)
        return cross_entropy(logits, jax.numpy.asarray(dataset.labels)).mean()

    return jax.jit(jax.grad(loss))(classifier.variables["params"])


def norm(tree):
    return np.linalg.norm(np.concatenate([np.ravel(x) for x in jax.tree.leaves(tree)]))


@pytest.fixture(scope="module")
def classifier():
    return fresh(Noisy(), TRAIN)


def test_over_a_set_by_layer_and_part(classifier):
    wanted = gradient(classifier, TRAIN)
    for size in (7, 256):
        found = layer_gradient_norms(classifier, TRAIN, batch_size=size)
        assert list(found)[:2] == ["beginning/Dense_0", "beginning/BatchNorm_0"]
        for name, value in found.items():
            part, layer = name.split("/")
            assert value == pytest.approx(norm(wanted[part][layer]), rel=1e-3)
        for part in wanted:
            assert norms_of_part(found, part) == pytest.approx(norm(wanted[part]), rel=1e-3)


def test_layers_come_in_the_order_of_the_network():
    model = create("cnn", image_shape=(16, 16, 1), num_classes=3, width=1 / 16)
    variables = initialise(model, jax.random.key(0), (16, 16, 1))
    names = layer_names(model, variables, (16, 16, 1))
    assert names[:3] == ("beginning/Conv_0", "beginning/BatchNorm_0", "beginning/Conv_1")
    assert names[-2:] == ("final/Dense_0", "final/Dense_1")
    assert set(names) == set(by_layer(variables["params"]))


def test_every_batch_has_a_gradient_of_its_own(classifier):
    mixed = TRAIN.take(np.random.default_rng(0).permutation(len(TRAIN)))
    found = batch_gradient_norms(classifier, mixed, 7)
    for batch, rows in enumerate((range(7), range(7, 14), range(14, 18))):  # the last has four
        wanted = gradient(classifier, mixed.take(np.array(rows)))
        of_part = norms_of_part(found, "intermediate")
        assert of_part.shape == (3,)
        assert of_part[batch] == pytest.approx(norm(wanted["intermediate"]), rel=1e-3)
        of_layer = found["final/Dense_0"]
        assert of_layer[batch] == pytest.approx(norm(wanted["final"]["Dense_0"]), rel=1e-3)


def test_tiny_gradients_do_not_vanish():
    # Logits of 60 for the true class and 0 else: gradients near exp(-60), whose squares underflow.
    classifier = fresh(Plain(), TRAIN.take(np.arange(1)))
    label = TRAIN.labels[0]
    classifier.variables["params"]["final"]["bias"] = (60.0 * np.eye(3)[label]).astype(np.float32)
    found = layer_gradient_norms(classifier, TRAIN.take(np.arange(1)))
    assert 0 < found["final"] < 1e-20


def test_refusals(classifier):
    empty = TRAIN.take(np.arange(0))
    for norms in (layer_gradient_norms, batch_gradient_norms):
        with pytest.raises(InputError, match="no samples"):
            norms(classifier, empty)
        with pytest.raises(InputError, match="batch_size = 0"):
            norms(classifier, TRAIN, batch_size=0)
    with pytest.raises(InputError, match="Did you mean 'final'"):
        norms_of_part({"final": 1.0}, "finale")
    with pytest.raises(InputError, match="'beginning', which has no layer"):
        norms_of_part({"final": 1.0}, "beginning")

"""A network as a value: evaluated in batches whose size does not matter."""

import dataclasses

import jax
import numpy as np
import optax
import pytest
from toys import TRACES, Noisy, Plain, fresh, repeated, toy_splits

from dcmu_jax.networks.partition import apply_features, apply_parts
from dcmu_jax.training.classifier import each_batch, fresh_classifier, in_batches
from dcmu_jax.training.keys import named_key, named_seed

TRAIN = toy_splits().train
# More than one batch of evaluation, and a ragged last one.
MANY = repeated(TRAIN, np.resize(np.arange(len(TRAIN)), 507))


@pytest.mark.parametrize("batch_size", [1, 3, 7, 100])
def test_batches_of_one_shape_and_every_row_once(batch_size):
    rows = np.arange(7, dtype=np.float32).reshape(7, 1)
    labels = np.arange(7)
    shapes = set()

    def fun(a, b):
        shapes.add((a.shape, b.shape))
        return {"a": a * 2, "b": b}

    joined = in_batches(fun, rows, labels, batch_size=batch_size)
    np.testing.assert_array_equal(joined["a"], rows * 2)
    np.testing.assert_array_equal(joined["b"], labels)
    size = min(batch_size, 7)
    assert shapes == {((size, 1), (size,))}

    one_by_one = list(each_batch(fun, rows, labels, batch_size=batch_size))
    assert [found.start for found, _ in one_by_one] == list(range(0, 7, size))
    for found, part in one_by_one:
        np.testing.assert_array_equal(part["a"], rows[found] * 2)
        np.testing.assert_array_equal(part["b"], labels[found])
    assert shapes == {((size, 1), (size,))}


def test_outputs_are_those_of_one_large_batch():
    network = fresh(Noisy(), TRAIN)
    x = network.normalisation.apply(MANY.images)
    logits, _ = apply_parts(network.model, network.variables, x)
    np.testing.assert_allclose(network.logits(MANY.images), logits, atol=1e-5)
    middle, _ = apply_parts(network.model, network.variables, x, stop="final")
    np.testing.assert_allclose(network.inputs_of("final", MANY.images), middle, atol=1e-5)
    features = apply_features(network.model, network.variables, x)
    np.testing.assert_allclose(network.features(MANY.images), features, atol=1e-5)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, MANY.labels)
    evaluation = network.evaluate(MANY)
    np.testing.assert_allclose(evaluation.losses, losses, atol=1e-5)
    np.testing.assert_array_equal(evaluation.correct, logits.argmax(-1) == MANY.labels)


def test_another_network_of_the_model_is_not_traced_again():
    one, two = fresh(Plain(width=13), TRAIN, seed=0), fresh(Plain(width=13), TRAIN, seed=1)
    one.evaluate(MANY)
    before = len(TRACES)
    two.evaluate(MANY)
    two.logits(MANY.images)
    assert len(TRACES) == before


def test_fingerprint_is_of_model_parameters_and_normalisation():
    network = fresh(Plain(), TRAIN)
    assert network.fingerprint() == fresh(Plain(), TRAIN).fingerprint()
    brighter = network.normalisation._replace(mean=network.normalisation.mean + 0.1)
    others = [
        fresh(Plain(), TRAIN, seed=1),
        fresh(Plain(width=17), TRAIN),
        dataclasses.replace(network, normalisation=brighter),
    ]
    assert len({c.fingerprint() for c in (network, *others)}) == 4


def test_statistics_are_of_the_dataset_unless_given():
    own = fresh_classifier(Plain(), TRAIN, 0).normalisation
    assert own.mean.shape == (1,) and 0 < own.mean[0] < 1
    given = own._replace(mean=own.mean + 0.2)
    assert fresh_classifier(Plain(), TRAIN, 0, given).normalisation is given


def test_named_keys_differ_by_seed_and_name():
    pairs = [(seed, name) for seed in (0, 1, 2) for name in ("a", "b", "shuffle", "dropout")]
    assert len({tuple(_bits(*pair).tolist()) for pair in pairs}) == 12
    assert len({named_seed(*pair) for pair in pairs}) == 12
    assert all(0 <= named_seed(*pair) < 2**31 for pair in pairs)
    # Written down: a saved run must find the same keys again.
    assert _bits(0, "shuffle").tolist() == [3339425738, 1218936469]
    assert named_seed(0, "shuffle") == 595464516


def _bits(seed, name):
    return np.asarray(jax.random.key_data(named_key(seed, name)))

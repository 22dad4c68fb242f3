"""Importances against autodiff, sample by sample and class by class."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import Noisy, Plain, assert_close, fresh, toy_splits

from dcmu_jax.baselines import importance
from dcmu_jax.baselines.batches import drawn
from dcmu_jax.baselines.importance import mean_squared_gradients
from dcmu_jax.errors import InputError
from dcmu_jax.networks.partition import apply_parts
from dcmu_jax.training.flops import tally, total

TRAIN = toy_splits(classes=3, per_class=4).train.take(np.arange(10))


def log_likelihood(params, model, variables, x, label):
    """log p(y | x) of one sample."""
    logits, _ = apply_parts(model, {**variables, "params": params}, x[None])
    return jax.nn.log_softmax(logits[0])[label]


_compiled = jax.jit(jax.value_and_grad(log_likelihood), static_argnums=1)


def summed(trees):
    return jax.tree.map(lambda *leaves: sum(leaves), *trees)


def likelihood_and_gradient(classifier, row, label):
    x = jnp.asarray(classifier.normalisation.apply(TRAIN.images[row]))
    variables = classifier.variables
    value, gradient = _compiled(variables["params"], classifier.model, variables, x, label)
    return jnp.exp(value), gradient


def gradient(classifier, row):
    return likelihood_and_gradient(classifier, row, TRAIN.labels[row])[1]


@pytest.fixture(params=[Plain, Noisy])
def classifier(request):
    return fresh(request.param(), TRAIN)


@pytest.fixture(params=[(3, 2**27), (64, 1)], ids=["padded", "single"])
def chunks(request, monkeypatch):
    """Three samples in a chunk, so that the last is padded; one sample."""
    monkeypatch.setattr(importance, "_at_once", lambda: request.param[0])
    monkeypatch.setattr(importance, "_ROOM", request.param[1])


def test_fishers_diagonal_is_the_sum_over_samples_and_classes(classifier, chunks):
    terms = []
    for row in range(len(TRAIN)):
        for label in range(3):
            p, g = likelihood_and_gradient(classifier, row, label)
            terms.append(jax.tree.map(lambda g, p=p: p * g**2 / len(TRAIN), g))
    values = mean_squared_gradients(classifier, TRAIN, "fisher")
    assert_close(values, summed(terms), rtol=1e-3, atol=1e-8)


def test_at_the_label_it_is_the_mean_square(classifier):
    terms = [
        jax.tree.map(lambda g: g**2 / len(TRAIN), gradient(classifier, row))
        for row in range(len(TRAIN))
    ]
    values = mean_squared_gradients(classifier, TRAIN)
    assert_close(values, summed(terms), rtol=1e-3, atol=1e-8)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(values))


def test_a_group_is_one_gradient_and_the_last_counts_by_its_size(classifier, chunks):
    terms = []
    for rows in ([0, 1, 2, 3], [4, 5, 6, 7], [8, 9]):
        size = len(rows)
        total = summed([gradient(classifier, row) for row in rows])
        terms.append(jax.tree.map(lambda g, n=size: n / 10 * (g / n) ** 2, total))
    values = mean_squared_gradients(classifier, TRAIN, group=4)
    assert_close(values, summed(terms), rtol=1e-3, atol=1e-8)


def test_operations_are_those_of_all_samples_and_classes(monkeypatch):
    classifier = fresh(Plain(), TRAIN)

    def cost(at_once, dataset, kind):
        monkeypatch.setattr(importance, "_at_once", lambda: at_once)
        with tally() as found:
            mean_squared_gradients(classifier, dataset, kind)
        return total(found)

    two, one = cost(5, TRAIN, "fisher"), cost(5, TRAIN.take(np.arange(5)), "fisher")
    assert two == 2 * one
    # Forward once and back for each of three classes, against forward and back once.
    label = cost(5, TRAIN, "label")
    assert 2 * label < two < 3 * label
    assert cost(3, TRAIN, "fisher") == two  # no matter what a machine does at once, or fills up


def test_no_samples_are_refused():
    classifier = fresh(Plain(), TRAIN)
    for kind in ("label", "fisher"):
        with pytest.raises(InputError, match=r"no samples.*at least one"):
            mean_squared_gradients(classifier, TRAIN.take(np.arange(0)), kind)
    with pytest.raises(InputError, match="group"):
        mean_squared_gradients(classifier, TRAIN, group=0)


def test_samples_are_drawn_without_replacement_and_in_order():
    some = drawn(TRAIN, 4, jax.random.key(0))
    assert len(np.unique(some.ids)) == 4
    assert (np.diff(some.ids) > 0).all()
    np.testing.assert_array_equal(some.images, TRAIN.images[TRAIN.positions(some.ids)])
    assert drawn(TRAIN, None, jax.random.key(0)) is TRAIN
    assert drawn(TRAIN, 99, jax.random.key(0)) is TRAIN
    assert any(
        not np.array_equal(drawn(TRAIN, 4, jax.random.key(seed)).ids, some.ids) for seed in range(9)
    )

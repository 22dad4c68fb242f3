"""OM against jax.grad of one sample at a time, for layers with and without a short form."""

import inspect

import flax.linen as nn
import jax
import numpy as np
import pytest
from toys import TRACES, Noisy, Plain, fresh, same_bits, toy_splits

from dcmu_jax.errors import InputError
from dcmu_jax.fast.sample_gradients import formed_parameters
from dcmu_jax.metrics import overfitting
from dcmu_jax.metrics.overfitting import overfitting_metric
from dcmu_jax.networks.partition import apply_parts
from dcmu_jax.training.examples import cross_entropy

TRAIN = toy_splits(classes=3, per_class=8).train.take(np.arange(0, 24, 3))


class Mixed(nn.Module):
    """Convolutions of every kind, a dense layer at each position, a layer used twice."""

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(4, (3, 2), strides=2, padding=((1, 0), (0, 1)))(x)
        x = nn.Conv(4, (3, 3), padding=1, use_bias=False)(nn.tanh(x))
        x = nn.Conv(4, (3, 3), feature_group_count=2)(nn.tanh(x))
        x = nn.LayerNorm()(nn.Conv(4, (2, 2), padding="VALID", kernel_dilation=2)(x))
        x = nn.Dense(5)(x)
        twice = nn.Dense(5)
        return twice(nn.tanh(twice(x))).reshape(len(x), -1)


class Odd(nn.Module):
    def setup(self):
        self.beginning = Mixed()
        self.intermediate = nn.Dense(6)
        self.final = nn.Dense(3)


MODELS = {
    "noisy": Noisy(),
    "odd": Odd(),
}


@pytest.fixture(scope="module", params=list(MODELS))
def classifier(request):
    return fresh(MODELS[request.param], TRAIN)


def one_by_one(classifier, squared):
    """Losses and mean sizes of gradients, from whole gradients of one sample at a time."""

    @jax.jit
    def of(params, variables, normalisation, pixels, label):
        def loss(params):
            x = normalisation.apply(pixels[None])
            logits, _ = apply_parts(classifier.model, {**variables, "params": params}, x)
            return cross_entropy(logits, label[None])[0]

        return jax.value_and_grad(loss)(params)

    losses, means = [], []
    variables = classifier.variables
    for pixels, label in zip(TRAIN.images, TRAIN.labels, strict=True):
        value, gradient = of(
            variables["params"], variables, classifier.normalisation, pixels, label
        )
        leaves = [np.ravel(x).astype(float) for x in jax.tree.leaves(gradient)]
        flat = np.concatenate(leaves)
        losses.append(float(value))
        means.append(np.mean(flat**2 if squared else abs(flat)))
    return np.array(losses), np.array(means)


@pytest.mark.parametrize("kind", ["paper", "squared"])
def test_equals_a_loop_over_samples(classifier, kind):
    before = jax.tree.map(np.array, classifier.variables)
    losses, means = one_by_one(classifier, kind == "squared")
    found = overfitting_metric(classifier, TRAIN, kind=kind)
    np.testing.assert_allclose(found.losses, losses, rtol=1e-4)
    np.testing.assert_allclose(found.gradients, means, rtol=1e-3)
    np.testing.assert_allclose(found.values, abs(losses - means), rtol=1e-4, atol=1e-6)
    assert found.values.dtype == found.losses.dtype == found.gradients.dtype == np.float32
    assert same_bits(before, classifier.variables)  # BatchNorm's statistics among them


def test_any_chunk_gives_the_same():
    classifier = fresh(Noisy(), TRAIN)
    whole = overfitting_metric(classifier, TRAIN)
    for size in (1, 3):
        found = overfitting_metric(classifier, TRAIN, batch_size=size)
        np.testing.assert_allclose(found.values, whole.values, rtol=1e-4)
        np.testing.assert_allclose(found.gradients, whole.gradients, rtol=1e-4)
    # Threads share nothing and return in order; the last chunk is not full.
    for workers in (2, 3):
        threaded = overfitting_metric(classifier, TRAIN, batch_size=3, workers=workers)
        np.testing.assert_array_equal(threaded.values, found.values)
        np.testing.assert_array_equal(threaded.losses, found.losses)


def test_threads_compute_in_the_precision_that_is_set():
    network = fresh(Plain(), TRAIN)
    before = len(TRACES)
    with jax.default_matmul_precision("highest"):
        overfitting_metric(network, TRAIN, batch_size=3, workers=1)
        once = len(TRACES) - before
        overfitting_metric(network, TRAIN, batch_size=3, workers=3)
    # In another precision the threads would have traced a program of their own.
    assert once > 0 and len(TRACES) - before == once


def test_only_kernels_with_a_short_form_are_left_unformed():
    def formed(model):
        classifier = fresh(model, TRAIN)
        network = classifier.variables, classifier.normalisation
        return formed_parameters(model, *network, TRAIN.images)

    assert formed(Noisy()) == 2 * (16 + 12 + 10) + 3  # scales and biases
    # Biases and norms; the grouped and the dilated kernel; and the one that is used twice.
    biases = 4 + 4 + 4 + 5 + 5 + 6 + 3
    assert formed(Odd()) == biases + 2 * 4 + 3 * 3 * 2 * 4 + 2 * 2 * 4 * 4 + 5 * 5


def test_the_default_chunk_keeps_to_the_room(monkeypatch):
    sizes = []

    def noted(model, kind, variables, normalisation, pixels, labels):
        sizes.append(len(labels))
        return np.zeros(len(labels), np.float32), np.zeros(len(labels), np.float32)

    monkeypatch.setattr(overfitting, "gradient_sums", noted)
    monkeypatch.setattr(overfitting, "_ROOM", 3 * 79 + 1)
    overfitting_metric(fresh(Noisy(), TRAIN), TRAIN)
    assert set(sizes) == {3}


def test_a_loss_below_its_mean_gradient_counts_by_the_distance(monkeypatch):
    def given(model, kind, variables, normalisation, pixels, labels):
        return np.zeros(len(labels), np.float32), np.full(len(labels), 79.0, np.float32)

    monkeypatch.setattr(overfitting, "gradient_sums", given)
    found = overfitting_metric(fresh(Noisy(), TRAIN), TRAIN)
    assert (found.gradients > 0).all()
    np.testing.assert_array_equal(found.values, found.gradients)


def test_refusals():
    classifier = fresh(Noisy(), TRAIN)
    with pytest.raises(InputError, match="Did you mean 'squared'"):
        # As called where annotations are not checked.
        inspect.unwrap(overfitting_metric)(classifier, TRAIN, kind="square")
    with pytest.raises(InputError, match="no samples"):
        overfitting_metric(classifier, TRAIN.take(np.arange(0)))
    with pytest.raises(InputError, match="batch_size = 0"):
        overfitting_metric(classifier, TRAIN, batch_size=0)
    with pytest.raises(InputError, match="workers = 0"):
        overfitting_metric(classifier, TRAIN, workers=0)

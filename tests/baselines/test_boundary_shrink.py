"""Boundary shrinking: on a linear network the nearest wrong classes follow by hand."""

import dataclasses

import flax.linen as nn
import numpy as np
import pytest
from baselines.setting import FAST, SPLITS, make_task
from baselines.watching import log_softmax, watched
from toys import fresh

from dcmu_jax.baselines.relabelling import BoundaryShrink, nearest_wrong_labels
from dcmu_jax.data.dataset import Normalisation
from dcmu_jax.errors import InputError
from dcmu_jax.unlearning.task import Hooks


class Linear(nn.Module):
    """A linear network in three parts."""

    def setup(self):
        self.beginning = nn.Sequential([lambda x: x.reshape(x.shape[0], -1), nn.Dense(9)])
        self.intermediate = nn.Dense(6)
        self.final = nn.Dense(3)


def _by_hand(classifier, dataset, epsilon):
    """``epsilon`` of pixels in [0, 1]; the network sees them over the standard deviation."""
    params = classifier.variables["params"]
    layers = [params["beginning"]["layers_1"], params["intermediate"], params["final"]]
    x = np.asarray(classifier.normalisation.apply(dataset.images), np.float64)
    x = x.reshape(len(x), -1)
    weights = np.linalg.multi_dot([np.asarray(p["kernel"], np.float64) for p in layers])
    logits = classifier.logits(dataset.images)  # biases included
    gradient = (np.exp(log_softmax(logits)) - np.eye(3)[dataset.labels]) @ weights.T
    std = np.resize(np.asarray(classifier.normalisation.std, np.float64), x.shape[1])
    there = logits + epsilon / std * np.sign(gradient) @ weights
    own = there.argmax(-1) == dataset.labels
    there[np.arange(len(there)), dataset.labels] = -np.inf
    return there.argmax(-1), own, logits


@pytest.mark.parametrize("epsilon", [0.003, 0.03, 0.3])
def test_nearest_wrong_classes_of_a_linear_network(epsilon):
    train = SPLITS.train
    classifier = fresh(Linear(), train, seed=3)
    expected, still_own, _ = _by_hand(classifier, train, epsilon)
    ours = nearest_wrong_labels(classifier, train, epsilon)
    assert ours.dtype == np.int32
    np.testing.assert_array_equal(ours, expected)
    assert (ours != train.labels).all()
    if epsilon < 0.03:
        assert still_own.any()  # where the step does not leave the class, the next one is taken


def test_the_step_decides_the_class():
    """Some images have another nearest class than the runner-up where they are."""
    train = SPLITS.train
    classifier = fresh(Linear(), train, seed=3)
    _, _, logits = _by_hand(classifier, train, 0.0)
    logits[np.arange(len(logits)), train.labels] = -np.inf
    assert (nearest_wrong_labels(classifier, train, 0.3) != logits.argmax(-1)).any()


@pytest.mark.parametrize("epsilon", [0.03, 0.3])
def test_the_step_does_not_depend_on_the_normalisation(epsilon):
    """The same function of pixels by another normalisation has the same nearest classes."""
    train = SPLITS.train
    classifier = fresh(Linear(), train, seed=3)
    mean, std = classifier.normalisation
    other = Normalisation(mean - 0.2, std / np.float32(3))
    dense = classifier.variables["params"]["beginning"]["layers_1"]
    by_channel = np.resize(np.float32(0.2) / std, len(dense["kernel"]))
    moved = {
        "kernel": dense["kernel"] / 3,
        "bias": dense["bias"] - by_channel @ dense["kernel"],
    }
    params = {**classifier.variables["params"], "beginning": {"layers_1": moved}}
    alike = dataclasses.replace(
        classifier, variables={**classifier.variables, "params": params}, normalisation=other
    )
    np.testing.assert_allclose(
        alike.logits(train.images), classifier.logits(train.images), rtol=1e-3, atol=1e-3
    )
    np.testing.assert_array_equal(
        nearest_wrong_labels(alike, train, epsilon),
        nearest_wrong_labels(classifier, train, epsilon),
    )


def test_only_the_forget_set_is_trained_on_with_those_labels():
    task = make_task()
    method = BoundaryShrink(epochs=1, batch_size=1000, optimizer=FAST)
    result, steps = watched(method, task)
    assert sorted(result.trained_ids) == sorted(task.forget_ids)
    forget = task.forget()
    wrong = dataclasses.replace(forget, labels=nearest_wrong_labels(task.original, forget, 0.1))
    expected = task.original.evaluate(wrong).losses.mean()
    assert [name for name, *_ in steps] == ["nearest wrong classes", "boundary shrinking"]
    np.testing.assert_allclose(steps[1][2], [expected], rtol=1e-5)


def test_a_step_of_nothing_is_refused():
    with pytest.raises(InputError, match="epsilon = 0"):
        BoundaryShrink(epsilon=0.0)(make_task(), Hooks())

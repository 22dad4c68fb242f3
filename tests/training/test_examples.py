"""What is trained on, and the losses on it."""

import jax.numpy as jnp
import numpy as np
import pytest
from toys import Plain, fresh, toy_splits

from dcmu_jax.errors import InputError
from dcmu_jax.networks.partition import count_outputs
from dcmu_jax.training.examples import Examples, LabelSmoothing, cross_entropy
from dcmu_jax.training.keys import named_key
from dcmu_jax.training.loop import fit
from dcmu_jax.training.optimizers import Optimizer
from dcmu_jax.training.population import fit_population, stack

TRAIN = toy_splits(classes=2, per_class=2).train


def test_label_smoothing_by_hand():
    logits, labels = np.array([[2.0, 0.0, -1.0], [0.0, 1.0, 0.0]]), np.array([0, 2], np.int32)
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    targets = np.full((2, 3), 0.1) + 0.7 * np.eye(3)[labels]
    found = LabelSmoothing(0.3)(jnp.asarray(logits, jnp.float32), jnp.asarray(labels))
    np.testing.assert_allclose(found, -(targets * log_p).sum(1), rtol=1e-5)
    assert LabelSmoothing(0.3) == LabelSmoothing(0.3)  # part of the compilation key
    with pytest.raises(InputError, match="share = 1"):
        LabelSmoothing(1.0)


def _examples(last, weight=1.0):
    """Four examples, of which the last has another label."""
    labels = [*TRAIN.labels[:3].tolist(), last]
    return Examples.of(TRAIN.images, labels, [1.0, 1.0, 1.0, weight])


def _fit(examples, loss=cross_entropy, several=False):
    """No training: what is asked is whether it is refused before."""
    network = fresh(Plain(classes=2), TRAIN)
    rest = {"epochs": 0, "optimizer": Optimizer(), "loss": loss}
    if not several:
        return fit(network, examples, key=named_key(0, "t"), **rest)
    rows, keys = np.array([[0, 1], [2, 3]]), jnp.stack([named_key(n, "t") for n in range(2)])
    return fit_population(stack([network, network]), examples, rows, keys=keys, **rest)


@pytest.mark.parametrize("several", [False, True], ids=["one network", "a population"])
@pytest.mark.parametrize("loss", [cross_entropy, LabelSmoothing(0.1)], ids=["plain", "smoothed"])
@pytest.mark.parametrize("label", [2, -1])
def test_labels_that_are_no_output_are_refused(label, loss, several):
    says = rf"class {label} for a network of 2 outputs.*labels 0\.\.1.*Leave those examples out"
    with pytest.raises(InputError, match=says):
        _fit(_examples(label), loss, several)


def _own(outputs, labels):
    return outputs[:, 0] * labels


def test_labels_of_a_loss_of_ones_own_are_its_own():
    for label in (7, -1):
        _fit(_examples(label), _own)
    _fit(_examples(-1, weight=0.0))  # which counts for nothing
    _fit(_examples(1))
    assert count_outputs(Plain(classes=5), TRAIN.images.shape[1:]) == 5

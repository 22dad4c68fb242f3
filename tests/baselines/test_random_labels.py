"""Random labels and saliency: which labels are drawn, which parameters may move."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from baselines.setting import FAST, make_task
from baselines.watching import cross_entropy, watched
from toys import Noisy, assert_close

from dcmu_jax.baselines import relabelling
from dcmu_jax.baselines.relabelling import (
    RandomLabels,
    SaliencyUnlearning,
    mean_gradient,
    random_labels,
    saliency_mask,
)
from dcmu_jax.errors import InputError
from dcmu_jax.networks.partition import apply_parts
from dcmu_jax.training import examples
from dcmu_jax.unlearning.serving import Serving
from dcmu_jax.unlearning.task import Hooks
from dcmu_jax.unlearning.wrong_labels import wrong_labels

SHORT = {"epochs": 3, "batch_size": 16, "optimizer": FAST}


@pytest.fixture(scope="module")
def task():
    return make_task(model=Noisy(), request="random:0.3")


def test_wrong_labels_are_uniform_over_the_other_classes():
    labels = np.repeat(np.arange(4, dtype=np.int32), 3000)
    drawn = wrong_labels(labels, 4, jax.random.key(0))
    assert drawn.dtype == np.int32
    counts = np.zeros((4, 4), int)
    np.add.at(counts, (labels, drawn), 1)
    assert (np.diag(counts) == 0).all()
    off = counts[~np.eye(4, dtype=bool)]
    assert abs(off - 1000).max() < 5 * np.sqrt(3000 * (1 / 3) * (2 / 3))
    np.testing.assert_array_equal(drawn, wrong_labels(labels, 4, jax.random.key(0)))
    assert (drawn != wrong_labels(labels, 4, jax.random.key(1))).any()


def test_one_class_has_no_wrong_label():
    with pytest.raises(InputError, match=r"Wrong labels among 1 class"):
        wrong_labels(np.zeros(3, np.int32), 1, jax.random.key(0))


def test_only_the_forget_set_gets_wrong_labels(task):
    retain, forget = task.retain(), task.forget()
    inputs, labels, weights, _ = random_labels(Serving(task, Hooks())).examples
    np.testing.assert_array_equal(inputs, np.concatenate([retain.images, forget.images]))
    np.testing.assert_array_equal(labels[: len(retain)], retain.labels)
    assert (labels[len(retain) :] != forget.labels).all()
    assert (weights == 1).all()


def test_both_methods_start_from_the_loss_on_wrong_labels_of_their_own():
    task = make_task(request="random:0.3")
    methods = {"random_labels": RandomLabels, "saliency": SaliencyUnlearning}
    for name, method in methods.items():
        inputs, labels, *_ = random_labels(Serving(task, Hooks(), name)).examples
        expected = cross_entropy(task.original.logits(inputs), labels).mean()
        _, steps = watched(method(epochs=1, batch_size=1000, optimizer=FAST), task)
        np.testing.assert_allclose(steps[-1][2], [expected], rtol=1e-5)


def test_the_mean_gradient_is_that_of_one_batch(task):
    forget, original = task.forget(), task.original

    def loss(params):
        variables = {**original.variables, "params": params}
        x = original.normalisation.apply(forget.images)
        logits, _ = apply_parts(original.model, variables, x)
        return examples.cross_entropy(logits, jnp.asarray(forget.labels)).mean()

    expected = jax.grad(loss)(original.variables["params"])
    for size in (5, len(forget), 100):
        ours = mean_gradient(original, forget, size)
        assert_close(ours, expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("share", [0.5, 0.1, 1.0])
def test_the_mask_has_its_share_and_the_largest_gradients(task, share):
    mask = saliency_mask(task.original, task.forget(), share)
    gradient = mean_gradient(task.original, task.forget())
    free, size = (
        np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])
        for tree in (mask, gradient)
    )
    assert free.sum() == round(share * len(free))
    if share < 1:
        assert abs(size[free]).min() >= abs(size[~free]).max()


def test_what_is_masked_out_keeps_its_bits_and_the_rest_moves(task, monkeypatch):
    masks = []

    def noting(*args):
        masks.append(saliency_mask(*args))
        return masks[-1]

    monkeypatch.setattr(relabelling, "saliency_mask", noting)
    result = SaliencyUnlearning(share=0.3, **SHORT)(task, Hooks())
    old, new = (c.variables["params"] for c in (task.original, result.classifier))
    moved = jax.tree.map(lambda a, b: np.asarray(a != b), old, new)
    flat = [np.concatenate([np.ravel(x) for x in jax.tree.leaves(t)]) for t in (masks[0], moved)]
    assert not flat[1][~flat[0]].any()
    assert flat[1][flat[0]].mean() > 0.95


@pytest.mark.parametrize("share", [0.0, 1.5])
def test_shares_without_sense_are_refused(task, share):
    with pytest.raises(InputError, match=f"share = {share}"):
        SaliencyUnlearning(share=share)(task, Hooks())

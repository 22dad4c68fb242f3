"""Networks of the catalogue compute what PyTorch does: golden values, made by ``golden.make``."""

import jax
import numpy as np
import optax
import pytest
from golden import given
from toys import same_bits

from dcmu_jax.data.dataset import Normalisation
from dcmu_jax.networks import MODELS, apply_parts, partition
from dcmu_jax.networks.torch_weights import bring

NORMALISATION = Normalisation(np.float32(given.MEAN), np.float32(given.STD))


@pytest.mark.parametrize("name", MODELS)
def test_calling_a_model_is_running_its_parts_and_what_pytorch_does(name):
    found, weights = given.golden_of(name)
    model, shape = given.model_of(name)
    brought = bring(name, weights, shape)
    assert all(getattr(brought.model, f) == size for f, size in given.SIZES[name][1].items())
    variables = brought.variables

    @jax.jit
    def run(variables, x):
        whole = model.apply(variables, x)
        logits, statistics = apply_parts(model, variables, x)
        middle, _ = apply_parts(model, variables, x, stop="final")
        on, _ = apply_parts(model, variables, middle, start="final")
        return whole, logits, on, statistics

    x = NORMALISATION.apply(given.images_of(shape[0])[0])
    whole, logits, on, statistics = run(variables, x)
    assert np.std(logits) > 0.1 and statistics == {}
    np.testing.assert_allclose(logits, found["logits"], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(whole, logits, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(on, logits, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", given.STEPS)
def test_a_step_of_training_is_that_of_pytorch(name):
    found, weights = given.golden_of(name)
    model, shape = given.model_of(name)
    images, labels = given.images_of(shape[0])
    variables, parts = bring(name, weights, shape).variables, given.STEPS[name]
    trainable, frozen = partition(variables["params"], parts)

    @jax.jit
    def gradient(trainable, frozen, statistics, x):
        def loss(trainable):
            held = {"params": {**frozen, **trainable}, "batch_stats": statistics}
            logits, moved = apply_parts(model, held, x, train=parts, dropout_key=jax.random.key(0))
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
            return losses.mean(), moved

        return jax.value_and_grad(loss, has_aux=True)(trainable)

    x = NORMALISATION.apply(images)
    (loss, statistics), gradients = gradient(trainable, frozen, variables["batch_stats"], x)
    np.testing.assert_allclose(loss, found["loss"], rtol=1e-5)
    after = {k.removeprefix("step/"): v for k, v in found.items() if k.startswith("step/")}
    expected = bring(name, after, shape).variables

    def same(path, ours, before, theirs):
        moved = theirs - before
        np.testing.assert_allclose(
            ours,
            moved,
            given.RTOL,
            given.ATOL * np.abs(moved).max() + 1e-6,
            err_msg=jax.tree_util.keystr(path),
        )

    compare = jax.tree_util.tree_map_with_path
    steps = jax.tree.map(lambda x: -given.LEARNING_RATE * np.asarray(x), gradients)
    compare(same, steps, trainable, partition(expected["params"], parts)[0])
    before, _ = partition(variables["batch_stats"], tuple(statistics))
    wanted, _ = partition(expected["batch_stats"], tuple(statistics))
    compare(same, jax.tree.map(lambda x, y: np.asarray(x) - y, statistics, before), before, wanted)
    kept = partition(expected["params"], parts)[1], partition(expected["batch_stats"], parts)[1]
    assert same_bits(kept, (frozen, partition(variables["batch_stats"], parts)[1]))

"""What every unlearning method must hold, in one table over all of them."""

import dataclasses

import jax
import numpy as np
import pytest
from baselines import setting
from baselines.setting import (
    METHODS,
    NEEDS_DROPOUT,
    NOISE,
    NOT_RANDOM,
    STAY_NEAR,
    accuracy,
    make_task,
    with_other_forgotten_pixels,
)
from toys import TRACES, Noisy, same_bits

from dcmu_jax.baselines import registry
from dcmu_jax.errors import InputError
from dcmu_jax.unlearning.task import Hooks

every_method = pytest.mark.parametrize("name", METHODS)


@pytest.fixture(scope="module")
def task():
    return make_task()


@pytest.fixture(scope="module")
def results(task):
    """Each method's result, made when first asked for."""
    made = {}

    def result(name):
        if name not in made:
            made[name] = METHODS[name](task, Hooks())
        return made[name]

    return result


def test_every_registered_method_is_in_the_table():
    assert {type(method) for method in METHODS.values()} == set(registry.METHODS.values())


@every_method
def test_forgets_a_class_and_keeps_the_rest(task, results, name):
    unlearned = results(name)
    if name in NEEDS_DROPOUT:
        task = make_task(model=Noisy())
        unlearned = METHODS[name](task, Hooks())
    new, old = unlearned.classifier, task.original
    assert accuracy(old, task.forget()) >= 90  # there is something to forget
    assert accuracy(new, task.retain()) >= 90
    if name in NOISE:
        return
    losses = [c.evaluate(task.forget()).losses.mean() for c in (old, new)]
    assert losses[1] > 2 * losses[0]
    if name not in STAY_NEAR:
        assert accuracy(new, task.forget()) <= 50


@every_method
def test_same_seed_same_bits_and_no_retrace(task, results, name):
    first = results(name)
    before = len(TRACES)
    again = METHODS[name](task, Hooks())
    assert len(TRACES) == before
    assert same_bits(first.classifier.variables, again.classifier.variables)
    assert (first.flops, first.reduction) == (again.flops, again.reduction)
    np.testing.assert_array_equal(first.trained_ids, again.trained_ids)


@every_method
def test_another_seed_other_bits(task, results, name):
    other = METHODS[name](dataclasses.replace(task, seed=2), Hooks())
    same = same_bits(results(name).classifier.variables, other.classifier.variables)
    assert same == (name in NOT_RANDOM)


@every_method
def test_structure_shapes_and_dtypes_are_kept(task, results, name):
    def described(classifier):
        return jax.tree.map(lambda x: (x.shape, str(x.dtype)), classifier.variables)

    new = results(name).classifier
    assert described(new) == described(task.original)
    assert (new.model, new.image_shape) == (task.original.model, task.original.image_shape)


@every_method
def test_no_forgotten_sample_is_trained_on_unless_declared(task, results, name):
    trained = results(name).trained_ids
    assert trained.dtype == np.int64
    assert np.isin(trained, task.forget_ids).any() == METHODS[name].sees_forget_set
    assert len(np.unique(trained)) == len(trained)
    assert np.isin(trained, task.train.ids).all()


@every_method
def test_forgotten_pixels_change_nothing(task, results, name):
    """Held fixed: the original, its normalisation, all that was prepared before the request
    (clusters, condensed images, remembrance samples, the network after the offline phase), the
    seed. Changed: the pixels of every forgotten sample in the training set."""
    if METHODS[name].sees_forget_set:
        pytest.skip("declares that it looks at the forget set")
    changed = METHODS[name](with_other_forgotten_pixels(task), Hooks())
    assert same_bits(results(name).classifier.variables, changed.classifier.variables)


@pytest.mark.parametrize(
    "name",
    [
        name
        for name, method in METHODS.items()
        if name.startswith("modular") and not method.sees_forget_set
    ],
)
def test_random_forgetting_sees_no_forgotten_pixels_either(name):
    task = make_task(request="random:0.1")
    one = METHODS[name](task, Hooks())
    two = METHODS[name](with_other_forgotten_pixels(task), Hooks())
    assert same_bits(one.classifier.variables, two.classifier.variables)
    assert not np.isin(one.trained_ids, task.forget_ids).any()


@pytest.mark.parametrize(
    "name", ["negative_gradient", "selective_synaptic_dampening", "modular, recommended, seeing"]
)
def test_what_went_before_is_not_looked_at_again(name):
    """Methods that look at the forget set: what an earlier request named is out of their sight."""
    recommended = dataclasses.replace(METHODS["modular, recommended"], forget_weight=0.5)
    method = {**METHODS, "modular, recommended, seeing": recommended}[name]
    task = make_task(request="random:0.2")
    before = task.forget_ids[::2]
    second = dataclasses.replace(task, gone_before=before)
    noise = with_other_forgotten_pixels(dataclasses.replace(task, forget_ids=before))
    results = [
        method(dataclasses.replace(second, train=train), Hooks())
        for train in (task.train, noise.train)
    ]
    assert same_bits(results[0].classifier.variables, results[1].classifier.variables)
    assert not np.isin(results[0].trained_ids, before).any()
    assert np.isin(task.forget_ids[1::2], results[0].trained_ids).all()


@every_method
def test_costs_are_reported(task, results, name):
    result = results(name)
    assert result.online_s > 0 and result.compile_s >= 0
    assert result.flops is not None and result.flops > 0
    retained = len(task.train) - len(task.forget_ids)
    if name.startswith("modular"):  # condensed images count as well
        assert 0 < result.reduction
    else:
        assert result.reduction == len(result.trained_ids) / retained


@every_method
def test_observers_see_the_way_there_in_order(task, name):
    seen, phases = [], []

    class Phase:
        def __init__(self, title, epochs):
            phases.append((title, epochs))

        def __enter__(self):
            return lambda epoch, loss, accuracy: None

        def __exit__(self, *_):
            return None

    result = METHODS[name](
        task, Hooks(Phase, lambda s, c: seen.append((s, c.evaluate(task.train))))
    )
    seconds = [s for s, _ in seen]
    assert seconds and seconds == sorted(seconds)
    assert 0 < seconds[-1] <= result.online_s
    assert phases
    np.testing.assert_array_equal(seen[-1][1].losses, result.classifier.evaluate(task.train).losses)


@pytest.mark.parametrize("name", [n for n in METHODS if n.startswith("modular")])
def test_modular_methods_need_the_offline_phase(task, name):
    with pytest.raises(InputError, match=r"without an offline phase.*Run prepare first"):
        METHODS[name](dataclasses.replace(task, prepared=None), Hooks())


def test_the_registry_names_the_nearest():
    assert registry.method_class("retrain") is type(setting.METHODS["retrain"])
    with pytest.raises(InputError, match=r"method 'retrian'.*Did you mean 'retrain'"):
        registry.method_class("retrian")


def test_retraining_may_keep_the_given_normalisation(task):
    given = METHODS["retrain"](dataclasses.replace(task, statistics="given"), Hooks())
    own = METHODS["retrain"](task, Hooks())
    assert same_bits(given.classifier.normalisation, task.original.normalisation)
    assert not same_bits(own.classifier.normalisation, task.original.normalisation)

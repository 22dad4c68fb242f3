"""A population is its members: trained at once or each alone, the same networks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import Noisy, Plain, assert_close, examples_of, fresh, same_bits, toy_splits

from dcmu_jax.data.augmentation import Augmentation
from dcmu_jax.errors import InputError
from dcmu_jax.training import population
from dcmu_jax.training.arguments import Objective, Placement
from dcmu_jax.training.keys import named_key
from dcmu_jax.training.loop import fit
from dcmu_jax.training.optimizers import Optimizer
from dcmu_jax.training.population import (
    fit_population,
    member,
    population_logits,
    size_of,
    stack,
)

TRAIN = toy_splits().train
ROWS = np.stack([np.random.default_rng(i).permutation(len(TRAIN))[:13] for i in range(4)])
KEYS = jnp.stack([named_key(i, "member") for i in range(4)])
OPTIONS = {"epochs": 3, "optimizer": Optimizer(schedule="cosine", learning_rate=0.01)}


def _networks(model):
    return [fresh(model, TRAIN.take(ROWS[i]), seed=i) for i in range(4)]


def _fit(model=None, rows=ROWS, **options):
    networks = stack(_networks(model or Plain()))
    settings = {**OPTIONS, "batch_size": 5, "keys": KEYS, **options}
    return fit_population(networks, examples_of(TRAIN), rows, **settings)


@pytest.mark.parametrize(
    ("model", "chunk"), [(Plain(), 1), (Noisy(), 3)], ids=["one by one", "chunks and a rest"]
)
def test_a_member_is_the_network_trained_alone(model, chunk):
    objective = Objective(augmentation=Augmentation(flip=True, crop_padding=1))
    fitted = _fit(model, placement=Placement(chunk=chunk), loss=objective)
    for i, network in enumerate(_networks(model)):
        alone = fit(
            network,
            examples_of(TRAIN.take(ROWS[i])),
            key=KEYS[i],
            batch_size=5,
            loss=objective,
            **OPTIONS,
        )
        one = member(fitted.classifiers, i)
        assert_close(one.variables, alone.classifier.variables, atol=2e-5)
        np.testing.assert_allclose(fitted.losses[i], alone.losses, rtol=1e-4)
        np.testing.assert_allclose(fitted.accuracies[i], alone.accuracies, rtol=1e-5)


def test_logits_of_all_are_those_of_each():
    networks = _networks(Noisy())
    logits = population_logits(stack(networks), TRAIN.images, chunk=2, batch_size=7)
    assert logits.shape == (4, len(TRAIN), 3)
    for i, network in enumerate(networks):
        np.testing.assert_allclose(logits[i], network.logits(TRAIN.images), atol=1e-5)


def test_the_networks_passed_in_stay_and_the_same_call_gives_the_same_bits():
    networks = stack(_networks(Plain()))
    before = jax.tree.map(np.asarray, networks.variables)
    call = lambda: fit_population(  # noqa: E731
        networks, examples_of(TRAIN), ROWS, batch_size=5, keys=KEYS, **OPTIONS
    )
    first, second = call(), call()
    assert same_bits(before, networks.variables)
    assert same_bits(first.classifiers.variables, second.classifiers.variables)
    assert size_of(first.classifiers) == 4


def test_no_epochs_change_nothing():
    fitted = _fit(epochs=0)
    assert same_bits(fitted.classifiers.variables, stack(_networks(Plain())).variables)
    assert fitted.losses.shape == (4, 0)


def test_devices_share_the_networks_without_a_collective():
    mesh = jax.make_mesh((4,), ("models",), axis_types=(jax.sharding.AxisType.Auto,))
    one, four = _fit(), _fit(placement=Placement(mesh))
    assert_close(one.classifiers.variables, four.classifiers.variables, atol=2e-6)
    assert_close(
        population_logits(one.classifiers, TRAIN.images),
        population_logits(four.classifiers, TRAIN.images, mesh=mesh),
        atol=1e-4,
    )


def test_the_sharded_program_has_no_collective(monkeypatch):
    mesh = jax.make_mesh((4,), ("models",), axis_types=(jax.sharding.AxisType.Auto,))
    texts = []
    compiled = population._population_epoch

    def spy(*args):
        texts.append(compiled.lower(*args).compile().as_text())
        return compiled(*args)

    monkeypatch.setattr(population, "_population_epoch", spy)
    _fit(placement=Placement(mesh), epochs=1)
    assert texts
    for name in ("all-reduce", "all-gather", "all-to-all", "collective-permute", "reduce-scatter"):
        assert name not in texts[0]


def _over(devices, axis):
    return Placement(jax.make_mesh((devices,), (axis,)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rows": ROWS[:3]}, "4 networks, rows"),
        ({"rows": ROWS + len(TRAIN)}, "examples"),
        ({"keys": KEYS[:2]}, "keys"),
        ({"placement": Placement(chunk=0)}, "chunk"),
        (
            {"placement": Placement(jax.make_mesh((8,), ("models",)))},
            "divides the number of networks",
        ),
        ({"placement": Placement(jax.make_mesh((2,), ("data",)))}, "axis 'models'"),
    ],
    ids=["rows of fewer", "rows beyond", "keys", "chunk", "mesh too large", "mesh axis"],
)
def test_what_does_not_fit_is_refused(options, message):
    with pytest.raises(InputError, match=message):
        _fit(**options)


def test_networks_of_two_architectures_are_no_population():
    with pytest.raises(InputError, match="2 architectures"):
        stack([fresh(Plain(), TRAIN), fresh(Plain(width=8), TRAIN)])

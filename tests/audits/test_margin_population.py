"""Populations: what is stored, that it comes back, and that it is what single training gives."""

import dataclasses
import json
import re

import numpy as np
import optax
import pytest
from toys import Plain, fresh, toy_splits

from dcmu_jax.audits.building import (
    Rearing,
    measured,
    oracle_population,
    shadow_population,
    unlearned_population,
)
from dcmu_jax.audits.margins import logit_margins
from dcmu_jax.audits.population import Population, joined
from dcmu_jax.errors import InputError
from dcmu_jax.training.keys import named_seed
from dcmu_jax.unlearning.task import Training, train_from_scratch

SPLITS = toy_splits()
TRAIN = SPLITS.train
FORGET = TRAIN.ids[[1, 4, 7]]
REARING = Rearing(model=Plain(), splits=SPLITS, training=Training(epochs=2, batch_size=8), group=2)


@pytest.fixture(scope="module")
def oracles():
    return oracle_population(REARING, FORGET, 3)


def _alone(population_kind, number, dataset):
    seed = named_seed(REARING.seed, f"{population_kind} {number}")
    return train_from_scratch(Plain(), dataset, REARING.training, seed).classifier


def test_an_oracle_is_the_network_retrained_alone(oracles):
    images = np.concatenate([TRAIN.images, SPLITS.test.images])
    for number in range(3):
        alone = _alone("oracle", number, TRAIN.without(FORGET))
        expected = logit_margins(alone.logits(images), oracles.labels)
        np.testing.assert_allclose(oracles.margins[number], expected, atol=2e-4)
    assert not oracles.member[:, oracles.positions(FORGET)].any()
    assert oracles.member.sum() == 3 * (len(TRAIN) - 3) and not oracles.forgotten.any()


def test_every_example_is_in_half_of_the_shadow_models():
    population = shadow_population(REARING, 4)
    inside = population.member[:, ~population.test]
    assert (inside.sum(axis=0) == 2).all() and (inside.sum(axis=1) == len(TRAIN) // 2).all()
    assert (inside[0] != inside[1]).all() and (inside[0] != inside[2]).any()


def test_methods_are_given_each_original_and_its_seed():
    given = []

    def twice(original, seed):
        given.append((original, seed))
        return original

    population = unlearned_population(REARING, FORGET, 3, {"nothing": twice})
    assert sorted(population.kinds) == ["nothing"] * 3 + ["original"] * 3
    np.testing.assert_allclose(
        population.of("nothing").margins, population.of("original").margins, atol=1e-5
    )
    forgotten = population.of("nothing").forgotten
    assert (forgotten.sum(axis=1) == 3).all() and not population.of("original").forgotten.any()
    originals = [named_seed(0, f"original {i}") for i in range(3)]
    seeds = [seed for _, seed in given]
    assert seeds == [named_seed(seed, "unlearning of a population") for seed in originals]
    assert not set(seeds) & set(originals)  # no method shares its draws with an original
    whole = _alone("original", 1, TRAIN)
    np.testing.assert_allclose(
        given[1][0].logits(TRAIN.images), whole.logits(TRAIN.images), atol=2e-4
    )


def test_an_interrupted_population_goes_on(tmp_path, oracles):
    told = []
    kept = dataclasses.replace(REARING, folder=tmp_path / "kept", notify=lambda *n: told.append(n))
    oracle_population(kept, FORGET, 3)
    assert told == [(2, 3), (3, 3)]
    (tmp_path / "kept" / "oracle-00002.npz").unlink()
    first = (tmp_path / "kept" / "oracle-00000.npz").stat().st_mtime_ns
    again = oracle_population(kept, FORGET, 3)
    assert (tmp_path / "kept" / "oracle-00000.npz").stat().st_mtime_ns == first
    np.testing.assert_array_equal(again.margins, oracles.margins)
    with pytest.raises(InputError, match="differs in masks"):
        oracle_population(kept, FORGET[:2], 3)
    with pytest.raises(InputError, match="differs in seed"):
        oracle_population(dataclasses.replace(kept, seed=1), FORGET, 3)
    other = dataclasses.replace(SPLITS, test=toy_splits(seed=1).test)
    with pytest.raises(InputError, match="differs in test"):
        oracle_population(dataclasses.replace(kept, splits=other), FORGET, 3)


def test_a_folder_is_of_methods_with_their_settings(tmp_path):
    kept = dataclasses.replace(REARING, folder=tmp_path / "kept")
    methods = {"nothing": lambda original, seed: original}

    def population(settings):
        return unlearned_population(kept, FORGET, 1, methods, settings)

    with pytest.raises(InputError, match=r"settings are not told.*settings={'nothing': repr"):
        population(None)
    assert not kept.folder.exists()
    first = population({"nothing": "epochs=1"})
    assert (population({"nothing": "epochs=1"}).margins == first.margins).all()
    with pytest.raises(InputError, match="differs in settings"):
        population({"nothing": "epochs=30"})
    described = kept.folder / "original.json"
    of_before = json.loads(described.read_text())
    del of_before["settings"], of_before["test"]
    described.write_text(json.dumps(of_before))
    population({"nothing": "epochs=1"})


@pytest.mark.parametrize("how", ["cut", "other arrays"])
def test_the_remedy_of_a_damaged_group(tmp_path, oracles, how):
    kept = dataclasses.replace(REARING, folder=tmp_path)
    oracle_population(kept, FORGET, 3)
    file = tmp_path / "oracle-00002.npz"
    if how == "cut":
        file.write_bytes(file.read_bytes()[:300])
    else:  # readable, and of examples that do not go together
        arrays = {**vars(oracles), "kinds": np.array(oracles.kinds), "ids": oracles.ids[1:]}
        np.savez(file, **arrays)
    with pytest.raises(InputError, match=rf"Delete '{re.escape(str(file))}' and run again"):
        oracle_population(kept, FORGET, 3)
    file.unlink()
    np.testing.assert_array_equal(oracle_population(kept, FORGET, 3).margins, oracles.margins)


def test_saved_and_loaded(tmp_path, oracles):
    oracles.save(tmp_path / "p.npz")
    back = Population.load(tmp_path / "p.npz")
    for field in dataclasses.fields(Population):
        np.testing.assert_array_equal(getattr(back, field.name), getattr(oracles, field.name))
    back.check(SPLITS)
    with pytest.raises(InputError, match="another training set"):
        back.check(toy_splits(seed=1))


@pytest.mark.parametrize("damage", ["missing", "text", "array", "dtype"])
def test_damaged_files_are_refused(tmp_path, oracles, damage):
    path = tmp_path / "p.npz"
    arrays = {**vars(oracles), "kinds": np.array(oracles.kinds)}
    if damage == "text":
        path.write_text("no archive")
    elif damage == "array":
        np.savez(path, **{k: v for k, v in arrays.items() if k != "margins"})
    elif damage == "dtype":
        np.savez(path, **{**arrays, "labels": arrays["labels"].astype(float)})
    with pytest.raises(InputError, match=r"population|margins|labels"):
        Population.load(path)


def test_networks_at_hand_are_measured_with_the_masks_of_their_kinds():
    networks = [fresh(Plain(), TRAIN, seed) for seed in range(3)]
    population = measured(networks, ["original", "oracle", "a method"], SPLITS, FORGET)
    at = population.positions(FORGET)
    assert population.member[:, at].all(axis=1).tolist() == [True, False, True]
    assert population.forgotten[:, at].any(axis=1).tolist() == [False, False, True]
    np.testing.assert_array_equal(
        population.correct[0, ~population.test],
        networks[0].logits(TRAIN.images).argmax(-1) == TRAIN.labels,
    )


def test_what_does_not_fit_is_refused(oracles):
    with pytest.raises(InputError, match="even number"):
        shadow_population(REARING, 3)
    with pytest.raises(InputError, match="kind 'scrub'"):
        oracles.of("scrub")
    with pytest.raises(InputError, match="ids that the population was not measured on"):
        oracles.positions(np.array([10**9]))
    with pytest.raises(InputError, match="margins of shape"):
        dataclasses.replace(oracles, margins=oracles.margins[:, :-1])
    for name in ("member", "forgotten", "correct"):
        with pytest.raises(InputError, match=f"{name} of shape"):
            dataclasses.replace(oracles, **{name: getattr(oracles, name)[:2]})
    with pytest.raises(InputError, match="test example among members"):
        dataclasses.replace(oracles, member=np.ones_like(oracles.member))
    with pytest.raises(InputError, match="No population"):
        joined([])
    with pytest.raises(InputError, match="different examples"):
        joined([oracles, dataclasses.replace(oracles, ids=oracles.ids[::-1])])


def test_a_transformation_of_optax_has_no_name_that_a_folder_could_keep(tmp_path):
    training = Training(epochs=2, batch_size=8, optimizer=optax.adam(1e-3))
    kept = dataclasses.replace(REARING, training=training, folder=tmp_path)
    with pytest.raises(InputError, match="An optax transformation for a population that is kept"):
        oracle_population(kept, FORGET, 2)

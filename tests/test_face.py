"""The face: the paper typed step by step in a notebook, on the user's own objects."""

import jax
import numpy as np
import optax
import pytest
from toys import Plain, part_of, same_bits, toy_splits

import dcmu_jax as dcmu
from dcmu_jax.condensation.building import build_bank
from dcmu_jax.errors import InputError
from dcmu_jax.metrics.frames import frame_of, measurements_of
from dcmu_jax.runs import stages
from dcmu_jax.runs.config import RunConfig
from dcmu_jax.training.optimizers import Optimizer
from dcmu_jax.unlearning.schedule import Step
from dcmu_jax.unlearning.task import Prepared, Training, train_from_scratch

KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def data():
    return toy_splits(classes=3, per_class=40)


@pytest.fixture(scope="module")
def original(data):
    net = dcmu.network(Plain(), data, key=KEY)
    return dcmu.train(
        net, data.train, epochs=10, optimizer=optax.adam(1e-2), batch_size=16, key=KEY
    )


@pytest.fixture(scope="module")
def bank(data, original):
    clusters = dcmu.cluster(original, data.train, per_class=6)
    return dcmu.condense(original, data.train, clusters)


def test_the_example(data, original, bank):
    request = dcmu.forget("class:1", data.train)
    reduced = dcmu.collect(bank, data.train, request)
    remembrance = data.test.first(2)
    unlearned = dcmu.unlearn(
        original,
        reduced,
        schedule=dcmu.schedules.paper(),
        remembrance=remembrance,
        key=jax.random.key(1),
    )
    retain, forgotten = data.train.without(request), data.train.only(request)
    assert retain.ids.tolist() == data.train.without(request.ids).ids.tolist()
    metric = dcmu.unlearning_metric(unlearned, retain=retain, forget=forgotten)
    assert 0 <= metric <= 200
    assert dcmu.overfitting_metric(unlearned, retain).shape == (len(retain),)
    retrained = dcmu.train(dcmu.network(Plain(), data, key=KEY), retain, epochs=10, key=KEY)
    networks = {"original": original, "modular": unlearned, "retrain": retrained}
    own = {"images": lambda network, *, retain, forget, test: len(test)}
    rows = dcmu.evaluate(networks, data, request, remembrance=remembrance, metrics=own)
    assert rows["own.images"].tolist() == 3 * [len(data.test) - len(remembrance)]
    assert rows.index.tolist() == list(networks) and rows.index.name == "method"
    assert rows.loc["modular", "unlearning_metric"] == pytest.approx(metric)
    first, _, last = measurements_of(rows)
    assert rows.loc["retrain", "gap"] == 0
    assert rows.loc["original", "gap"] == dcmu.gap(first, last) > 0
    assert rows.loc["original", "tug_of_war"] == dcmu.tug_of_war(first, last)
    assert frame_of([first, last]).equals(rows.loc[["original", "retrain"]])
    without = dcmu.evaluate({"original": original}, data, request)
    assert without["gap"].isna().all() and measurements_of(without)[0].gap is None


def test_the_bank_is_that_of_a_run(data, original, bank):
    whole = build_bank(data.train, original, clusters_per_class=6, seed=0)
    assert bank.fingerprint() == whole.fingerprint()


@pytest.mark.parametrize("name", ["paper", "recommended", "condensed"])
def test_a_schedule_does_by_itself_what_it_does_in_a_run(data, original, bank, name):
    """``unlearn`` with the key that a run derives is the run's online phase, to the bit."""
    config = RunConfig(preset=name)
    remembrance = data.test.first(2)
    request = dcmu.forget([3, 5, 8], data.train)
    prepared = Prepared(bank, original, remembrance, 0.0, 0.0)
    served = stages.unlearn(name, config, original, data, request, prepared=prepared)
    schedule = getattr(dcmu.schedules, name)()
    seed = stages.named_seed(config.unlearning_seed, name)
    reduced = dcmu.collect(
        bank, data.train, request, seed=stages.named_seed(seed, "collection"), schedule=schedule
    )
    alone = dcmu.unlearn(
        original,
        reduced,
        schedule=schedule,
        remembrance=remembrance,
        retain=data.train.without(request.ids),
        forget=data.train.only(request.ids),
        key=jax.random.key(seed),
    )
    assert same_bits(alone.variables, served.classifier.variables)


def test_requests_by_text_ids_and_mask(data):
    mask = np.isin(data.train.ids, [3, 5])
    for what in ([3, 5], (3, 5), np.array([3, 5]), mask, "ids:3,5"):
        assert dcmu.forget(what, data.train).ids.tolist() == [3, 5]


def test_a_transformation_in_a_schedule_is_what_its_settings_are(data, original, bank):
    """In rounds, too, which go on from the state of the last one."""
    reduced = dcmu.collect(bank, data.train, [3, 5])
    found = []
    for optimizer in (Optimizer(learning_rate=0.01), optax.adam(0.01)):
        step = Step(parts=("final",), optimizer=optimizer)
        schedule = dcmu.schedules.ModularUnlearning(rounds=3, round_steps=(step,))
        found.append(dcmu.unlearn(original, reduced, schedule=schedule, key=KEY).variables)
    assert same_bits(*found) and not same_bits(found[0], original.variables)
    training = Training(epochs=1, batch_size=16, optimizer=optax.sgd(0.1))
    assert len(train_from_scratch(Plain(), data.train, training, 0).losses) == 1


def test_parts_that_no_step_trains_keep_their_bits(data, original, bank):
    reduced = dcmu.collect(bank, data.train, [3, 5])
    step = Step(parts=("final",), epochs=1)
    schedule = dcmu.schedules.ModularUnlearning(closing_steps=(step,))
    found = dcmu.unlearn(original, reduced, schedule=schedule, key=KEY)
    assert same_bits(part_of(found, "beginning"), part_of(original, "beginning"))
    assert not same_bits(part_of(found, "final"), part_of(original, "final"))
    frozen = dcmu.train(original, data.train, epochs=1, key=KEY, parts=("final",))
    assert same_bits(part_of(frozen, "intermediate"), part_of(original, "intermediate"))


def test_sets_that_a_schedule_needs(data, original, bank):
    reduced = dcmu.collect(bank, data.train, [3, 5])
    with pytest.raises(InputError, match=r"not given: remembrance\. .*remembrance=test\.first"):
        dcmu.unlearn(original, reduced, schedule=dcmu.schedules.paper(), key=KEY)
    with pytest.raises(InputError, match=r"not given: forget, retain\. "):
        dcmu.unlearn(original, reduced, schedule=dcmu.schedules.recommended(), key=KEY)


@pytest.mark.parametrize("name", ["network", "schedule", "reduced", "remembrance", "retain"])
def test_values_of_another_kind(data, original, bank, name):
    good = {
        "network": original,
        "reduced": dcmu.collect(bank, data.train, [3, 5]),
        "schedule": dcmu.schedules.paper(),
        "remembrance": data.test.first(2),
        "retain": data.train,
    }
    for wrong in ("paper", bank):
        with pytest.raises(InputError, match=f"{name} given as (an?|None)"):
            dcmu.unlearn(**{**good, name: wrong}, key=KEY)
    nothing = data.train.take([])
    if name == "remembrance":
        with pytest.raises(InputError, match="remembrance, which holds no sample"):
            dcmu.unlearn(**{**good, name: nothing}, key=KEY)


def test_bad_input(data, original, bank):
    with pytest.raises(InputError, match="Did you mean 'mlp'"):
        dcmu.network("mpl", data)
    with pytest.raises(InputError, match="Options width for a module of your own"):
        dcmu.network(Plain(), data, width=2)
    clusters = dcmu.cluster(original, data.train, per_class=2)
    with pytest.raises(InputError, match="Did you mean 'matching'"):
        dcmu.condense(original, data.train, clusters, by="match")
    with pytest.raises(InputError, match="per_class = 0"):
        data.test.first(0)


def test_the_first_samples_of_each_class(data):
    first = data.test.first(2)
    for label in range(data.num_classes):
        expected = data.test.ids[data.test.labels == label][:2]
        assert first.ids[first.labels == label].tolist() == expected.tolist()
    assert len(data.test.first(10**6)) == len(data.test)

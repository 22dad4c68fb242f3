"""The plain forms of the paper's algorithms are equal to what the library runs."""

import jax
import numpy as np
import optax
import pytest
from toys import Noisy, Plain, assert_close, examples_of, fresh, part_of, same_bits, toy_splits

from dcmu_jax import schedules
from dcmu_jax.condensation.clustering import cluster_classes
from dcmu_jax.condensation.inversion import InversionConfig, invert_clusters
from dcmu_jax.core.clustering import cluster_by_class
from dcmu_jax.core.collection import collect_by_cluster, reduction
from dcmu_jax.core.model_inversion import invert
from dcmu_jax.core.modular import offline_phase, online_phase, train_parts
from dcmu_jax.core.overfitting_metric import overfitting_metric as plain_om
from dcmu_jax.core.unlearning_metric import unlearning_metric as plain_um
from dcmu_jax.metrics.gradients import unlearning_metric
from dcmu_jax.metrics.overfitting import overfitting_metric
from dcmu_jax.networks.partition import PARTS
from dcmu_jax.training.keys import named_key
from dcmu_jax.training.loop import fit
from dcmu_jax.training.optimizers import Optimizer
from dcmu_jax.unlearning.modular import Offline, train_offline
from dcmu_jax.unlearning.protocol import collection_protocol
from dcmu_jax.unlearning.schedule import Step


@pytest.fixture(scope="module")
def train():
    return toy_splits(per_class=16).train  # 48 samples


@pytest.fixture(scope="module", params=[Plain, Noisy])
def network(request, train):
    return fresh(request.param(), train)


def test_algorithm_1(train):
    features = np.random.default_rng(0).normal(size=(len(train), 5)).astype(np.float32)
    found = cluster_classes(features, train.labels, 4, seed=3)
    np.testing.assert_array_equal(cluster_by_class(features, train.labels, 4, 3), found.assignment)


@pytest.mark.parametrize("seed", range(5))
def test_algorithm_4(seed):
    rng = np.random.default_rng(seed)
    cluster, forget = rng.integers(0, 12, 60).astype(np.int32), rng.random(60) < 0.1
    clusters = [np.flatnonzero(cluster == number).tolist() for number in range(12)]
    samples, condensed = collect_by_cluster(clusters, np.flatnonzero(forget).tolist())
    found = collection_protocol(cluster, 12, forget)
    assert samples == found.survivors.tolist() and condensed == found.condensed.tolist()
    assert reduction(samples, condensed, int((~forget).sum())) == found.reduction


@pytest.mark.parametrize("warm_start", [0, 3])
def test_algorithm_3(train, warm_start):
    network = fresh(Plain(), train)
    rng = np.random.default_rng(0)
    means = rng.uniform(0, 255, (5, 8, 8, 1)).astype(np.float32)
    labels, sizes = np.array([0, 0, 1, 2, 2], np.int32), np.array([3, 1, 4, 2, 2], np.int32)
    config = InversionConfig(hidden=8, epochs=4, warm_start=warm_start)
    fast = invert_clusters(network, means, labels, sizes, config, seed=7)
    plain = invert(network, means, labels, sizes, config, key=named_key(7, "inverter"))
    np.testing.assert_allclose(plain, fast.images, atol=0.02)
    other = invert(network, means, labels, sizes, config, key=named_key(8, "inverter"))
    assert np.abs(other - fast.images).max() > 1


@pytest.mark.parametrize("parts", [("final",), ("beginning", "final"), ("intermediate",)])
def test_training_by_masks(network, train, parts):
    key = named_key(0, "training")
    fast = fit(
        network,
        examples_of(train),
        epochs=2,
        key=key,
        optimizer=Optimizer(learning_rate=0.01),
        batch_size=12,
        parts=parts,
    ).classifier
    plain = train_parts(
        network,
        network.variables,
        examples_of(train),
        parts=parts,
        epochs=2,
        optimizer=optax.adam(0.01),
        key=key,
        batch_size=12,
    ).variables
    assert_close(plain["params"], fast.variables["params"], atol=2e-5)
    assert_close(plain["batch_stats"], fast.variables.get("batch_stats", {}), atol=2e-5)
    for part in {"beginning", "intermediate", "final"} - set(parts):
        frozen = {name: trees.get(part, {}) for name, trees in plain.items()}
        assert same_bits(frozen["params"], part_of(network, part)["params"])
        assert same_bits(frozen["batch_stats"], part_of(network, part).get("batch_stats", {}))


def test_the_online_phase(train):
    network = fresh(Plain(), train)
    few = toy_splits(per_class=16).test.first(2)
    adam = Optimizer(learning_rate=0.01)
    schedule = schedules.ModularUnlearning(
        rounds=4,
        tail=2,
        round_steps=(
            Step(parts=("beginning",), batch_size=12, optimizer=adam),
            Step(parts=("final",), on="remembrance", epochs=3, batch_size=0, optimizer=adam),
        ),
        closing_steps=(
            Step(parts=("intermediate",), batch_size=12, optimizer=Optimizer(learning_rate=0.002)),
        ),
    )
    schedule.check()
    key = jax.random.key(5)
    sets = {"reduced": examples_of(train), "remembrance": examples_of(few)}
    fast = schedule.train(network, sets, key=key)
    plain = online_phase(
        network,
        *sets.values(),
        rounds=4,
        tail=2,
        final_steps=3,
        learning_rate=0.01,
        closing_rate=0.002,
        batch_size=12,
        key=key,
    )
    assert_close(plain["params"], fast.variables["params"], atol=5e-5)
    assert not same_bits(plain["params"], network.variables["params"])


def test_an_optimizer_sees_all_that_trains(network, train):
    """Clipping by the norm of the whole gradient couples the parts."""
    clipped = optax.chain(optax.clip_by_global_norm(0.05), optax.sgd(0.1))
    options = {"epochs": 1, "key": named_key(0, "t"), "batch_size": 12, "parts": PARTS[:2]}
    fast = fit(network, examples_of(train), optimizer=clipped, **options).classifier
    given = network, network.variables, examples_of(train)
    plain = train_parts(*given, optimizer=clipped, **options).variables
    assert_close(plain["params"], fast.variables["params"], atol=1e-6)


def test_the_offline_phase(train):
    network = fresh(Plain(), train)
    few = toy_splits(per_class=16).test.first(2)
    config = Offline(
        rounds=2,
        final_epochs=2,
        final_batch_size=3,
        final_optimizer=Optimizer(learning_rate=0.01),
        intermediate_epochs=1,
        intermediate_batch_size=12,
        intermediate_optimizer=Optimizer(learning_rate=0.002),
    )
    fast = train_offline(network, train, few, config, seed=5)
    plain = offline_phase(
        network,
        examples_of(train),
        examples_of(few),
        rounds=2,
        final_epochs=2,
        final_rate=0.01,
        final_batch=3,
        intermediate_epochs=1,
        intermediate_rate=0.002,
        intermediate_batch=12,
        key=jax.random.key(5),
    )
    assert_close(plain["params"], fast.variables["params"], atol=5e-5)
    assert not same_bits(plain["params"], network.variables["params"])


def test_the_unlearning_metric(network, train):
    retain, forget = train.take(np.arange(40)), train.take(np.arange(40, 48))
    fast = unlearning_metric(
        network.model,
        network.variables,
        network.normalisation,
        retain.images,
        retain.labels,
        forget.images,
        forget.labels,
    )
    assert plain_um(network, retain, forget) == pytest.approx(fast, rel=1e-4)


def test_the_overfitting_metric(network, train):
    np.testing.assert_allclose(
        plain_om(network, train), overfitting_metric(network, train).values, rtol=1e-4
    )

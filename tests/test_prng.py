"""Seeds from 0 to 2**63 - 1 all differ, others are refused, and no setting of JAX changes keys."""

import dataclasses
import functools
import hashlib
import importlib
import inspect
import json
import os
import pkgutil
import re
import subprocess
import sys
import zlib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import Noisy, Plain, examples_of, fresh, same_bits, toy_splits

import dcmu_jax
from dcmu_jax.condensation.balanced import balanced_kmeans
from dcmu_jax.condensation.clustering import cluster_classes
from dcmu_jax.data.augmentation import Augmentation
from dcmu_jax.data.requests import parse_request
from dcmu_jax.errors import InputError
from dcmu_jax.networks.partition import initialise
from dcmu_jax.prng import key_of, typed_key
from dcmu_jax.runs.config import RunConfig
from dcmu_jax.runs.run import Run
from dcmu_jax.training import environment
from dcmu_jax.training.arguments import Objective
from dcmu_jax.training.keys import named_key, named_seed, sklearn_state
from dcmu_jax.training.loop import fit
from dcmu_jax.training.optimizers import Optimizer
from dcmu_jax.training.population import fit_population, stack
from dcmu_jax.unlearning.task import Training, UnlearningTask
from dcmu_jax.unlearning.wrong_labels import wrong_labels

ROOT = Path(dcmu_jax.__file__).parent
LARGE = (0, 1, 7, 2**31, 2**32 - 1, 2**32, 2**32 + 7, 2**33 + 7, 2**62 + 7, 2**63 - 2, 2**63 - 1)
CRC_PAIRS = (
    (169683511968434782, 8145389751574667816),
    (18450027272976147, 7351469187850174786),
)
WRONG = (-1, 2**63, 2**64, 1.0, "1", None, True, float("nan"))


def words(key):
    return tuple(np.asarray(jax.random.key_data(key)).tolist())


def test_all_seeds_differ_and_small_ones_are_what_they_were():
    assert len({words(key_of(seed)) for seed in LARGE}) == len(LARGE)
    assert len({words(named_key(seed, "a")) for seed in LARGE}) == len(LARGE)
    assert len({named_seed(seed, "a") for seed in LARGE}) == len(LARGE)
    for seed in LARGE[:5]:
        assert words(key_of(seed)) == words(jax.random.key(np.uint32(seed))) == (0, seed)
        assert sklearn_state(seed) == seed
    plain = inspect.unwrap(key_of)  # the tests check types, and these are no int
    assert words(plain(np.int64(7))) == words(plain(jnp.uint32(7))) == (0, 7)


@pytest.mark.parametrize("pair", CRC_PAIRS)
def test_seeds_of_one_crc_give_other_seeds_by_name(pair):
    """By a CRC these had the same under every name: it is linear, so that there are such pairs."""
    assert len({zlib.crc32(f"{seed}/any".encode()) for seed in pair}) == 1
    for name in ("scrub", "recommended", "unlearning of a population"):
        assert len({named_seed(seed, name) for seed in pair}) == 2


def test_no_two_short_seeds_give_the_same():
    """Written down here for each seventh below 10**6; of all it was counted once."""
    seeds = range(0, 10**6, 7)
    assert len({named_seed(seed, "retrain") for seed in seeds}) == len(seeds)


def test_large_seeds_give_other_clusters_and_draws():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(60, 4)).astype(np.float32)
    labels = np.repeat([0, 1], 30)
    train = toy_splits(per_class=40).train
    for method in ("kmeans", "compiled", "minibatch", "balanced"):
        found = [
            cluster_classes(features, labels, 12, method=method, seed=seed).assignment.tolist()
            for seed in (7, 2**32 + 7, 2**33 + 7, 2**63 - 1)
        ]
        assert all(found.count(each) == 1 for each in found), method
    assert balanced_kmeans(features, 3, 2**63 - 1).shape == (60,)
    drawn = [parse_request("random:0.3", train, seed).ids.tolist() for seed in (7, 2**32 + 7)]
    assert drawn[0] != drawn[1]


def takers():
    """Every public function, method and class of the package that takes a seed."""
    for info in pkgutil.walk_packages([str(ROOT)], "dcmu_jax."):
        if info.name.startswith("dcmu_jax.service"):  # derives its seeds from those of the run
            continue
        module = importlib.import_module(info.name)
        for name, member in vars(module).items():
            if getattr(member, "__module__", None) != info.name or name.startswith("_"):
                continue
            if inspect.isfunction(member):
                yield f"{info.name}.{name}", member
            elif inspect.isclass(member) and not getattr(member, "_is_protocol", False):
                yield f"{info.name}.{name}", member
                call = vars(member).get("__call__")
                if inspect.isfunction(call) and "seed" in inspect.signature(call).parameters:
                    whole = inspect.unwrap(call)
                    yield f"{info.name}.{name}()", functools.partial(whole, member())


def arguments_of(taker):
    try:
        return inspect.signature(taker).parameters
    except ValueError:  # an exception's, for example
        return {}


TAKERS = {name: taker for name, taker in takers() if "seed" in arguments_of(taker)}

LATER = {
    "dcmu_jax.audits.building.Rearing",
    "dcmu_jax.condensation.condenser.Given",
    "dcmu_jax.sweeps.cells.Group",
    "dcmu_jax.applications.condensed_model_bench.CondensedModelBench",
    "dcmu_jax.applications.condensed_model_run.CondensedModelConfig",
    "dcmu_jax.runs.config.RunConfig",
    "dcmu_jax.unlearning.task.UnlearningTask",
}
"""Values whose other fields are judged first, or that ``check`` judges."""


def test_seeds_are_found():
    assert len(TAKERS) > 50
    assert "dcmu_jax.condensation.building.build_bank" in TAKERS


@pytest.mark.parametrize("name", sorted(TAKERS.keys() - LATER))
def test_a_seed_out_of_range_is_refused_at_the_door(name):
    """Before anything else is looked at, so that nothing else need be there."""
    taker, wrong = TAKERS[name], WRONG
    if inspect.isclass(taker):
        wrong = WRONG[:3]  # the tests check the types of fields
    else:
        taker = inspect.unwrap(taker)
    needed = {
        argument: None
        for argument, parameter in arguments_of(taker).items()
        if parameter.default is inspect.Parameter.empty
    }
    for seed in wrong:
        with pytest.raises(InputError, match=r"seed = .*from 0 to 2\*\*63 - 1"):
            found = taker(**{**needed, "seed": seed})
            next(found)  # a generator begins when it is asked


def test_the_seed_of_a_task():
    with pytest.raises(InputError, match=r"seed = 9223372036854775808"):
        UnlearningTask(
            original=fresh(Plain(), TRAIN),
            train=TRAIN,
            forget_ids=TRAIN.ids[:2],
            seed=2**63,
            training=Training(),
        )


@pytest.mark.parametrize("name", ["seed", "forget_seed", "unlearning_seed"])
def test_the_seeds_of_a_run(name, tmp_path):
    for seed in WRONG[:3]:
        with pytest.raises(InputError, match=rf"^{name} = "):
            dataclasses.replace(RunConfig(), **{name: seed}).check()
    dataclasses.replace(RunConfig(), **{name: 2**63 - 1}).check()


def test_no_other_key_is_made():
    """Of a generator that is not named, the environment decides."""
    made = re.compile(r"random\.(key|PRNGKey)\((?!\))|random\.key[,)]")
    for file in [*ROOT.rglob("*.py"), *(ROOT.parent / "experiments").rglob("*.py")]:
        found = [
            line
            for line in file.read_text().splitlines()
            if made.search(line) and "jax.random.key(seed)" not in line
        ]
        assert not found, file


TRAIN = toy_splits().train
OPTIMIZER = Optimizer(learning_rate=1e-2)


def trained(key):
    start = fresh(Noisy(), TRAIN)
    options = {"epochs": 2, "batch_size": 8}
    options["loss"] = Objective(augmentation=Augmentation(flip=True))
    return fit(start, examples_of(TRAIN), key=key, optimizer=OPTIMIZER, **options).classifier


def raw_key(seed):
    return np.array([0, seed], np.uint32)


def test_keys_may_be_typed_or_raw():
    assert same_bits(trained(key_of(3)).variables, trained(raw_key(3)).variables)
    assert same_bits(trained(key_of(3)).variables, trained(jnp.asarray(raw_key(3))).variables)
    one, other = (initialise(Plain(), key, (8, 8, 1)) for key in (key_of(1), raw_key(1)))
    assert same_bits(one, other)
    labels = np.zeros(40, np.int32)
    np.testing.assert_array_equal(
        wrong_labels(labels, 5, key_of(2)), wrong_labels(labels, 5, raw_key(2))
    )
    rows, networks = np.tile(np.arange(8), (2, 1)), stack([fresh(Plain(), TRAIN)] * 2)
    options = {"epochs": 1, "optimizer": OPTIMIZER}
    populations = [
        fit_population(networks, examples_of(TRAIN), rows, keys=keys, **options).classifiers
        for keys in (jnp.stack([key_of(1), key_of(2)]), np.stack([raw_key(1), raw_key(2)]))
    ]
    assert same_bits(populations[0].variables, populations[1].variables)


@pytest.mark.parametrize(
    "key",
    [
        np.array([0, 3]),
        np.zeros(4, np.uint32),
        np.zeros((2, 2), np.uint32),
        jnp.zeros(()),
        jnp.zeros(2, jnp.int32),
    ],
)
def test_what_is_no_key_is_refused(key):
    calls = (
        lambda: trained(key),
        lambda: initialise(Plain(), key, (8, 8, 1)),
        lambda: wrong_labels(np.zeros(3, np.int32), 2, key),
        lambda: Augmentation(flip=True).apply(TRAIN.images, key),
    )
    for call in calls:
        with pytest.raises(InputError, match=r"key.*jax\.random\.key\(seed\)"):
            call()


@pytest.mark.parametrize("key", [3, None, "3", np.float32(3), [0, 3]])
def test_what_is_no_array_is_no_key(key):
    with pytest.raises(InputError, match=r"key.*jax\.random\.key\(seed\)"):
        typed_key(key)


def test_several_keys_where_one_is_meant_are_refused():
    with pytest.raises(InputError, match=r"Make one with jax\.random\.key\(seed\)$"):
        typed_key(jnp.stack([key_of(0), key_of(1)]))
    with pytest.raises(InputError, match=r"shape \[2\], or uint32 \[2, 2\].*and split it"):
        typed_key(key_of(0), (2,))


def digest():
    """Of what keys decide: initialisation, order, augmentation, dropout, clusters, raw keys."""
    found = hashlib.sha256(trained(named_key(2**40 + 1, "x")).fingerprint().encode())
    found.update(trained(raw_key(5)).fingerprint().encode())
    features = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    clusters = cluster_classes(features, np.zeros(40, int), 6, method="compiled", seed=3)
    found.update(clusters.assignment.tobytes())
    return found.hexdigest()


def test_the_generator_of_the_environment_changes_nothing():
    options = "jax.config.jax_default_prng_impl, jax.config.jax_random_seed_offset"
    code = f"import jax, test_prng; print({options}, test_prng.digest())"
    told, tried = [], [["threefry2x32", "0"], ["rbg", "1"], ["unsafe_rbg", "2"]]
    for chosen, offset in tried:
        path = os.pathsep.join([str(Path(__file__).parent), str(ROOT.parent)])
        env = {**os.environ, "JAX_DEFAULT_PRNG_IMPL": chosen, "PYTHONPATH": path}
        env["JAX_RANDOM_SEED_OFFSET"] = offset
        done = subprocess.run(
            [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True
        )
        told.append(done.stdout.split())
    assert [line[:2] for line in told] == tried
    assert len({line[2] for line in told}) == 1


CONFIG = RunConfig(dataset="synthetic:classes=2,per_class=12,size=8,channels=1")
CONFIG = dataclasses.replace(
    CONFIG,
    method=dataclasses.replace(
        CONFIG.method, remembrance=dataclasses.replace(CONFIG.method.remembrance, per_class=1)
    ),
)


def test_a_run_records_what_it_depends_on_and_goes_on_under_the_same(tmp_path, monkeypatch):
    Run.create(tmp_path / "run", CONFIG)
    path = tmp_path / "run" / "environment.json"
    recorded = json.loads(path.read_text())
    assert recorded == environment.environment()
    assert recorded["random numbers"] == "threefry2x32"
    assert {"jax", "cores", "device", "XLA_FLAGS", *environment.ARITHMETIC} <= recorded.keys()
    Run.open(tmp_path / "run")
    # Other cores or versions round otherwise and are let pass.
    path.write_text(json.dumps(recorded | {"cores": "64", "jax": "0.1"}))
    Run.open(tmp_path / "run")
    for name, value in (
        ("jax_threefry_partitionable", "False"),
        ("jax_default_matmul_precision", "high"),
        ("jax_enable_x64", "True"),
    ):
        path.write_text(json.dumps(recorded | {name: value}))
        with pytest.raises(InputError, match=rf"{name} = {value}.*set {name.upper()}={value}"):
            Run.open(tmp_path / "run")
    path.unlink()  # of a run that was made before it was recorded
    Run.open(tmp_path / "run")


def test_the_remedy_works_when_typed():
    code = "from dcmu_jax.training.environment import arithmetic; print(arithmetic())"
    for name, value in zip(environment.ARITHMETIC, ("True", "False", "high"), strict=True):
        env = {**os.environ, name.upper(): value}
        done = subprocess.run(
            [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True
        )
        assert f"'{name}': '{value}'" in done.stdout


def test_no_folder_of_the_machine_is_recorded(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_dump_to=/home/me/dump --xla_cpu_enable_fast_math=true")
    assert (
        environment.numerics()["XLA_FLAGS"] == "--xla_dump_to=... --xla_cpu_enable_fast_math=true"
    )

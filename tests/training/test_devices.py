"""One device, several, and several processes: the same results, and what they cost in messages."""

import concurrent.futures
import dataclasses
import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import one_of_two
import pytest
from toys import Noisy, Plain, examples_of, fresh, same_bits, toy_splits

from dcmu_jax.cli import main
from dcmu_jax.condensation import MatchingConfig
from dcmu_jax.condensation.building import build_bank
from dcmu_jax.errors import InputError
from dcmu_jax.fast import lloyd, matching
from dcmu_jax.fast.chunks import deal_clusters
from dcmu_jax.networks import convolution
from dcmu_jax.networks.convnet import ConvNet
from dcmu_jax.runs.config import RunConfig
from dcmu_jax.runs.run import Run
from dcmu_jax.training import loop, rendezvous
from dcmu_jax.training.arguments import Placement
from dcmu_jax.training.devices import at_home, device_mesh, gathered, local_mesh, placed, turn
from dcmu_jax.training.keys import named_key
from dcmu_jax.training.optimizers import Optimizer
from dcmu_jax.training.processes import ProcessOptions, ended_together
from experiments.benchmarks.devices import collectives, free_port, programs

TRAIN = toy_splits().train
ROUNDING = 1e-5
"""Relative. Devices add the same numbers in another order: at most 24 terms of float32, so 24 times
2**-24 or 1.4e-6 of a gradient, and some ten small steps carry it on. Ten times that is far below
what a batch in the wrong place changes (1e-2 and more)."""


@pytest.mark.parametrize(
    ("model", "layers"),
    [(Plain(), 0), (Noisy(), 3), (ConvNet(3, 4, conv="dot"), 0)],
    ids=["plain", "norm", "convolutions"],
)
def test_a_step_exchanges_gradients_once_and_batch_statistics_twice(monkeypatch, model, layers):
    # A batch that lies on several devices must not go through convolutions in pieces.
    monkeypatch.setattr(convolution, "_PIECE_BYTES", 1)
    with programs(loop, "compiled_epoch", (0,)) as texts:
        loop.fit(
            fresh(model, TRAIN),
            examples_of(TRAIN),
            epochs=1,
            batch_size=16,
            key=named_key(0, "devices"),
            optimizer=Optimizer(),
            placement=Placement(device_mesh(4)),
        )
    # In the one loop of the program, so in every step: the gradients with the sums of loss and
    # hits; and of each BatchNorm layer the sums of its inputs, and of their gradients.
    assert collectives(texts[0]) == {"all-reduce": 1 + 2 * layers}


def test_collectives_are_found_in_a_program():
    mesh = device_mesh(4)
    x = placed(np.arange(8.0, dtype=np.float32), mesh, jax.sharding.PartitionSpec("data"))
    whole = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    text = jax.jit(lambda x: x, out_shardings=whole).lower(x).compile().as_text()
    assert collectives(text) == {"all-gather": 1}


def test_devices_share_the_clusters_without_a_collective():
    config = MatchingConfig(steps=15, tolerance=1e-3, learning_rate=0.01)
    options = {"clusters_per_class": 3, "matching": config, "method": "compiled"}
    network = fresh(Plain(), TRAIN)
    one = build_bank(TRAIN, network, **options)
    with programs(matching, "_advance", (0, 1, 2, 3)) as texts:
        three = build_bank(TRAIN, network, mesh=device_mesh(3), **options)
    assert texts and not any(collectives(text) for text in texts)
    np.testing.assert_array_equal(three.cluster, one.cluster)
    assert one.final_loss.sum() < 0.9 * one.initial_loss.sum()
    np.testing.assert_allclose(three.initial_loss, one.initial_loss, rtol=1e-4, atol=1e-9)
    np.testing.assert_allclose(three.final_loss, one.final_loss, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(three.weights, one.weights, atol=1e-4)
    np.testing.assert_allclose(three.images, one.images, atol=1e-2)  # of 255


def test_every_device_has_a_chunk():
    sizes = np.repeat(np.arange(6), 4)
    pixels, targets = np.zeros((24, 2, 2, 1), np.uint8), np.zeros((6, 1), np.float32)
    chunks = deal_clusters(pixels, targets, sizes, np.ones(24), at_once=3)
    assert [len(chunk.clusters) for chunk in chunks] == [2, 2, 2]


def test_devices_share_the_classes_of_kmeans_without_a_collective():
    points = np.random.default_rng(0).normal(size=(4, 20, 3)).astype(np.float32)
    each = points, np.full(4, 20, np.int32), jax.vmap(jax.random.key)(np.arange(4, dtype=np.uint32))
    one = lloyd.all_classes(each, 3, True, 4, None)
    with programs(lloyd, "_some_classes", (1, 2, 3, 4)) as texts:
        three = lloyd.all_classes(each, 3, True, 4, device_mesh(3, "classes"))
    np.testing.assert_array_equal(one, three)
    assert collectives(texts[0]) == {}


def test_one_process_has_nothing_to_exchange():
    mesh = device_mesh(4)
    assert turn(None) == turn(mesh) == (0, 1)
    assert local_mesh(None, "x") is None and local_mesh(mesh, "x").shape == {"x": 4}
    key = named_key(0, "x")
    there = placed({"a": np.arange(3), "key": key}, mesh, jax.sharding.PartitionSpec())
    assert same_bits(at_home(there)["a"], gathered(there)["a"])
    assert (at_home(there)["key"] == key).all()


def _options(port, process, count=3, timeout=1):
    return ProcessOptions(
        coordinator=f"127.0.0.1:{port}", processes=count, process=process, start_timeout=timeout
    )


def _rendezvous(port, *calls, timeout=20):
    """What each process hears at the rendezvous: connections, or the message of an error."""

    def one(call):
        try:
            peers = rendezvous.rendezvous("127.0.0.1", port, *call, timeout)
        except InputError as error:
            return str(error)
        for peer in peers:
            peer.close()
        return len(peers)

    with concurrent.futures.ThreadPoolExecutor(len(calls)) as threads:
        return list(threads.map(one, calls))


def test_processes_meet():
    assert _rendezvous(free_port(), (0, 3), (1, 3), (2, 3)) == [2, 1, 1]


def test_processes_that_do_not_fit_are_all_told():
    missing = _rendezvous(free_port(), (0, 3), (2, 3), timeout=1)
    assert all("Of 3 processes, 1 did not come within 1 s" in said for said in missing)
    twice = _rendezvous(free_port(), (0, 4), (1, 4), (1, 4), timeout=5)
    assert all("Two processes with --process 1" in said for said in twice)
    other = _rendezvous(free_port(), (0, 3), (1, 2))
    assert all("Process 1 of 2, where process 0 counts 3" in said for said in other)
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        assert "where process 0 cannot listen" in _rendezvous(port, (0, 3))[0]


def test_a_port_can_be_listened_on_while_the_connections_last():
    port = free_port()
    with concurrent.futures.ThreadPoolExecutor(2) as threads:
        join = lambda process: rendezvous.rendezvous("127.0.0.1", port, process, 2, 20)  # noqa: E731
        peers = [peer for found in threads.map(join, (0, 1)) for peer in found]
    with socket.socket() as server:  # as JAX's runtime does
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("127.0.0.1", port))
        server.listen()
    for peer in peers:
        peer.close()


BAD = {
    "unreachable": (_options(1, 1), r"127.0.0.1:1', which cannot be reached within 1 s"),
    "host": (dataclasses.replace(_options(1, 1), coordinator="nowhere.invalid:80"), "coordinator"),
    "no port": (dataclasses.replace(_options(1, 1), coordinator="here"), "HOST:PORT"),
    "number": (_options(1, 3), r"process = 3 of 3. Allowed: 0..2"),
    "count": (_options(1, 0, count=0), r"processes = 0"),
    "some": (ProcessOptions(processes=2), r"Only some of --coordinator"),
    "two ways": (ProcessOptions(distributed="auto", process=0), r"--distributed auto with"),
    "start timeout": (_options(1, 1, timeout=0), r"start_timeout = 0"),
    "heartbeat": (dataclasses.replace(_options(1, 1), heartbeat_timeout=1), r"heartbeat_timeout"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_settings_are_refused_at_the_command_line(kind, tmp_path, capsys):
    options, message = BAD[kind]
    given = {name: str(v) for name, v in dataclasses.asdict(options).items() if v is not None}
    flags = [part for name, v in given.items() for part in (f"--{name.replace('_', '-')}", v)]
    assert main(["run", "--out", str(tmp_path / "run"), *flags]) == 2
    said = capsys.readouterr().err
    assert said.startswith("dcmu: ") and re.search(message, said), said
    assert not list(tmp_path.iterdir())


def test_one_command_starts_a_run_and_goes_on_with_it(tmp_path, capsys):
    config = RunConfig()
    made = Run.create_or_open(tmp_path / "run", config)
    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert Run.create_or_open(tmp_path / "run", config).config == made.config
    assert written == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    with pytest.raises(InputError, match=r"started with other settings \(seed = "):
        Run.create_or_open(tmp_path / "run", dataclasses.replace(config, seed=5))
    assert main(["run", "--start-or-resume"]) == 2
    assert main(["run", "--start-or-resume", "--resume", "--out", str(tmp_path / "run")]) == 2
    said = capsys.readouterr().err
    assert "--start-or-resume without --out" in said and "--resume with --start-or" in said


def _both(folder, *last):
    """Exit status and output of the two processes of a run."""
    flags = re.sub(r"(device_count)=\d+", r"\1=1", os.environ["XLA_FLAGS"])  # rounds as here
    root = Path(__file__).parents[2]
    paths = os.pathsep.join([str(root), str(root / "tests")])
    environment = {**os.environ, "XLA_FLAGS": flags, "PYTHONPATH": paths}
    port = str(free_port())
    command = [sys.executable, one_of_two.__file__, str(folder), port]
    pair = [
        subprocess.Popen(
            [*command, str(number), *last],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
        )
        for number in range(2)
    ]
    try:
        said = [process.communicate(timeout=900)[0] for process in pair]
    finally:
        for process in pair:
            process.kill()
            process.communicate()
    return [process.returncode for process in pair], said


def _losses(directory):
    """The losses of the original's epochs; those before a resumption may be there twice."""
    lines = map(json.loads, (directory / "metrics.jsonl").read_text().splitlines())
    epochs = [line for line in lines if line["stage"] == "train" and "epoch" in line]
    return {line["epoch"]: line["loss"] for line in epochs}


def test_two_processes_one_of_which_dies_and_both_come_again(tmp_path):
    status, said = _both(tmp_path, "dies")
    assert status == [rendezvous.LOST, -9], said
    assert "another process of this run is gone" in said[0]
    assert not (tmp_path / "run" / "original").exists()
    assert (tmp_path / "run" / "original.unfinished").is_dir()

    status, said = _both(tmp_path, "lives")
    assert status == [0, 0], said
    first, second = (json.loads(text.splitlines()[-1]) for text in said)
    assert second.pop("writes") == [] and first.pop("writes")
    assert first == second
    assert first["resumed"] == first["uninterrupted"] and first["sent"]
    assert first["merged"] == "[-0.0, nan, 7.0]"
    for message, part in zip(
        first["refusals"],
        (
            "Process 1: A file that is not here",
            "Process 1 has other ids than process 0",
            "devices = 3 in 2 processes. Allowed: a multiple of 2",
            "devices = 4. Allowed: 1..2",
            "exists already",
            "Process 1 has other settings or data than process 0",
        ),
        strict=True,
    ):
        assert message and part in message
    assert not (tmp_path / "new").exists()

    # Against one process and one device.
    config = dataclasses.replace(Run.open(tmp_path / "run").config, devices=1)
    one = Run.create(tmp_path / "one", config)
    one.train()
    bank = one_of_two.bank(one, None)
    both = _losses(tmp_path / "run")
    assert list(both) == list(range(1, 13))
    np.testing.assert_allclose(
        list(both.values()), list(_losses(tmp_path / "one").values()), rtol=10 * ROUNDING
    )
    np.testing.assert_array_equal(first["cluster"], bank.cluster)
    np.testing.assert_allclose(first["final_loss"], bank.final_loss, rtol=1e-3, atol=1e-6)
    alone = one_of_two.population(one, None)
    np.testing.assert_allclose(first["population"], alone, rtol=10 * ROUNDING)


@pytest.mark.parametrize("platform", ["cuda", "nonsense"])
def test_a_platform_without_a_device(tmp_path, platform):
    joining = ["--coordinator", f"127.0.0.1:{free_port()}", "--processes", "1", "--process", "0"]
    done = subprocess.run(
        [sys.executable, "-m", "dcmu_jax.cli", "train", "--out", str(tmp_path / "run"), *joining],
        env={**os.environ, "JAX_PLATFORMS": platform},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    assert f"JAX finds no device of JAX_PLATFORMS='{platform}'" in done.stderr


def test_an_interrupted_process_names_the_way_on(monkeypatch, capsys):
    def leave(status):
        raise SystemExit(status)

    monkeypatch.setattr("jax.distributed.is_initialized", lambda: True)
    monkeypatch.setattr("jax.process_count", lambda: 2)
    monkeypatch.setattr(os, "_exit", leave)
    with pytest.raises(SystemExit) as caught, ended_together(lambda: "Go on with this"):
        raise KeyboardInterrupt
    assert caught.value.code == 130
    assert capsys.readouterr().err == (
        "dcmu: process 0 of 2 was interrupted; the others end as well\nGo on with this\n"
    )


def test_a_process_that_jax_gives_no_device_fails_once(monkeypatch):
    def none():
        raise RuntimeError("no device")

    monkeypatch.setattr("jax.distributed.is_initialized", lambda: True)
    monkeypatch.setattr("jax.process_count", none)
    with pytest.raises(KeyError), ended_together():
        raise KeyError

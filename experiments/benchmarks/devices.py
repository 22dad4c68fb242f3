"""Benchmark: the same training on 1, 2 and 8 devices and in two processes; collectives; a death.

Command:  python -m experiments.benchmarks.devices
          (from the root of the repository)
Needs:    2 CPU cores, some 4 minutes of processor time. The devices are virtual ones of one CPU,
          the processes are on this machine: nothing is said of speed.
Aim:      losses that differ by rounding alone; one all-reduce in a step of data-parallel training,
          two more for every BatchNorm layer; none for populations and clusters; a run whose
          process is killed ends everywhere, and resumes to the bits of one that was not.

Every case runs in processes of its own: a network with BatchNorm and dropout and one without, a
population of eight, and condensed images of 24 clusters. Differences are to one device.
"""

from __future__ import annotations

import collections
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dcmu_jax.condensation import MatchingConfig
from dcmu_jax.condensation.building import build_bank
from dcmu_jax.data.sources import load
from dcmu_jax.fast import lloyd, matching
from dcmu_jax.networks.catalogue import create
from dcmu_jax.prng import key_of
from dcmu_jax.training import loop, population
from dcmu_jax.training.arguments import Placement
from dcmu_jax.training.classifier import fresh_classifier
from dcmu_jax.training.devices import device_mesh
from dcmu_jax.training.examples import Examples
from dcmu_jax.training.keys import named_key
from dcmu_jax.training.optimizers import Optimizer
from dcmu_jax.training.processes import ProcessOptions, ended_together, start
from dcmu_jax.training.rendezvous import LOST
from experiments.benchmarks.command import ROOT, CommandLine, in_a_process

DATA = "synthetic:classes=3,per_class=64,size=16,channels=1"
COLLECTIVES = (
    "all-reduce",
    "all-gather",
    "all-to-all",
    "reduce-scatter",
    "collective-permute",
    "collective-broadcast",
)
HEARTBEAT_S = 10


def collectives(program: str) -> dict[str, int]:
    """How many collectives of each kind the text of a compiled program has; none left out."""
    found = re.findall(rf"\s({'|'.join(COLLECTIVES)})(?:-start)?\(", program)
    return dict(collections.Counter(found))


@contextlib.contextmanager
def programs(module: Any, name: str, static: tuple[int, ...]) -> Iterator[list[str]]:
    """The texts of the compiled programs that ``module.name`` runs in the block.

    Args:
        module: holds a jitted function.
        name: of it.
        static: the positions of its static arguments.
    """
    texts: list[str] = []
    jitted = getattr(module, name)

    def spy(*args):
        compiled = jitted.lower(*args).compile()
        texts.append(compiled.as_text())
        return compiled(*(arg for i, arg in enumerate(args) if i not in static))

    setattr(module, name, spy)
    try:
        yield texts
    finally:
        setattr(module, name, jitted)


def measure(devices: int, epochs: int = 4) -> dict[str, Any]:
    """Losses, condensed images and collectives on so many devices, over all processes.

    Args:
        devices: over which the work is shared.
        epochs: of every training.
    """
    splits = load(DATA)
    train = splits.train
    examples = Examples.of(train.images, train.labels)
    found: dict[str, Any] = {"collectives": {}}

    @contextlib.contextmanager
    def counted(what: str, module: Any, name: str, *static: int) -> Iterator[None]:
        with programs(module, name, static) as texts:
            yield
        counts = [collectives(text) for text in texts]
        found["collectives"][what] = max(counts, key=lambda kinds: sum(kinds.values()))

    networks = {}
    for name in ("mlp", "cnn"):
        model = create(name, image_shape=splits.image_shape, num_classes=3, width=0.1)
        networks[name] = fresh_classifier(model, train, 0)
        with counted(name, loop, "compiled_epoch", 0):
            fitted = loop.fit(
                networks[name],
                examples,
                epochs=epochs,
                key=named_key(0, "devices"),
                optimizer=Optimizer(),
                batch_size=32,
                placement=Placement(device_mesh(devices)),
            )
        found[name] = list(fitted.losses)

    rows = np.stack([np.random.default_rng(i).permutation(len(train))[:64] for i in range(8)])
    with counted("population", population, "_population_epoch", 0, 1, 2):
        together = population.fit_population(
            population.stack([fresh_classifier(networks["mlp"].model, train, i) for i in range(8)]),
            examples,
            rows,
            epochs=epochs,
            keys=jnp.stack([named_key(i, "devices") for i in range(8)]),
            optimizer=Optimizer(),
            batch_size=32,
            placement=Placement(device_mesh(devices, "models")),
        )
    found["population"] = together.losses.ravel().tolist()

    with counted("clusters", matching, "_advance", 0, 1, 2, 3):
        bank = build_bank(
            train,
            networks["cnn"],
            clusters_per_class=8,
            method="compiled",
            matching=MatchingConfig(steps=20),
            mesh=device_mesh(devices),
        )
    found["clusters"] = bank.final_loss.tolist()

    points = np.random.default_rng(0).normal(size=(8, 40, 5)).astype(np.float32)
    keys = jnp.stack([key_of(seed) for seed in range(8)])
    each = points, np.full(8, 40, np.int32), keys
    own = device_mesh(devices, "classes") if jax.process_count() == 1 else None
    with counted("kmeans", lloyd, "_some_classes", 1, 2, 3, 4):
        assigned = lloyd.all_classes(each, 4, True, 2, own)
    found["kmeans"] = np.asarray(assigned).ravel().tolist()
    return found


def free_port() -> int:
    """A port of this machine that is free now."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def environment(devices: int) -> dict[str, str]:
    """Of a child with so many virtual devices."""
    # Tiny programs: without the last optimisations of each they compile in two thirds of the time.
    flags = f"--xla_force_host_platform_device_count={devices} --xla_backend_optimization_level=1"
    return {**os.environ, "XLA_FLAGS": flags}


def both(arguments: list[str], devices: int, folder: Path, name: str) -> list[subprocess.Popen]:
    """Two processes of one run, each with its output in a file of ``folder``."""
    port = free_port()
    started = []
    for number in range(2):
        joining = ["--coordinator", f"127.0.0.1:{port}", "--processes", "2", "--process", number]
        with (folder / f"{name}{number}").open("w") as output:
            started.append(
                subprocess.Popen(
                    [sys.executable, "-m", *arguments, *map(str, joining)],
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    cwd=ROOT,
                    env=environment(devices),
                )
            )
    return started


def _losses(folder: Path) -> dict[str, Any]:
    """Every case in processes of its own, as differences to one device."""
    measured: dict[str, dict[str, Any]] = {}
    child = ["experiments.benchmarks.devices", "--child"]
    for devices in (1, 2, 8):
        found = in_a_process("devices", "--child", devices, env=environment(devices))
        measured[f"{devices} devices"] = found
    pair = both([*child, "8"], 4, folder, "child")
    if any(process.wait() for process in pair):
        raise RuntimeError((folder / "child0").read_text() + (folder / "child1").read_text())
    outputs = [json.loads((folder / f"child{i}").read_text().splitlines()[-1]) for i in range(2)]
    measured["2 processes of 4 devices"] = outputs[0]
    if outputs[0] != outputs[1]:
        raise RuntimeError("The two processes have other results")
    one = measured["1 devices"]
    kinds = ("mlp", "cnn", "population", "clusters", "kmeans")
    return {
        case: {
            "largest_relative_difference": {
                kind: float(np.max(np.abs(np.subtract(found[kind], one[kind])) / _size(one[kind])))
                for kind in kinds
            },
            "collectives": found["collectives"],
            "last_losses": {kind: found[kind][-1] for kind in ("mlp", "cnn")},
        }
        for case, found in measured.items()
    }


def _size(values: Any) -> np.ndarray:
    """What a difference is relative to."""
    return np.maximum(np.abs(values), 1e-6)


def _digest(directory: Path) -> dict[str, Any]:
    """The fingerprints of a run's networks, and what of its table, if any, depends on no clock."""
    prints = {
        str(path.parent.relative_to(directory)): json.loads(path.read_text())["fingerprint"]
        for path in sorted(directory.rglob("about/metadata"))
    }
    if not (directory / "table.csv").exists():
        return prints
    lines = [line.split(",") for line in (directory / "table.csv").read_text().splitlines()]
    timed = {i for i, name in enumerate(lines[0]) if "second" in name or name.endswith("_s")}
    return {**prints, "table": [[v for i, v in enumerate(r) if i not in timed] for r in lines]}


def _deaths(folder: Path) -> dict[str, Any]:
    """A run of two processes, of which one is killed or falls silent; and its resumption.

    The first is a whole main job, the others train the original, which is where they are ended.
    """

    def command(name: str, kind: str = "train") -> list[str]:
        settings = "--training.epochs 300 --devices 2 --training.optimizer.name sgd --baselines"
        out = ["--quiet", "--start-or-resume", "--out", str(folder / name)]
        beats = ["--heartbeat-timeout", str(HEARTBEAT_S)]
        return ["dcmu_jax.cli", kind, *out, *beats, *settings.split()]

    whole = both(command("whole", "run"), 1, folder, "whole_")
    if any(process.wait() for process in whole):
        raise RuntimeError((folder / "whole_0").read_text() + (folder / "whole_1").read_text())
    expected = _digest(folder / "whole")
    found: dict[str, Any] = {}
    for victim, how, kind in (
        (1, signal.SIGKILL, "run"),
        (0, signal.SIGKILL, "train"),
        (1, signal.SIGSTOP, "train"),
    ):
        name = f"process_{victim}_{'killed' if how == signal.SIGKILL else 'silent'}"
        pair = both(command(name, kind), 1, folder, name)
        saved = folder / name / "original.unfinished"
        while not saved.is_dir():
            if pair[0].poll() is not None or (folder / name / "original").is_dir():
                raise RuntimeError("Too late to interrupt: " + (folder / f"{name}0").read_text())
            time.sleep(0.01)
        pair[victim].send_signal(how)
        begun = time.monotonic()
        status = pair[1 - victim].wait(timeout=120)
        seconds = time.monotonic() - begun
        pair[victim].kill()
        pair[victim].wait()
        said = (folder / f"{name}{1 - victim}").read_text().splitlines()
        finished = (folder / name / "original").is_dir()
        again = both(command(name, kind), 1, folder, f"{name}_again")
        if any(process.wait() for process in again):
            raise RuntimeError((folder / f"{name}_again0").read_text())
        digest = _digest(folder / name)
        found[name] = {
            "the_other_ended_after_s": seconds,
            "its_status": status,
            "it_said_so_itself": status == LOST,
            "its_message": next((t for t in said if "dcmu:" in t or "Terminating" in t), "")[:200],
            "original_was_finished": finished,
            "compared": sorted(digest),
            "resumed_to_the_same": all(expected[what] == this for what, this in digest.items()),
        }
    return found


def main() -> None:
    """Run what the module's docstring says."""
    child = int, "measure on so many devices and print"
    joining = {"coordinator": str, "processes": int, "process": int}
    line = CommandLine("devices", __doc__, child=child, **joining)
    args = line.parse()
    if args.child:
        start(
            ProcessOptions(
                coordinator=args.coordinator, processes=args.processes, process=args.process
            )
        )
        with ended_together():
            print(json.dumps(measure(args.child)))
        return
    with tempfile.TemporaryDirectory() as folder:
        figures = {"cases": _losses(Path(folder)), "deaths": _deaths(Path(folder))}
    figures["heartbeat_timeout_s"] = HEARTBEAT_S
    line.write("devices", figures, args)


if __name__ == "__main__":
    main()

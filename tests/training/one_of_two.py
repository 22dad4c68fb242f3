"""One of two processes of a run, as ``test_devices`` starts it; prints what it found as JSON.

First a run by the command line, in which process 1 kills itself if told to. Where the run goes
through, both then do with the library what needs both.
"""

import dataclasses
import json
import os
import signal
import sys
from pathlib import Path

import jax
import numpy as np

from dcmu_jax.cli import main
from dcmu_jax.condensation import MatchingConfig
from dcmu_jax.condensation.bank import CondensedBank
from dcmu_jax.condensation.building import build_bank
from dcmu_jax.errors import InputError
from dcmu_jax.runs.run import Run
from dcmu_jax.training import devices
from dcmu_jax.training.arguments import Placement
from dcmu_jax.training.classifier import fresh_classifier
from dcmu_jax.training.examples import Examples
from dcmu_jax.training.keys import named_key
from dcmu_jax.training.optimizers import Optimizer
from dcmu_jax.training.population import fit_population, stack
from dcmu_jax.training.processes import ended_together

OPTIONS = [
    "--dataset=synthetic:classes=3,per_class=24,size=8,channels=1",
    "--network.width=0.05",
    "--training.epochs=12",
    "--training.batch-size=24",
    "--training.optimizer.name=sgd",
    "--method.remembrance.per-class=2",
    "--quiet",
]


def refusal(do):
    """The message of the input error that ``do`` raises."""
    try:
        do()
    except InputError as error:
        return str(error)
    return None


def population(run, mesh):
    """Losses of four networks, each on a quarter of the training set."""
    train = run.splits.train
    return fit_population(
        stack([fresh_classifier(run.model, train, i) for i in range(4)]),
        Examples.of(train.images, train.labels),
        np.arange(len(train) // 4 * 4, dtype=np.int32).reshape(4, -1),
        epochs=1,
        keys=jax.vmap(lambda i: jax.random.fold_in(named_key(0, "two"), i))(np.arange(4)),
        optimizer=Optimizer(),
        batch_size=9,
        placement=Placement(mesh),
    ).losses


def bank(run, mesh):
    """Condensed images of the training set, in the space of its pixels."""
    return build_bank(
        run.splits.train,
        fresh_classifier(run.model, run.splits.train, 0),
        clusters_per_class=6,
        matching=MatchingConfig(steps=5, chunk=4),
        layer="pixels",
        mesh=mesh,
    )


def writes_under(folder):
    """A list to which everything is added that Python makes, moves or removes there."""
    writes = []

    def note(event, args):
        writing = os.O_WRONLY | os.O_RDWR | os.O_CREAT
        changes = event in ("os.mkdir", "os.rename", "os.remove", "os.rmdir")
        if (changes or (event == "open" and args[2] & writing)) and str(folder) in str(args[0]):
            writes.append(f"{event} {args[0]}")

    sys.addaudithook(note)
    return writes


def kill_at(epoch):
    """Have this process kill itself in the middle of training."""
    log = Run.log

    def die(self, **entry):
        if entry.get("epoch") == epoch:
            os.kill(os.getpid(), signal.SIGKILL)
        log(self, **entry)

    Run.log = die


def agreed(folder, number):
    """All that both processes must agree on, and what is compared with one process."""

    def only_there():
        if number == 1:
            raise InputError("A file that is not here", "one that is", "Copy it")
        return b"fine"

    finished = Run.open(folder / "run")
    config = finished.config
    whole = Run.create(folder / "whole", config)
    made = bank(finished, devices.device_mesh(2))
    sent = CondensedBank.from_bytes(devices.from_writer(made.to_bytes))
    part = np.array([-0.0, np.nan, 7.0])
    part[np.arange(3) % 2 != number] = 0.0
    other = dataclasses.replace(config, seed=number)
    return {
        "resumed": finished.train().fingerprint(),
        "uninterrupted": whole.train().fingerprint(),
        "sent": sent.to_bytes() == made.to_bytes(),
        "final_loss": made.final_loss.tolist(),
        "cluster": made.cluster.tolist(),
        "population": population(finished, devices.device_mesh(2, "models")).tolist(),
        "merged": str(devices.merged(part).tolist()),
        "refusals": [
            refusal(lambda: devices.exchanged(only_there)),
            refusal(lambda: devices.check_same_arrays("ids", {"ids": np.arange(3) * number})),
            refusal(lambda: devices.device_mesh(3)),
            refusal(lambda: devices.device_mesh(4)),
            refusal(lambda: Run.create(folder / "whole", config)),
            refusal(lambda: Run.create(folder / "new", other)),
        ],
    }


def command(folder, port, number):
    """``dcmu train`` on a device of each process, the same whether the run is there or not."""
    joining = ["--coordinator", f"127.0.0.1:{port}", "--processes", "2", "--process", str(number)]
    out = ["--start-or-resume", "--out", str(folder / "run"), "--devices", "2"]
    return ["train", *OPTIONS, *out, *joining, "--start-timeout", "60"]


if __name__ == "__main__":
    FOLDER, PORT, NUMBER, FATE = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4]
    WRITES = writes_under(FOLDER)
    if FATE == "dies" and NUMBER == 1:
        kill_at(7)  # between two checkpoints
    STATUS = main(command(FOLDER, PORT, NUMBER))
    with ended_together():
        print(json.dumps({"status": STATUS, **agreed(FOLDER, NUMBER), "writes": WRITES}))

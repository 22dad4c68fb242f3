"""A workspace small enough to be broken many times."""

import dataclasses

import numpy as np
from toys import Plain

from dcmu_jax.condensation.matching import MatchingConfig
from dcmu_jax.pipeline.config import (
    CondensationOptions,
    MethodOptions,
    RemembranceOptions,
    RunConfig,
)
from dcmu_jax.pipeline.run import Run
from dcmu_jax.service import Workspace
from dcmu_jax.service.disk import Disk
from dcmu_jax.training.optimizers import Optimizer
from dcmu_jax.unlearning.modular import Collecting, ModularUnlearning, Offline
from dcmu_jax.unlearning.schedule import Step
from dcmu_jax.unlearning.task import Training

FAST = Optimizer(learning_rate=1e-2)
ONLINE = ModularUnlearning(
    collecting=Collecting(real_per_cluster=1),
    closing_steps=(Step(parts=("intermediate", "final"), epochs=2, batch_size=8, optimizer=FAST),),
)
CONFIG = RunConfig(
    dataset="synthetic:classes=3,per_class=12,size=8,channels=1",
    forget="class:2",
    rivals=(),
    training=Training(epochs=2, batch_size=12, optimizer=FAST),
    method=MethodOptions(
        remembrance=RemembranceOptions(per_class=1),
        condensation=CondensationOptions(
            clusters_per_class=4, matching=MatchingConfig(steps=2), clustering="balanced"
        ),
        online=ONLINE,
        online_classes=ONLINE,
    ),
)


def make_run(directory, **changes):
    """A trained run of a network of the user's own."""
    run = Run.create(directory, dataclasses.replace(CONFIG, **changes), model=Plain(width=6))
    run.prepare()
    return run


def opened(directory, disk: Disk | None = None) -> Workspace:
    return Workspace(directory, model=Plain(width=6), disk=disk)


OFFLINE = dataclasses.replace(
    CONFIG.method, offline=Offline(rounds=1, final_epochs=1, intermediate_epochs=1)
)


def bytes_of(directory) -> dict[str, bytes]:
    """Every file below a directory."""
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def ids_text(ids) -> str:
    return "ids:" + ",".join(str(i) for i in np.asarray(ids).tolist())

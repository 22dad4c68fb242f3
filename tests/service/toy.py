"""A workspace small enough to be broken many times, and how a stranger would forge one."""

import json
from pathlib import Path

import numpy as np

from dcmu_jax.fast.matching import MatchingConfig
from dcmu_jax.runs.config import RunConfig
from dcmu_jax.runs.options import (
    CondensationOptions,
    MethodOptions,
    NetworkOptions,
    RemembranceOptions,
)
from dcmu_jax.service.contents import FIXED
from dcmu_jax.service.ledger import HEAD, LEDGER, sha256
from dcmu_jax.service.manifest import MANIFEST
from dcmu_jax.training.optimizers import Optimizer
from dcmu_jax.unlearning.modular import Collecting, ModularUnlearning
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
    baselines=(),
    network=NetworkOptions(width=0.05),
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


def bytes_of(directory: Path) -> dict[str, bytes]:
    """Every file below a directory."""
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def ids_text(ids) -> str:
    """A request for these ids."""
    return "ids:" + ",".join(str(i) for i in np.asarray(ids).tolist())


def forge(directory: Path, name: str, data: bytes | None, **manifest) -> None:
    """Put ``data`` in the place of a file, and every hash right: what a stranger could send.

    Args:
        directory: a workspace.
        name: of a file that never changes, or one of the current version; given as a path below it.
        data: None leaves the file alone.
        manifest: fields of the version's manifest to be replaced; ``files`` are added.
    """
    lines = [json.loads(line) for line in (directory / LEDGER).read_bytes().splitlines()]
    published = [line for line in lines if line["kind"] == "publish"][-1]
    folder = directory / "versions" / f"{published['version']:04d}"
    if name in FIXED:
        (directory / name).write_bytes(data)
        lines[0]["files"][name] = sha256(data)
    else:
        if data is not None:
            (folder / name).write_bytes(data)
        about = json.loads((folder / MANIFEST).read_bytes())
        if data is not None:
            about["files"][name] = sha256(data)
        about["files"] |= manifest.pop("files", {})
        text = json.dumps(about | manifest).encode()
        (folder / MANIFEST).write_bytes(text)
        published["manifest"] = sha256(text)
    write_ledger(directory, lines)


def write_ledger(directory: Path, lines: list[dict]) -> None:
    """A ledger of these lines whose chain and head are right."""
    previous, text = "", b""
    for line in lines:
        raw = (json.dumps(line | {"previous": previous}, separators=(",", ":")) + "\n").encode()
        previous, text = sha256(raw), text + raw
    (directory / LEDGER).write_bytes(text)
    head = json.dumps({"bytes": len(text), "sha256": previous}) + "\n"
    (directory / HEAD).write_bytes(head.encode())

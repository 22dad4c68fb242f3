"""Making a workspace of a run, and what the record of every version begins with."""

from __future__ import annotations

import dataclasses
import os
import shutil
from pathlib import Path
from typing import Any

from dcmu_jax.errors import InputError
from dcmu_jax.pipeline.config import RunConfig
from dcmu_jax.pipeline.run import Run
from dcmu_jax.service import work
from dcmu_jax.service.contents import VERSIONS, write_fixed, write_version
from dcmu_jax.service.disk import Disk, storage_errors
from dcmu_jax.service.gate import check_points
from dcmu_jax.service.ledger import Published, append, create_ledger, now
from dcmu_jax.service.manifest import Manifest

LEDGER_LOCK, WORK_LOCK = "ledger.lock", "work.lock"


def create(run: Run, directory: Path, disk: Disk, max_accuracy_loss: float | int) -> None:
    """Make a workspace of a run, all of it at once; see ``Workspace.create``."""
    check_points("max_accuracy_loss", max_accuracy_loss)
    if directory.exists():
        raise InputError(
            f"The workspace {str(directory)!r} exists already",
            "a directory that is not there yet",
            "Choose another --out",
        )
    original, prepared = run.train(), run.prepare()
    aside = directory.with_name(f".{directory.name}.{os.getpid()}.part")
    with storage_errors(f"The workspace {str(directory)!r} cannot be made", "Choose another"):
        try:
            directory.parent.mkdir(parents=True, exist_ok=True)
            disk.make_folder(aside)
            disk.make_folder(aside / VERSIONS)
            for name in (LEDGER_LOCK, WORK_LOCK):
                disk.create(aside / name, b"")
            files = write_fixed(disk, aside, run.config, run.splits)
            ledger = create_ledger(disk, aside, files, float(max_accuracy_loss))
            manifest = Manifest(
                version=0,
                change="created",
                previous="",
                parameters="",
                data=0,
                features=0,
                bank_seed=run.config.unlearning_seed,
                files={},
            )
            hashed = write_version(
                disk,
                aside,
                manifest,
                network=original,
                bank=prepared.bank,
                record=record_of(run.config, 0, "created", run.config.seed)
                | {"cost": {"bank_s": prepared.offline_s, "compile_s": prepared.compile_s}},
                start=prepared.classifier,
                train=run.splits.train,
            )
            append(disk, aside, ledger, publication(0, "created", hashed))
            disk.publish(aside, directory)
        except Exception:
            shutil.rmtree(aside, ignore_errors=True)
            raise


def record_of(config: RunConfig, version: int, change: str, seed: int) -> dict[str, Any]:
    """What the record of every version begins with."""
    return {
        "version": version,
        "change": change,
        "method": config.preset,
        "settings": dataclasses.asdict(config.method),
        "seed": seed,
        "finished": now(),
        "environment": work.environment(),
    }


def publication(version: int, change: Any, manifest: str) -> Published:
    """The line that publishes a version, as of now."""
    return Published(version=version, change=change, manifest=manifest, previous="", time=now())

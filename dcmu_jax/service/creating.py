"""Making a workspace from a run, and the common fields of every version's record."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import shutil
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dcmu_jax.errors import InputError
from dcmu_jax.files import aside_of, held, remove_left_aside
from dcmu_jax.runs.config import RunConfig
from dcmu_jax.runs.run import Run
from dcmu_jax.service import contents
from dcmu_jax.service.disk import Disk, storage_errors
from dcmu_jax.service.disk import aside_of as replaced_aside
from dcmu_jax.service.given import LEDGER_LOCK, WORK_LOCK, check_kind, check_outside, check_points
from dcmu_jax.service.ledger import HEAD, LEDGER, Published, append, create_ledger, now
from dcmu_jax.service.manifest import Manifest
from dcmu_jax.training.classifier import Classifier
from dcmu_jax.training.environment import environment
from dcmu_jax.unlearning.task import Prepared

TOP = (*contents.FIXED, LEDGER, HEAD, LEDGER_LOCK, WORK_LOCK, contents.VERSIONS)
"""What a new workspace holds."""


def is_a_beginning(folder: Path) -> bool:
    """Whether a folder holds only what is written before the first version is renamed.

    A whole workspace is none: it may be a copy that somebody made.
    """
    names = {*TOP, replaced_aside(folder / HEAD).name}
    if {path.name for path in folder.iterdir()} - names:
        return False
    versions = folder / contents.VERSIONS
    if not versions.is_dir():
        return not os.path.lexists(versions)
    return {path.name for path in versions.iterdir()} <= {contents.part_of(folder, 0).name}


def create(run: Run, directory: Path, disk: Disk, max_accuracy_loss: float | int) -> None:
    """Make a workspace of a run, all of it at once; see ``Workspace.create``."""
    check_kind("run", run, Run, "a Run, as Run.create and Run.open give it")
    check_points("max_accuracy_loss", max_accuracy_loss)
    if os.path.lexists(directory):
        raise InputError(
            f"The workspace {str(directory)!r} exists already",
            "a directory that is not there yet",
            "Choose another --out",
        )
    check_outside(directory)
    original, prepared = run.train(), run.prepare()
    aside = aside_of(directory)
    with storage_errors(f"The workspace {str(directory)!r} cannot be made", "Choose another --out"):
        directory.parent.mkdir(parents=True, exist_ok=True)
        remove_left_aside(directory, is_a_beginning)
        if os.path.lexists(aside):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(aside))
        with _ended_in_order():
            try:
                disk.make_folder(aside)
                with held(aside):
                    _fill(run, original, prepared, aside, disk, float(max_accuracy_loss))
                    disk.publish(aside, directory)
            except BaseException:  # Ctrl-C, too: it holds images
                shutil.rmtree(aside, ignore_errors=True)
                raise


@contextlib.contextmanager
def _ended_in_order() -> Iterator[None]:
    """Let signals that would end the process at once raise ``SystemExit`` instead."""

    def end(number: int, _: Any) -> None:
        sys.exit(128 + number)

    names = [name for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    numbers = [getattr(signal, name) for name in names]
    main = threading.current_thread() is threading.main_thread()
    ours = [n for n in numbers if main and signal.getsignal(n) is signal.SIG_DFL]
    for number in ours:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)


def _fill(
    run: Run,
    original: Classifier,
    prepared: Prepared,
    aside: Path,
    disk: Disk,
    max_accuracy_loss: float,
) -> None:
    """Write a workspace to a temporary folder."""
    disk.make_folder(aside / contents.VERSIONS)
    for name in (LEDGER_LOCK, WORK_LOCK):
        disk.create(aside / name, b"")
    files = contents.write_fixed(disk, aside, run.config, run.splits)
    ledger = create_ledger(disk, aside, files, max_accuracy_loss)
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
    hashed = contents.write_version(
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
    append(disk, aside, ledger, Published(version=0, change="created", manifest=hashed))


def record_of(config: RunConfig, version: int, change: str, seed: int) -> dict[str, Any]:
    """The common fields of every version's record."""
    return {
        "version": version,
        "change": change,
        "method": config.preset,
        "settings": dataclasses.asdict(config.method),
        "seed": seed,
        "finished": now(),
        "environment": environment(),
    }

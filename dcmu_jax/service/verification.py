"""Where a workspace stands, and whether it is intact: chain, files, no forgotten id in use."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import flax.linen as nn
import numpy as np

from dcmu_jax.errors import InputError
from dcmu_jax.files import FilePath
from dcmu_jax.service import contents, leftovers
from dcmu_jax.service.audits import read_audit
from dcmu_jax.service.given import check_kind, check_workspace, folder_of
from dcmu_jax.service.history import History
from dcmu_jax.service.ledger import HEAD, LEDGER
from dcmu_jax.service.manifest import differences
from dcmu_jax.service.opened import looked_at
from dcmu_jax.service.remains import remains, unknown_note
from dcmu_jax.service.work import fault_of, of_no_use
from dcmu_jax.training.classifier import Classifier, module_of


@dataclasses.dataclass(frozen=True)
class Status:
    """The status of a workspace.

    Attributes:
        version: the current one.
        published: when, in UTC.
        network: the folder of its network.
        retained: samples that it can still train on.
        forgotten: samples that it and those before forgot.
        pending: samples that wait.
        refused: why the gate did not let the last try to forget them through; None where it did
            not refuse.
        max_accuracy_loss: points of test accuracy that a batch may cost.
        interrupted: the version that was begun and not published, if any.
        unpurged: forgotten samples whose images lie in the workspace, as its files say.
        head: SHA-256 of the ledger's last line: who keeps it elsewhere can tell a ledger that was
            written again.
        notes: what is missing of a version; what lies in the workspace, or beside it, and was not
            published.
    """

    version: int
    published: str
    network: Path
    retained: int
    forgotten: int
    pending: int
    refused: str | None
    max_accuracy_loss: float
    interrupted: int | None
    unpurged: int
    head: str
    notes: tuple[str, ...]


def status(directory: Path, fixed: contents.Fixed, history: History) -> Status:
    """See ``Workspace.status``."""
    undone = leftovers.purge_undone(directory, history, leftovers.unpublished(directory, history))
    current, left = history.current, remains(directory, history)
    return Status(
        version=current.version,
        published=current.time,
        network=contents.version_folder(directory, current.version) / contents.NETWORK,
        retained=len(fixed.known) - len(history.forgotten),
        forgotten=len(history.forgotten),
        pending=len(history.waiting),
        refused=history.refusals[-1].entry.reason if history.refusals else None,
        max_accuracy_loss=history.max_accuracy_loss,
        interrupted=history.open.version if history.open else None,
        unpurged=left.images,
        head=history.ledger.hashes[-1],
        notes=(
            *([undone] if undone else leftovers.missing_of(directory, history)),
            *leftovers.misplaced_notes(directory, history),
            *leftovers.notes_of(directory, history),
            *unknown_note(left),
        ),
    )


@dataclasses.dataclass(frozen=True)
class Verification:
    """What was found.

    Attributes:
        problems: what is not as it was written; empty in a sound workspace.
        notes: what interrupted work left, which the next one removes, and what is not of the
            service, which nothing touches; neither is damage.
    """

    problems: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def clean(self) -> bool:
        """Whether there is no problem."""
        return not self.problems


def verify(directory: FilePath, *, model: nn.Module | Classifier | None = None) -> Verification:
    """Check a workspace without changing it, and without stopping at the first problem.

    Where a batch or a purge overtakes it, it starts over, five times at most.

    Finds any change of a byte in the ledger, its head, settings, images, banks, checkpoints,
    manifests, records and audits. Someone who may write them all, and computes every hash again, is
    found only by who has kept a receipt, a certificate or the head of the ledger elsewhere.

    Args:
        directory: of the workspace.
        model: the module, where it is not of the catalogue; as for ``Run``.

    Raises:
        InputError: it is no workspace.
    """
    directory, module = folder_of(directory), module_of(model)
    check_kind("model", module, (nn.Module, type(None)), "None, or the Flax module of the run")
    check_workspace(directory)
    try:
        return looked_at(directory, lambda history: _verified(directory, history, module))
    except (InputError, OSError) as error:
        return Verification((str(error),), ())


def _verified(directory: Path, history: History, model: nn.Module | None) -> Verification:
    problems: list[str] = []
    notes: list[str] = []
    ledger = history.ledger
    if ledger.torn:
        notes.append(
            f"{len(ledger.torn)} bytes at the end of {LEDGER}, beyond what {HEAD} counts, are no "
            "whole line, as a crash leaves it: the next command that writes cuts them off"
        )
    if ledger.size > ledger.acknowledged:
        notes.append(
            f"{ledger.size - ledger.acknowledged} bytes of whole lines of {LEDGER} lie beyond what "
            f"{HEAD} counts: they count, and the next command that writes acknowledges them"
        )
    fixed = contents.read_fixed(directory, history.created.files, model)
    purged_before = history.purged_before
    try:
        manifest = leftovers.unpublished(directory, history)
        undone = leftovers.purge_undone(directory, history, manifest)
        if manifest is not None and undone:
            problems.append(undone)
            purged_before = manifest.version
    except InputError as error:
        # What those versions did to the files of others, a purge perhaps, cannot be told.
        return Verification((*problems, str(error)), tuple(notes))
    _check_ids(history, fixed.known.ids, problems)
    for entry in history.versions:
        purged = entry.version < purged_before
        _check_version(directory, history, entry.version, purged, problems, notes)
    problems += leftovers.misplaced_notes(directory, history)
    notes += leftovers.notes_of(directory, history)
    notes += unknown_note(remains(directory, history))
    notes += [
        f"{name} has a second name (a hard link): a command that would change it stops"
        for name in (LEDGER, HEAD)
        if (directory / name).stat().st_nlink > 1
    ]
    for version in history.audits:
        try:
            read_audit(directory, history, version)
        except (InputError, OSError) as error:
            problems.append(str(error))
    if not problems:
        try:
            current = contents.read_samples(directory, fixed, history)
            network = contents.read_network(directory, fixed, history.current.version)
        except (InputError, OSError) as error:
            return Verification((str(error),), tuple(notes))
        if network.fingerprint() != current.manifest.parameters:
            problems.append("The current network does not have the parameters of its manifest")
        elif fault := fault_of(network, fixed):
            problems.append(of_no_use(history.current.version, fault))
        retained = np.setdiff1d(fixed.known.ids, history.forgotten)
        for what, ids in (("images", current.train.ids), ("bank", current.bank.ids)):
            if not np.array_equal(np.sort(ids), retained):
                problems.append(f"The {what} of the current version are not those that stay")
        purged = history.forgotten_by(history.purged_before)
        if np.isin(purged, current.held.ids).any():
            problems.append("Images that were purged are in the workspace")
    return Verification(tuple(problems), tuple(notes))


def _check_ids(history: History, known: np.ndarray, problems: list[str]) -> None:
    asked = np.concatenate([history.forgotten, history.waiting])
    unknown = np.setdiff1d(asked, known)
    if len(unknown):
        problems.append(f"The ledger names {len(unknown)} ids that the workspace never had")


def _check_version(
    directory: Path,
    history: History,
    version: int,
    purged: bool,
    problems: list[str],
    notes: list[str],
) -> None:
    folder = contents.version_folder(directory, version)
    kept = contents.KEPT if purged else None
    try:
        manifest = contents.read_manifest(directory, history, version)
        before = history.versions[version - 1].manifest if version else ""
        if manifest.previous != before:
            problems.append(f"{folder.name}: it does not follow from the version before")
        problems += map(str, differences(folder, manifest, kept))
        record = contents.read_record(directory, manifest)
        if not contents.agrees(record, history, version):
            problems.append(f"{folder.name}: its record names other ids than the ledger")
    except (InputError, OSError) as error:
        problems.append(str(error))
        return
    if kept is not None:
        left = {name.split("/")[0] for name in manifest.files if (folder / name).is_file()}
        if left - set(contents.KEPT):
            names = ", ".join(sorted(left - set(contents.KEPT)))
            notes.append(f"{folder.name}: a purge has still to remove {names}")

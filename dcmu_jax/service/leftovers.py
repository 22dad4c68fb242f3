"""After an interruption: finished versions are found again, unfinished work is removed."""

from __future__ import annotations

import contextlib
import re
import shlex
from pathlib import Path

from dcmu_jax.errors import InputError
from dcmu_jax.files import left_aside
from dcmu_jax.service import contents
from dcmu_jax.service.audits import AUDITS, audit_path, not_in_the_ledger, settle_audits
from dcmu_jax.service.creating import TOP, is_a_beginning
from dcmu_jax.service.disk import Disk, aside_of
from dcmu_jax.service.entries import read_plain
from dcmu_jax.service.history import History
from dcmu_jax.service.ledger import HEAD, LEDGER, Published
from dcmu_jax.service.manifest import (
    MANIFEST,
    Manifest,
    decode,
    differences,
    files_below,
    hash_file,
)


def unpublished(directory: Path, history: History) -> Manifest | None:
    """The manifest of the version that was finished before the line that publishes it was written.

    It belongs to the batch that is open, or is the purge of the current version. Its files are
    not looked at.

    Raises:
        InputError: any other version that the ledger does not know. The ledger was put back to an
            earlier one, then, or the folder is of another workspace: nothing to be tidied away.
    """
    known = {contents.version_folder(directory, entry.version).name for entry in history.versions}
    names = {path.name for path in (directory / contents.VERSIONS).iterdir()}
    unknown = sorted(names - known, key=lambda name: (len(name), name))
    unknown = [name for name in unknown if re.fullmatch(r"[0-9]{4}|[1-9][0-9]{4,}", name)]
    number = history.current.version + 1
    manifest, why = None, "it is not the next one"
    if unknown == [contents.version_folder(directory, number).name]:
        try:
            path = contents.version_folder(directory, number) / MANIFEST
            manifest = decode(read_plain(path), path)
            why = _misfit(directory, history, number, manifest)
        except OSError as error:
            why = f"{error.strerror}: {MANIFEST}"
    if unknown and why:
        raise _of_no_line(unknown, why, any(_purges(directory, name) for name in unknown))
    return manifest


def _misfit(directory: Path, history: History, number: int, manifest: Manifest) -> str:
    """Why a version does not follow from the ledger; empty where it does."""
    if (manifest.version, manifest.previous) != (number, history.current.manifest):
        return "it does not follow from the current version"
    record = contents.read_record(directory, manifest)
    receipts = [request.get("receipt", "") for request in record.get("requests", [])]
    missing = [receipt for receipt in receipts if receipt not in history.ledger.hashes]
    if missing:
        return f"the ledger lacks requests that it forgot, with the receipts {', '.join(missing)}"
    opened = history.open
    if manifest.change == "purge":
        return "a batch was begun since" if opened else ""
    if opened is None or record.get("forgotten") != history.ids_of(opened.lines).tolist():
        return "no batch was begun that it forgot"
    return ""


def _purges(directory: Path, name: str) -> bool:
    """Whether a version that the ledger does not know is a purge, as its manifest has it."""
    path = directory / contents.VERSIONS / name / MANIFEST
    try:
        return decode(read_plain(path), path).change == "purge"
    except (InputError, OSError):
        return False


def _of_no_line(names: list[str], why: str, purged: bool = False) -> InputError:
    without = "move what the ledger does not know out of the workspace and keep it"
    if purged:
        without = (
            "make another workspace (dcmu workspace RUN --out NEW) and ask there for all that was "
            "asked for here. Files of earlier versions are gone because of a purge among them: do "
            "not put these back, they hold forgotten images"
        )
    shown = ", ".join(f"{contents.VERSIONS}/{name}" for name in names[:5])
    return InputError(
        f"The ledger does not know {shown} ({why})",
        "the versions that the ledger tells of, and no later one",
        f"Nothing was changed. If an earlier {LEDGER} and {HEAD} were put back, put back those of "
        f"after the last publication, both of one moment; if there are none, {without}",
    )


def purge_undone(directory: Path, history: History, manifest: Manifest | None) -> str:
    """The message where the ledger lacks a purge that was carried out; empty elsewhere.

    Its line is written before it removes anything: where files are gone, an earlier ledger was put
    back, and the files are not missing but purged.

    Args:
        directory: of the workspace.
        history: of its ledger.
        manifest: of the version that ``unpublished`` finds.
    """
    if manifest is None or manifest.change != "purge" or not _missing(directory, history):
        return ""
    name = f"{contents.VERSIONS}/{contents.version_folder(directory, manifest.version).name}"
    return (
        f"{name} is a finished purge that the ledger lacks: earlier {LEDGER} and {HEAD} were put "
        "back. Files of earlier versions are gone because of it; do not put these back, they hold "
        f"forgotten images. Put back {LEDGER} and {HEAD} of after the purge, both of one moment. "
        "If there are none, dcmu process enters the purge in the ledger again; ask again then "
        "for what was requested since the last line of the earlier ledger"
    )


def check_known(directory: Path, history: History) -> None:
    """Raise ``InputError`` where an earlier ledger was put back.

    What is missing then may have been purged, and nobody is to be told to put it back.
    """
    undone = purge_undone(directory, history, unpublished(directory, history))
    if undone:
        raise InputError(
            undone,
            "the ledger of after the last publication",
            f"Put back {LEDGER} and {HEAD}, or run dcmu process",
        )


def finished(directory: Path, history: History) -> Published | None:
    """The line that publishes a version which ``unpublished`` finds, its files checked.

    So work that was done is neither done again nor thrown away.

    Raises:
        InputError: see ``unpublished``; or a file is not as it was written.
    """
    manifest = unpublished(directory, history)
    if manifest is None:
        return None
    folder = contents.version_folder(directory, manifest.version)
    problems = differences(folder, manifest)
    if problems:
        raise _of_no_line([folder.name], str(problems[0]))
    hashed = hash_file(folder / MANIFEST)
    return Published(version=manifest.version, change=manifest.change, manifest=hashed)


def tidy(disk: Disk, directory: Path, history: History) -> None:
    """Remove only what interrupted work left and what a purge has still to remove.

    That is the folder in which the next version was being written, an audit that was written aside
    and is in no line of the ledger, and from versions that were purged the files that their
    manifests name. To be called under the lock of long work, after ``unpublished`` found nothing
    that does not fit.
    """
    for path in misplaced(directory, history):
        raise InputError(
            _of_another_kind(path),
            "files and folders as the service wrote them",
            f"Nothing was removed. Move it out of the workspace: mv {shlex.quote(str(path))} "
            "ELSEWHERE",
        )
    disk.remove(contents.part_of(directory, history.current.version + 1))
    settle_audits(disk, directory, history)
    for number in range(history.purged_before):
        folder = contents.version_folder(directory, number)
        if any(path.name not in (MANIFEST, *contents.KEPT) for path in folder.iterdir()):
            files = contents.read_manifest(directory, history, number).files
            disk.remove_files(folder, [name for name in files if name not in contents.KEPT])


def misplaced(directory: Path, history: History) -> list[Path]:
    """Folders where a purge removed files, and files where it removed folders."""
    found = set()
    for number in range(history.purged_before):
        folder = contents.version_folder(directory, number)
        with contextlib.suppress(InputError):
            for name in contents.read_manifest(directory, history, number).files:
                path = folder / name
                above = [other for other in path.parents if folder in other.parents]
                found |= {other for other in above if other.is_file()}
                found |= {path} if path.is_dir() else set()
    return sorted(found)


def _of_another_kind(path: Path) -> str:
    kinds = ("a folder", "a file") if path.is_dir() else ("a file", "a folder")
    return f"{str(path)!r} is {kinds[0]}, in the place of {kinds[1]} that was purged"


def misplaced_notes(directory: Path, history: History) -> list[str]:
    """The message for everything that is ``misplaced``."""
    found = misplaced(directory, history)
    return [f"{_of_another_kind(path)}: move it out of the workspace" for path in found]


def missing_of(directory: Path, history: History) -> list[str]:
    """What is missing from versions that were not purged, in words; only manifests are opened.

    A network of which a part is missing is named as one.
    """
    notes = []
    for path in _missing(directory, history):
        part = " (parts of it)" if path.exists() else ""
        what = f"{path.relative_to(directory)} is missing{part}"
        notes.append(f"{what}: put it back from a copy; dcmu verify lists every file")
    return notes


def _missing(directory: Path, history: History) -> list[Path]:
    """Files of which, and folders in which, something is missing of versions not purged."""
    missing = []
    for number in range(history.purged_before, history.current.version + 1):
        folder = contents.version_folder(directory, number)
        try:
            names = [*contents.read_manifest(directory, history, number).files, MANIFEST]
        except InputError:
            names = [MANIFEST]
        found = files_below(folder)
        tops = {name.split("/")[0] for name in names if name not in found}
        missing += [folder / top for top in sorted(tops)]
    return missing


def notes_of(directory: Path, history: History) -> list[str]:
    """What lies in a workspace besides what was published, in words."""
    number = history.current.version + 1
    unfinished = {
        aside_of(directory / HEAD),
        contents.part_of(directory, number),
        contents.version_folder(directory, number),
    }
    published = {contents.version_folder(directory, entry.version) for entry in history.versions}
    audits = {audit_path(directory, entry.version): entry.version for entry in history.versions}
    unfinished |= {aside_of(path) for path in audits}
    unlisted = {path for path, version in audits.items() if version not in history.audits}
    ours = {directory / name for name in (*TOP, AUDITS)} | published | audits.keys()
    notes = []
    for folder in (directory, directory / contents.VERSIONS, directory / AUDITS):
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            name = path.relative_to(directory)
            if path in unfinished:
                notes.append(
                    f"{name} has the name of work that was interrupted, or that goes on now"
                )
            elif path in unlisted:
                notes.append(f"{not_in_the_ledger(name)}: move it out of the workspace")
            elif path not in ours:
                notes.append(f"{name} is not of the service: it stays, and no purge reaches it")
    for path in left_aside(directory):
        beside = f"{path.name}, beside the workspace,"
        if path.is_dir() and is_a_beginning(path):
            notes.append(
                f"{beside} is left of an interrupted dcmu workspace and may hold copies of images: "
                "remove it"
            )
        else:
            notes.append(
                f"{beside} may be a copy that somebody made, or left of an interrupted dcmu "
                "workspace: look what it holds"
            )
    return notes

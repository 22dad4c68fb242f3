"""The manifest of a version: which files it consists of, and the hash of each."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shlex
import stat
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import ClassVar, Literal

import pydantic

from dcmu_jax.errors import InputError
from dcmu_jax.service.entries import entries_below, open_plain, read_plain
from dcmu_jax.service.ledger import STRICT, Count, Hash, sha256

MANIFEST = "manifest.json"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a version is made of.

    Attributes:
        version: its number.
        change: what it did to the version before.
        previous: SHA-256 of the manifest before; empty for version 0.
        parameters: ``Classifier.fingerprint`` of its network.
        data: the version in whose folder its training images lie.
        features: the version whose network gave the features of its bank.
        bank_seed: that a clean bank's untrained network is derived from.
        files: path below the version's folder -> SHA-256.
    """

    __pydantic_config__: ClassVar = STRICT
    format: Literal[1] = 1
    version: Count
    change: Literal["created", "batch", "purge"]
    previous: str
    parameters: Hash
    data: Count
    features: Count
    bank_seed: Count
    files: dict[str, Hash]


_ADAPTER = pydantic.TypeAdapter(Manifest)


def encode(manifest: Manifest) -> bytes:
    """The bytes of ``manifest.json``."""
    return _ADAPTER.dump_json(manifest, indent=1) + b"\n"


def decode(data: bytes, path: Path) -> Manifest:
    """Read what ``encode`` wrote.

    Raises:
        InputError: anything else, or a path that leads out of the version's folder.
    """
    try:
        manifest = _ADAPTER.validate_json(data, strict=True)
    except pydantic.ValidationError as error:
        raise not_as_written(str(path), error.errors()[0]["msg"]) from error
    for name in manifest.files:
        check_inside(name)
    if max(manifest.data, manifest.features) > manifest.version:
        raise not_as_written(str(path), "it builds on a later version")
    return manifest


_RESTORE = "Restore it from a copy; dcmu verify lists all that has changed"


def not_as_written(what: str, why: str, remedy: str = _RESTORE) -> InputError:
    """The error for a file that has changed."""
    return InputError(
        f"{what} is not as it was published ({why})",
        "the files of a workspace as the service wrote them",
        remedy,
    )


@dataclasses.dataclass(frozen=True)
class Difference:
    """A file of a version that is not as its manifest says.

    Attributes:
        folder: of the version.
        name: of the file, below it.
        why: what is wrong, as the end of a sentence.
        strange: whether no manifest names it.
    """

    folder: Path
    name: str
    why: str
    strange: bool = False

    def __str__(self) -> str:
        move = ": move it out of the workspace" if self.strange else ""
        return f"{self.folder.name}/{self.name} {self.why}{move}"

    def error(self) -> InputError:
        """The error to raise where it stops the work."""
        path = shlex.quote(str(self.folder / self.name))
        remedy = f"Move it out of the workspace: mv {path} ELSEWHERE" if self.strange else _RESTORE
        what = f"{self.folder.name}/{self.name} {self.why}"
        return not_as_written(str(self.folder.parent), what, remedy)


def check_inside(name: str) -> None:
    """Raise ``InputError`` unless ``name`` is a plain path that stays below its folder."""
    posix, windows = PurePosixPath(name), PureWindowsPath(name)
    plain = str(posix) == name and name not in ("", ".") and "\0" not in name
    if not plain or posix.is_absolute() or windows.anchor or ".." in (*posix.parts, *windows.parts):
        raise InputError(
            f"A manifest that names the file {name!r}",
            "paths below the folder of the version",
            "Do not use this workspace: its author meant to reach files outside it",
        )


def hash_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with open_plain(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_checked(path: Path, hashed: str | None) -> bytes:
    """The bytes of a file that has this hash.

    Raises:
        InputError: it is missing, or has another.
    """
    if path.is_symlink() or not path.is_file():
        raise not_as_written(str(path), "it is missing")
    data = read_plain(path)
    if sha256(data) != hashed:
        raise not_as_written(str(path), "its bytes have changed")
    return data


def files_below(folder: Path) -> dict[str, Path]:
    """Path below ``folder`` -> file, for everything in it; links are not followed."""
    found = {}
    for entry in entries_below(folder):
        if not entry.is_dir(follow_symlinks=False):
            path = Path(entry.path)
            found[path.relative_to(folder).as_posix()] = path
    return dict(sorted(found.items()))


def hash_files(folder: Path) -> dict[str, str]:
    """The hashes of all files below ``folder`` but its manifest."""
    return {name: hash_file(p) for name, p in files_below(folder).items() if name != MANIFEST}


def check_files(folder: Path, manifest: Manifest) -> None:
    """Raise ``InputError`` unless the files of a version are those of its manifest."""
    for difference in differences(folder, manifest):
        raise difference.error()


def differences(
    folder: Path, manifest: Manifest, kept: tuple[str, ...] | None = None
) -> list[Difference]:
    """How the files of a version differ from its manifest; empty where they do not.

    Args:
        folder: of the version.
        manifest: of it.
        kept: the only files that a purge left.
    """
    found = files_below(folder)
    found.pop(MANIFEST, None)
    wanted = {n: h for n, h in manifest.files.items() if kept is None or n in kept}
    problems = [Difference(folder, name, "is missing") for name in wanted if name not in found]
    for name, path in found.items():
        try:
            plain = stat.S_ISREG(os.lstat(path).st_mode)  # asked once: it may go at any moment
        except FileNotFoundError:  # a purge goes on
            if name in wanted:
                problems.append(Difference(folder, name, "is missing"))
            continue
        if not plain:
            problems.append(Difference(folder, name, "is a link or no file"))
        elif name not in manifest.files:
            problems.append(Difference(folder, name, "is in no manifest", strange=True))
        elif name in wanted and hash_file(path) != wanted[name]:
            problems.append(Difference(folder, name, "has changed"))
    return problems

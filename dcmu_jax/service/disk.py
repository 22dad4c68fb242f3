"""The service's writes to disk. Each has reached the disk when its call returns."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import IO, Any

import numpy as np

from dcmu_jax.errors import InputError
from dcmu_jax.service.entries import open_plain
from dcmu_jax.training.checkpoints import save_classifier
from dcmu_jax.training.classifier import Classifier


class Disk:
    """File operations; each calls ``step`` first.

    The service changes files in no other way, so a subclass can make any of them fail
    (``experiments/fault_injection.py``, ``tests/service``).
    """

    def step(self, what: str, path: Path) -> None:
        """Called before every operation; does nothing here."""

    def put(self, file: IO[bytes], data: bytes, path: Path) -> int:
        """Write ``data`` to an open file."""
        self.step("write", path)
        return file.write(data)

    def _sync(self, file: IO[bytes], path: Path) -> None:
        self.step("sync", path)
        file.flush()
        os.fsync(file.fileno())

    def sync_folder(self, path: Path) -> None:
        """Fsync a folder: after that, its new, renamed and removed entries survive a crash."""
        self.step("sync", path)
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def create(self, path: Path, data: bytes) -> None:
        """Create a file with ``data`` and fsync it."""
        self.step("create", path)
        with path.open("xb") as file:
            self.put(file, data, path)
            self._sync(file, path)

    def replace(self, path: Path, data: bytes) -> None:
        """Replace a small file atomically."""
        aside = aside_of(path)
        aside.unlink(missing_ok=True)  # of an interrupted call; a link itself, never its target
        self.create(aside, data)
        self.put_in_place(path)

    def put_in_place(self, path: Path) -> None:
        """Rename the temporary file to ``path``, and fsync the folder."""
        self.step("rename", path)
        os.replace(aside_of(path), path)
        self.sync_folder(path.parent)

    def append(self, path: Path, at: int, data: bytes) -> None:
        """Truncate a file at byte ``at``, append ``data`` and fsync."""
        self.step("open", path)
        with open_plain(path, write=True) as file:
            file.truncate(at)
            file.seek(at)
            self.put(file, data, path)
            self._sync(file, path)

    def sync(self, path: Path) -> None:
        """Fsync an existing file."""
        with open_plain(path, write=True) as file:
            self._sync(file, path)

    def make_folder(self, path: Path) -> None:
        """Create a folder in an existing one."""
        self.step("make", path)
        path.mkdir()

    def publish(self, aside: Path, path: Path) -> None:
        """Fsync all of a finished folder, then rename it to ``path``."""
        for folder, _, names in os.walk(aside):
            for name in names:
                self.sync(Path(folder, name))
            self.sync_folder(Path(folder))
        self.step("rename", path)
        aside.rename(path)
        self.sync_folder(path.parent)

    def remove(self, path: Path) -> None:
        """Remove a file or a folder tree; a missing one is no error."""
        if not (path.exists() or path.is_symlink()):
            return
        self.step("remove", path)
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
        self.sync_folder(path.parent)

    def remove_files(self, folder: Path, names: Iterable[str]) -> None:
        """Remove these files below ``folder``, and the folders in it that become empty.

        Other files stay.
        """
        tops: dict[str, list[Path]] = {}
        for name in names:
            tops.setdefault(PurePosixPath(name).parts[0], []).append(folder / name)
        for top, paths in tops.items():
            if not os.path.lexists(folder / top):
                continue
            self.step("remove", folder / top)
            for path in paths:
                path.unlink(missing_ok=True)
            above = {parent for path in paths for parent in path.parents}
            for parent in sorted(above, key=lambda path: -len(path.parts)):
                if folder in parent.parents and parent.is_dir() and not any(parent.iterdir()):
                    parent.rmdir()
            self.sync_folder(folder)

    def save_network(self, path: Path, classifier: Classifier) -> None:
        """Save a checkpoint of a network (``save_classifier``)."""
        self.step("save", path)
        save_classifier(path, classifier)


def aside_of(path: Path) -> Path:
    """The temporary file of ``Disk.replace``."""
    return path.with_name(f".{path.name}.part")


def archive(arrays: Mapping[str, Any]) -> bytes:
    """The bytes of an ``npz`` archive, so that ``Disk`` writes them in one call."""
    file = io.BytesIO()
    np.savez(file, **arrays)
    # Not ``getbuffer``: a view forbids closing the file, and where a failed write leaves both in a
    # cycle, Python 3.13 reports that when it collects them. The bytes are not copied either way.
    return file.getvalue()


@contextlib.contextmanager
def storage_errors(what: str, remedy: str) -> Iterator[None]:
    """Turn an ``OSError`` into an ``InputError``.

    Args:
        what: what was not done, for the message.
        remedy: what to do about it.
    """
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{what} ({error.strerror or error}: {error.filename or 'the disk'})",
            "a disk that can be read and written and has room",
            remedy,
        ) from error

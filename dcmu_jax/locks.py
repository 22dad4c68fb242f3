"""Locks between processes and threads; the system releases them when their holder dies."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from dcmu_jax.errors import InputError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None


_HELD = threading.local()
"""Per thread: device and inode of the files that it has locked by ``locked_again``."""


@contextlib.contextmanager
def locked_again(path: Path) -> Iterator[None]:
    """Hold the lock ``path``, and wait for it if need be; reentrant within a thread.

    Where the platform has no locks, or the folder cannot be written to, nothing is locked. A
    thread that has to wait says so in the log.

    Args:
        path: see ``locked``.

    Raises:
        InputError: ``path`` is a link or a folder.
    """
    if fcntl is None or not os.access(path.parent, os.W_OK):
        yield
        return
    held = _HELD.__dict__.setdefault("files", set())
    with contextlib.ExitStack() as stack:
        if path.exists() and _file(path) in held:
            yield
            return
        try:
            stack.enter_context(locked(path, wait_s=0.0))
        except OSError as error:
            raise InputError(
                f"The lock {str(path)!r} cannot be opened ({error.strerror})",
                "an empty file",
                "Remove what is there",
            ) from error
        except InputError as error:
            logging.getLogger("dcmu_jax").warning("%s. Waiting until it is done.", error.given)
            stack.enter_context(locked(path, wait_s=float("inf")))
        own = _file(path)
        held.add(own)
        stack.callback(held.discard, own)
        yield


def _file(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino


@contextlib.contextmanager
def locked(path: Path, *, wait_s: float) -> Iterator[None]:
    """Hold the lock ``path`` while the block runs.

    Args:
        path: an empty file, created if missing.
        wait_s: how long to wait for another holder, which may be a thread of this process.

    Raises:
        InputError: another holds it for longer, or the platform has no such locks.
        OSError: the file cannot be opened.
    """
    if fcntl is None:
        raise InputError(
            "A workspace on a platform without file locks (fcntl)",
            "Linux, macOS or another POSIX system",
            "Use the workspace there; without locks two processes would spoil it",
        )
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
    try:
        until = time.monotonic() + wait_s
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() >= until:
                    raise InputError(
                        f"Another process is at work in {str(path.parent)!r}, or another thread",
                        f"one at a time ({path.name})",
                        "Wait until it is done",
                    ) from error
                time.sleep(0.02)
        yield
    finally:
        os.close(descriptor)

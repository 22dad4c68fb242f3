"""Locks between processes, released by the operating system when their holder dies."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from dcmu_jax.errors import InputError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None


@contextlib.contextmanager
def locked(path: Path, *, wait_s: float) -> Iterator[None]:
    """Hold the lock ``path`` while the block runs.

    Args:
        path: an empty file, made if it is not there.
        wait_s: how long to wait for another holder.

    Raises:
        InputError: another process holds it for longer, or the platform has no such locks.
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
                        f"Another process is at work in {str(path.parent)!r}",
                        f"one at a time ({path.name})",
                        "Wait until it is done",
                    ) from error
                time.sleep(0.02)
        yield
    finally:
        os.close(descriptor)

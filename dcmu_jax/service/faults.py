"""A disk that fails on purpose at a chosen operation, for tests and experiments."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Literal, get_args

from dcmu_jax.errors import unknown_name
from dcmu_jax.service.disk import Disk
from dcmu_jax.training.callbacks import Progress
from dcmu_jax.unlearning.task import Hooks

Fault = Literal["kill", "error", "half", "full"]
"""``kill``: the process is dead from this operation on, and a write has left a part of its bytes;
``error``: this operation alone fails; ``half``: likewise, a write after half of its bytes;
``full``: nothing can be written or made from here on."""

_GROWS = ("write", "create", "make", "save", "sync")


class Killed(BaseException):
    """The process died here: clean-up code that still runs has no effect."""


class FailingDisk(Disk):
    """Counts operations, and fails at one of them.

    What it cannot show is a power cut: what was written and not synced stays.

    Args:
        at: the operation that fails, from 1; 0 for none.
        fault: how it fails.
        part: share of the bytes of a write that get down before a ``kill``.
    """

    def __init__(self, at: int = 0, fault: Fault = "kill", part: float = 0.5):
        if fault not in get_args(Fault):
            raise unknown_name("fault", fault, get_args(Fault))
        self.at, self.fault, self.part = at, fault, part
        self.done: list[tuple[str, str]] = []
        self.hit: tuple[str, str] | None = None

    def step(self, what: str, path: Path) -> None:
        """Count, and fail at the chosen operation."""
        self.done.append((what, path.name))
        if not self.at or len(self.done) < self.at:
            return
        now = len(self.done) == self.at
        self.hit = (what, path.name) if now else self.hit
        if self.fault == "kill":
            raise Killed
        if (now and self.fault != "full") or (self.fault == "full" and what in _GROWS):
            raise OSError(errno.ENOSPC, "No space left on device", str(path))

    def put(self, file: IO[bytes], data: bytes, path: Path) -> int:
        """A write that may leave a part of its bytes."""
        try:
            return super().put(file, data, path)
        except (OSError, Killed):
            share = self.part if self.fault == "kill" else 0.5 * (self.fault == "half")
            if len(self.done) == self.at:
                file.write(data[: int(share * len(data))])
                file.flush()
            raise

    @property
    def hooks(self) -> Hooks:
        """Hooks for which every epoch is an operation, too."""

        @contextlib.contextmanager
        def progress(name: str, epochs: int) -> Iterator[Progress]:
            yield lambda epoch, loss, accuracy: self.step("epoch", Path(name))

        return Hooks(progress)

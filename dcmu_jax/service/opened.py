"""A workspace opened for work: reads, writes under locks, and lines added to the ledger.

A read that was overtaken by what another process writes is repeated.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import flax.linen as nn

from dcmu_jax.errors import InputError
from dcmu_jax.locks import locked
from dcmu_jax.service.contents import Fixed, read_fixed, write_version
from dcmu_jax.service.disk import Disk, storage_errors
from dcmu_jax.service.given import LEDGER_LOCK, WORK_LOCK, check_shape, check_workspace
from dcmu_jax.service.history import History, replay
from dcmu_jax.service.ledger import Entry, Ledger, Published, append, read_ledger, settle
from dcmu_jax.service.leftovers import finished, purge_undone, tidy, unpublished
from dcmu_jax.service.manifest import Manifest
from dcmu_jax.service.work import Made

_ASK_AGAIN = "Make room and ask again: the answer says what is known by then"
_TIMES = 5

Found = TypeVar("Found")


class Opened:
    """What all operations on a workspace share.

    Args:
        directory: where it lies.
        model: the module, where the run's was not of the catalogue.
        disk: see ``Disk``.

    Attributes:
        fixed: see ``Fixed``.

    Raises:
        InputError: it is no workspace, or what never changes has changed.
    """

    def __init__(self, directory: Path, model: nn.Module | None, disk: Disk):
        self.directory, self.disk = directory, disk
        check_workspace(directory)
        with self.reading():
            history = replay(read_ledger(directory))
            self.fixed: Fixed = read_fixed(directory, history.created.files, model)

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Turn errors of reading files into an ``InputError``."""
        with storage_errors("The workspace cannot be read", "Check its permissions"):
            check_shape(self.directory)
            yield

    def look(self, look: Callable[[History], Found]) -> Found:
        """What ``look`` finds while no work changes the workspace (``looked_at``)."""
        with self.reading():
            return looked_at(self.directory, look)

    @contextlib.contextmanager
    def writing(self, what: str, remedy: str = _ASK_AGAIN) -> Iterator[None]:
        """Hold the lock of the ledger; see ``storage_errors``."""
        with storage_errors(what, remedy):
            check_shape(self.directory)
            with locked(self.directory / LEDGER_LOCK, wait_s=30.0):
                yield

    @contextlib.contextmanager
    def working(self) -> Iterator[list[int]]:
        """Hold the lock of long work; requests are still acknowledged meanwhile.

        Gives the version that interrupted work had finished, if it had, and that was published now.
        """
        with storage_errors("The work was not finished", "Make room and start it again"):
            check_shape(self.directory)
            with locked(self.directory / WORK_LOCK, wait_s=0.0):
                with self.writing("The ledger cannot be written"):
                    history = replay(read_ledger(self.directory))
                    manifest = unpublished(self.directory, history)
                    undone = purge_undone(self.directory, history, manifest)
                    found = finished(self.directory, history)
                    history = replay(self.settled())
                    if found is not None:
                        history = self.append(history, found)
                    if undone:
                        logging.getLogger("dcmu_jax").warning(
                            "Version %s is entered in the ledger again, from which a purge was "
                            "missing. Ask again for what was requested since an earlier ledger "
                            "was put back.",
                            history.current.version,
                        )
                tidy(self.disk, self.directory, history)
                yield [found.version] if found else []

    def settled(self) -> Ledger:
        """The ledger, to be added to; or nothing is changed, if the versions are not its own."""
        ledger = read_ledger(self.directory)
        unpublished(self.directory, replay(ledger))
        return settle(self.disk, self.directory, ledger)

    def history(self) -> History:
        """The state that the ledger describes now."""
        with self.reading():
            return replay(read_ledger(self.directory))

    @contextlib.contextmanager
    def adding(self, what: str, remedy: str = _ASK_AGAIN) -> Iterator[History]:
        """As ``writing``; gives the history that ``append`` adds lines to."""
        with self.writing(what, remedy):
            yield replay(self.settled())

    def add(self, entry: Entry, what: str, remedy: str = _ASK_AGAIN) -> History:
        """Add one line to the ledger as it is by now; see ``writing``."""
        with self.adding(what, remedy) as history:
            return self.append(history, entry)

    def append(self, history: History, entry: Entry) -> History:
        """Add a line to the ledger, which is held and settled."""
        entries = (*history.ledger.entries, entry)
        replay(dataclasses.replace(history.ledger, entries=entries))  # or nothing is written
        return replay(append(self.disk, self.directory, history.ledger, entry))

    def publish(
        self,
        history: History,
        manifest: Manifest,
        made: Made,
        record: dict[str, Any],
        **rest: Any,
    ) -> None:
        """Write a version and the line that makes it the current one.

        Args:
            history: as of the version before.
            manifest: see ``write_version``.
            made: network and bank.
            record: to which what was found out in the making is added.
            rest: see ``write_version``.
        """
        previous = history.current.manifest
        hashed = write_version(
            self.disk,
            self.directory,
            dataclasses.replace(manifest, previous=previous),
            network=made.network,
            bank=made.bank,
            record=record | made.facts,
            **rest,
        )
        line = Published(version=manifest.version, change=manifest.change, manifest=hashed)
        self.add(line, "The version was not published", "Make room and start again")


def looked_at(directory: Path, look: Callable[[History], Found]) -> Found:
    """The result of ``look`` on a workspace that nobody changed meanwhile.

    The ledger is read again afterwards. Where a batch or a purge began or was published since,
    files may have gone that the older history speaks of, and ``look`` starts over. Requests change
    no file that was published.

    Raises:
        InputError: work overtook it every time; or the ledger is damaged; or what ``look`` raises.
        OSError: likewise.
    """
    for _ in range(_TIMES):
        check_shape(directory)
        history = replay(read_ledger(directory))
        error = found = None
        try:
            found = look(history)
        except (InputError, OSError) as raised:
            error = raised
        if _work_of(replay(read_ledger(directory))) == _work_of(history):
            if error is not None:
                raise error
            return found  # type: ignore[return-value]
    raise InputError(
        f"Work changed {str(directory)!r} each of the {_TIMES} times that it was looked at",
        "a workspace on which nobody works for a while",
        "Wait until dcmu process and dcmu purge are done, and look again",
    )


def _work_of(history: History) -> int:
    return len(history.ledger.entries) - len(history.requests)

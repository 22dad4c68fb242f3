"""A deletion request: looked up, its copies found, and acknowledged by a line of the ledger."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from dcmu_jax.data.copies import Copies, copies_of
from dcmu_jax.errors import InputError
from dcmu_jax.runs import stages
from dcmu_jax.service.contents import read_held
from dcmu_jax.service.disk import storage_errors
from dcmu_jax.service.history import History, replay
from dcmu_jax.service.ledger import Requested, now
from dcmu_jax.service.leftovers import check_known
from dcmu_jax.service.opened import Opened
from dcmu_jax.service.requesting import (
    Answer,
    answer_of,
    check_reference,
    ids_digest,
    lines_of,
    nothing_left,
    read_request,
    read_terms,
    without_folders,
)


def ask(workspace: Opened, text: Any, *, reference: Any, with_copies: bool) -> Answer:
    """See ``Workspace.request``."""
    check_reference(reference)
    known = workspace.fixed.known
    with workspace.writing("The request was not acknowledged"):
        history = replay(workspace.settled())
        terms = read_terms(text, known)
        gone = np.concatenate([history.forgotten, history.waiting])
        lines = lines_of(history, terms, reference)
        if lines:
            ids = np.union1d(history.ids_of(lines), terms.ids).astype(np.int64)
            named = history.ids_of(lines[:1])  # whatever else is new is a copy of what it names
        else:
            ids = named = read_request(terms, known, history, workspace.fixed.config.forget_seed)
        looked = _look_for_copies(workspace, history, ids, with_copies)
        every = ids if looked.copies is None else np.union1d(ids, looked.copies.train)
        wanted = every if with_copies else ids
        new = np.setdiff1d(wanted, gone)
        if len(np.union1d(gone, new)) == len(known):
            raise nothing_left(text)
        line = None
        if lines:  # the line that names the copies, if this request does
            more = with_copies or np.isin(terms.ids, history.ids_of(lines[1:])).any()
            line = lines[-1] if more else lines[0]
        added = len(np.setdiff1d(new, named))
        if len(new) or (reference is not None and not lines):
            entry = Requested(
                text=without_folders(text),
                reference=reference,
                ids=tuple(new.tolist()),
                copies=added,
                asked=(history.requests[lines[0]].asked if lines else None) or ids_digest(ids),
                drawn=terms.digest() if terms.draws else None,
                whole=None if looked.copies is None else ids_digest(every),
                previous="",
                time=now(),
            )
            history = workspace.append(history, entry)
            line = len(history.ledger.entries) - 1
        return dataclasses.replace(
            answer_of(history, np.setdiff1d(wanted, new), line),
            accepted=new,
            copies=looked.without(np.union1d(gone, new)),
            added=added,
            unread=looked.unread,
            purged=looked.purged if with_copies else 0,
            drawn=bool(terms.draws) and reference is None,
        )


@dataclasses.dataclass(frozen=True, eq=False)
class _Looked:
    """The result of looking for copies.

    Attributes:
        copies: of all images that are there, forgotten ones too; None where none could be read.
        unread: why not.
        purged: ids of the request whose images are not there any more.
    """

    copies: Copies | None
    unread: str = ""
    purged: int = 0

    def without(self, gone: np.ndarray) -> Copies | None:
        """The copies that are kept."""
        if self.copies is None:
            return None
        return dataclasses.replace(self.copies, train=np.setdiff1d(self.copies.train, gone))


def _look_for_copies(workspace: Opened, history: History, ids: np.ndarray, needed: bool) -> _Looked:
    """Samples with the same images as those of ``ids``.

    Raises:
        InputError: the images cannot be read, and what they are is ``needed``. Else a request is
            acknowledged whatever became of them.
    """
    config = workspace.fixed.config
    try:
        with storage_errors("The images cannot be read", "Make them readable"):
            check_known(workspace.directory, history)
            held = read_held(workspace.directory, workspace.fixed, history)
    except InputError as error:
        if needed:
            raise InputError(
                f"Copies cannot be looked for: {error.given}",
                error.allowed,
                f"Nothing was acknowledged. {error.remedy}. Or ask without --with-copies",
            ) from error
        return _Looked(None, error.given)
    gone = np.concatenate([history.forgotten, history.waiting])
    staying = workspace.fixed.splits(held.take(~np.isin(held.ids, gone)))
    remembrance = stages.remembrance_of(config, config.preset, staying)
    here = np.intersect1d(ids, held.ids)
    copies = copies_of(here, held, workspace.fixed.test, remembrance.ids)
    return _Looked(copies, purged=len(ids) - len(here))

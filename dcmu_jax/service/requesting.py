"""A deletion request: parsed, compared with what is known, acknowledged and answered."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import numpy as np

from dcmu_jax.data.copies import Copies, copies_of, copies_sentence
from dcmu_jax.data.dataset import Dataset
from dcmu_jax.data.requests import parse_request
from dcmu_jax.errors import InputError
from dcmu_jax.runs import stages
from dcmu_jax.service.contents import read_held
from dcmu_jax.service.disk import storage_errors
from dcmu_jax.service.history import History
from dcmu_jax.service.ledger import Requested, sha256
from dcmu_jax.service.leftovers import check_known
from dcmu_jax.service.opened import Opened
from dcmu_jax.training.keys import named_seed


@dataclasses.dataclass(frozen=True, eq=False)
class Answer:
    """The answer to a request.

    Attributes:
        accepted: int64, the ids that this request added; ascending, as are the others.
        pending: int64, those that were acknowledged before and wait to be forgotten.
        forgotten: int64, those that are forgotten already, and the version that did it is named
            in the certificate.
        line: of the ledger where the request stands; None where it added none.
        receipt: SHA-256 of that line; None likewise.
        copies: of the images that the request names, under other ids, which stay; None where they
            could not be looked for.
        added: how many of ``accepted`` are copies of what the request names.
        unread: why copies could not be looked for; empty where they were.
        purged: samples of which copies were asked for, and whose images were purged before.
        drawn: whether samples were drawn that no reference stands for: asked again, the request
            would draw others.
    """

    accepted: np.ndarray
    pending: np.ndarray
    forgotten: np.ndarray
    line: int | None
    receipt: str | None
    copies: Copies | None = None
    added: int = 0
    unread: str = ""
    purged: int = 0
    drawn: bool = False

    def sentence(self) -> str:
        """The answer in words."""
        parts = [
            f"{len(ids)} {what}"
            for ids, what in (
                (self.accepted, "accepted"),
                (self.pending, "already pending"),
                (self.forgotten, "already forgotten"),
            )
            if len(ids)
        ]
        receipt = f"; receipt {self.receipt}" if self.receipt else ""
        answer = f"{', '.join(parts) or 'nothing'}{receipt}"
        if self.added:
            answer += f". {self.added} of them are copies under other ids"
        said = [answer]
        if self.unread:
            again = "Ask again"
            if self.drawn:
                again += " for the ids that were drawn, which the line of the ledger names,"
            said.append(
                f"Copies under other ids were not looked for: {self.unread}. {again} when that is "
                "mended, and the answer names them."
            )
        if self.purged:
            said.append(
                f"Of {self.purged} of them no copies could be looked for, as their images have "
                "been purged: the certificate of the version that forgot them names those that "
                "there were. Ask for these by their ids."
            )
        if self.copies:
            remedy = "Ask again with --with-copies to forget them, too."
            if self.drawn:
                ids = ",".join(map(str, self.copies.train.tolist()))
                remedy = f"Ask for ids:{ids} to forget them, too."
            said.append(copies_sentence(self.copies.plain(), remedy))
        return ". ".join([said[0], " ".join(said[1:])]) if said[1:] else answer


@dataclasses.dataclass(frozen=True, eq=False)
class Terms:
    """A request before anything is drawn at random.

    Attributes:
        text: as it was written.
        ids: int64, ascending: what ``ids`` and ``class`` name, whatever became of it.
        draws: the ``random`` terms.
    """

    text: str
    ids: np.ndarray
    draws: tuple[str, ...]

    def digest(self) -> str:
        """SHA-256 of the ids and of the fractions that are drawn beside them."""
        fractions = sorted(_fraction(term) for term in self.draws)
        return sha256(f"{ids_digest(self.ids)} {fractions}".encode())


def _fraction(term: str) -> str:
    value = term.partition(":")[2].strip()
    try:
        return repr(float(value))
    except ValueError:  # no fraction; what draws says so
        return value


def ids_digest(ids: np.ndarray) -> str:
    """SHA-256 of ids, whatever their order."""
    return sha256(np.unique(ids).astype("<i8").tobytes())


def read_terms(text: Any, known: Dataset) -> Terms:
    """Parse a request without drawing.

    Args:
        text: see ``data.requests.parse_request``.
        known: every sample that the workspace was created with (``contents.known_samples``).

    Raises:
        InputError: see ``parse_request``; or ``text`` is no text.
    """
    if not isinstance(text, str):
        raise InputError(
            f"A request of type {type(text).__name__}",
            "text: ids:3,17,29, ids:FILE, class:2 or random:0.1, joined by +",
            "Write ids as 'ids:' + ','.join(map(str, ids))",
        )
    terms = [term.strip() for term in re.split(r"\+(?=\s*[A-Za-z_]+:)", text)]
    draws = tuple(term for term in terms if term.startswith("random"))
    named = [term for term in terms if term not in draws]
    ids = np.empty(0, np.int64)
    if named or not draws:
        ids = parse_request("+".join(named), known, 0).ids
    return Terms(text, ids, draws)


def read_request(terms: Terms, known: Dataset, history: History, seed: int) -> np.ndarray:
    """The ids that a request asks for, int64, ascending; forgotten and pending ones among them.

    ``random`` draws from those that are neither forgotten nor pending.

    Args:
        terms: see ``read_terms``.
        known: likewise.
        history: of the ledger.
        seed: of ``random``; each draw is another.

    Raises:
        InputError: see ``parse_request``; or the request leaves no sample to train on.
    """
    gone, ids = np.concatenate([history.forgotten, history.waiting]), terms.ids
    if terms.draws:
        active = known.without(np.union1d(gone, ids))
        if len(active) < 2:
            raise nothing_left(terms.text)
        lot = named_seed(seed, f"random request {history.digest()}")
        ids = np.union1d(ids, parse_request("+".join(terms.draws), active, lot).ids)
    if len(np.union1d(gone, ids)) == len(known):
        raise nothing_left(terms.text)
    return ids


def nothing_left(text: str) -> InputError:
    """The error for a request that would leave no samples."""
    return InputError(
        f"The request {text!r} leaves no sample to train on",
        "requests that leave one or more",
        "Ask for less; to forget everything, delete the workspace",
    )


def check_reference(reference: Any) -> None:
    """Raise ``InputError`` unless a reference is None or text that comes back as it was given."""
    if reference is None or (isinstance(reference, str) and reference and _is_unicode(reference)):
        return
    raise InputError(
        f"The reference {ascii(reference)[:80]}",
        "text that is not empty, in UTF-8",
        "Nothing was acknowledged. Give the request a name of plain letters, or none",
    )


def _is_unicode(text: str) -> bool:
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


def without_folders(text: str) -> str:
    """A request's text as the ledger shows it: file names without the folders of a machine.

    Nothing is known by it. Bytes of no encoding become question marks, and what is long is cut.
    """
    text, terms = text.encode("utf-8", "replace").decode(), []
    for term in text.split("+"):
        kind, colon, value = term.partition(":")
        terms.append(f"{kind}{colon}{Path(value.strip()).name if '/' in value else value.strip()}")
    return "+".join(terms)[:1000]


def lines_of(history: History, terms: Terms, reference: str | None) -> tuple[int, ...]:
    """The lines of the request that was made under ``reference`` before; empty if none was.

    The first names what was asked for; later ones add copies of it, which were asked for then.

    Raises:
        InputError: it was made for other ids.
    """
    lines = tuple(
        line
        for line, request in history.requests.items()
        if reference is not None and request.reference == reference
    )
    if lines and not any(_same(history, line, terms) for line in lines):
        request = history.requests[lines[0]]
        raise InputError(
            f"The reference {str(reference)[:80]!r} with another request than before (other "
            f"ids; it stands for {request.text[:80]!r}, acknowledged {request.time})",
            "the ids that it stands for, with or without all of their copies",
            "Nothing was acknowledged. Give a new request a reference of its own",
        )
    return lines


def _same(history: History, line: int, terms: Terms) -> bool:
    """Whether the request of a line asked for what ``terms`` do: by ids, never by file names."""
    request = history.requests[line]
    earlier = history.ids_of(tuple(other for other in history.requests if other < line))
    if terms.draws and request.asked is not None:
        return request.drawn == terms.digest()
    if request.whole is not None and request.whole == ids_digest(terms.ids):
        return True
    if terms.draws:  # a line that does not say what it asked for; its text says what it drew
        known = np.union1d(earlier, request.ids)
        return request.text == without_folders(terms.text) and bool(np.isin(terms.ids, known).all())
    if request.asked is not None:
        return request.asked == ids_digest(terms.ids)
    return np.array_equal(np.setdiff1d(terms.ids, earlier), request.ids)


def answer_of(history: History, ids: np.ndarray, line: int | None) -> Answer:
    """The answer for ids that are all known from before."""
    return Answer(
        accepted=np.empty(0, np.int64),
        pending=np.intersect1d(ids, history.waiting),
        forgotten=np.intersect1d(ids, history.forgotten),
        line=line,
        receipt=None if line is None else history.ledger.hashes[line],
    )


def ask(workspace: Opened, text: Any, *, reference: Any, with_copies: bool) -> Answer:
    """See ``Workspace.request``."""
    check_reference(reference)
    known = workspace.fixed.known
    with workspace.adding("The request was not acknowledged") as history:
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

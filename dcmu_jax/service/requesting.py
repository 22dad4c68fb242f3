"""Reading a deletion request against what is known, forgotten and pending, and answering it."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np

from dcmu_jax.data.dataset import Dataset
from dcmu_jax.data.requests import parse_request
from dcmu_jax.errors import InputError
from dcmu_jax.service.history import History
from dcmu_jax.training.keys import named_seed


@dataclasses.dataclass(frozen=True, eq=False)
class Answer:
    """What became of a request.

    Attributes:
        accepted: int64, the ids that this request added; ascending, as are the others.
        pending: int64, those that were acknowledged before and wait to be forgotten.
        forgotten: int64, those that are forgotten already, and the version that did it is named
            in the certificate.
        line: of the ledger where the request stands; None where it added none.
        receipt: SHA-256 of that line; None likewise.
    """

    accepted: np.ndarray
    pending: np.ndarray
    forgotten: np.ndarray
    line: int | None
    receipt: str | None

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
        return f"{', '.join(parts) or 'nothing'}{receipt}"


def known_samples(ids: np.ndarray, labels: np.ndarray, num_classes: int) -> Dataset:
    """Samples whose images are not looked at."""
    return Dataset(np.empty((len(ids), 1, 1, 0), np.uint8), labels, ids, num_classes)


def read_request(text: str, known: Dataset, history: History, seed: int) -> np.ndarray:
    """The ids that a request names, int64, ascending; forgotten and pending ones among them.

    ``ids`` and ``class`` name samples whatever became of them; ``random`` draws from those that
    are neither forgotten nor pending.

    Args:
        text: see ``data.requests.parse_request``.
        known: every sample that the workspace was created with (``known_samples``).
        history: of the ledger.
        seed: of ``random``; each draw is another.

    Raises:
        InputError: see ``parse_request``; or the request leaves no sample to train on.
    """
    gone = np.concatenate([history.forgotten, history.waiting])
    terms = [term.strip() for term in re.split(r"\+(?=\s*[A-Za-z_]+:)", text)]
    drawn = [term for term in terms if term.startswith("random")]
    named = [term for term in terms if term not in drawn]
    ids = np.empty(0, np.int64)
    if named or not drawn:
        ids = parse_request("+".join(named), known, 0).ids
    if drawn:
        active = known.without(np.concatenate([gone, ids]))
        if len(active) < 2:
            raise _nothing_left(text)
        lot = named_seed(seed, f"random request {history.digest()}")
        ids = np.union1d(ids, parse_request("+".join(drawn), active, lot).ids)
    if len(np.union1d(gone, ids)) == len(known):
        raise _nothing_left(text)
    return ids


def _nothing_left(text: str) -> InputError:
    return InputError(
        f"The request {text!r} leaves no sample to train on",
        "requests that leave one or more",
        "Ask for less; to forget everything, delete the workspace",
    )


def plain_text(text: str) -> str:
    """Text that every JSON reader takes: bytes of no encoding become question marks."""
    return text.encode("utf-8", "replace").decode()


def without_folders(text: str) -> str:
    """A request's text as the ledger keeps it: file names without the folders of a machine."""
    terms = []
    for term in text.split("+"):
        kind, colon, value = term.partition(":")
        terms.append(f"{kind}{colon}{Path(value.strip()).name if '/' in value else value.strip()}")
    return "+".join(terms)[:1000]


def line_of(history: History, text: str, reference: str | None) -> int | None:
    """The line of the request that was made under ``reference`` before, if one was."""
    for line, request in history.requests.items():
        if reference is not None and request.reference == reference:
            if request.text != without_folders(text):
                raise InputError(
                    f"The reference {reference[:80]!r} with another request than before",
                    f"the request that it stands for: {request.text[:80]}",
                    "Give a new request a reference of its own",
                )
            return line
    return None


def answer_of(history: History, ids: np.ndarray, line: int | None) -> Answer:
    """The answer for ids that are all known from before."""
    return Answer(
        accepted=np.empty(0, np.int64),
        pending=np.intersect1d(ids, history.waiting),
        forgotten=np.intersect1d(ids, history.forgotten),
        line=line,
        receipt=None if line is None else history.ledger.hashes[line],
    )

"""Forget requests: which training samples to forget, as text or as ids."""

from __future__ import annotations

import codecs
import contextlib
import dataclasses
import hashlib
import numbers
import os
import re
from collections.abc import Collection, Iterable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeAlias, cast

import numpy as np
from jaxtyping import Array

from dcmu_jax.data.dataset import Dataset, check_dataset
from dcmu_jax.data.selections import BOOLEAN, as_mask, check_no_mask
from dcmu_jax.errors import InputError, check_seed, unknown_name
from dcmu_jax.files import expanded
from dcmu_jax.reading import Unreadable, is_there, parse_json, read_bytes, read_npy

KINDS = ("random:FRACTION", "class:NUMBER", "ids:FILE", "ids:NUMBER,...")
"""The terms of a request, as they are shown to users; ``+`` joins them."""

LONGEST_SLUG = 60
"""Longer texts are cut."""

_NAMES = list(dict.fromkeys(kind.partition(":")[0] for kind in KINDS))
_ALLOWED = f"{', '.join(KINDS)}, joined by +"


@dataclasses.dataclass(frozen=True, eq=False)
class ForgetRequest:
    """The training samples that must be forgotten.

    Attributes:
        text: the request as it was written.
        ids: int64 ``(N,)``, sorted and unique, at least one and not all of the training set.
        forgotten_classes: the classes of which no training sample stays.
        slug: short name for folders, of letters, digits, ``.``, ``-`` and ``+`` only.
    """

    text: str
    ids: np.ndarray
    forgotten_classes: tuple[int, ...]
    slug: str

    def __len__(self) -> int:
        return len(self.ids)


RequestLike: TypeAlias = ForgetRequest | np.ndarray | Array | Collection[Any]
"""Whatever names the samples to forget; texts are collections, too. See ``as_request``."""


def parse_request(text: RequestLike, train: Dataset, seed: int) -> ForgetRequest:
    """Read a request such as ``random:0.1``, ``class:2``, ``ids:FILE`` or ``class:2+random:0.05``.

    - ``random:f``: ``floor(f N)`` of the N training samples, drawn without replacement by
      ``seed`` from those that the other terms leave. With one seed a smaller fraction is part of
      a larger one, and the draw depends on the ids only, not on the order of the samples.
    - ``class:c``: all samples of class ``c``.
    - ``ids:FILE``: a text file of integers (one a line, or separated by commas or spaces), a
      ``.json`` list, or a ``.npy`` integer array.
    - ``ids:3,17,29``: these, where there is no file of that name.

    What is no text is read as ``as_request`` reads it.

    Raises:
        InputError: an unknown kind of term, a class or an id that does not exist, a fraction
            outside (0, 1) or so small that no sample falls in it, a missing or unreadable file,
            duplicates in it, an empty request, or one for everything.

    >>> from dcmu_jax.data.sources import load
    >>> train = load("synthetic:classes=2,per_class=40,size=8,channels=1").train
    >>> len(parse_request("random:0.1", train, seed=0))
    8
    >>> parse_request("class:1+ids:3,17", train, seed=0).forgotten_classes
    (1,)
    >>> parse_request("clas:1", train, seed=0)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    dcmu_jax.errors.InputError: Unknown kind of forget request 'clas'. ... Did you mean 'class'?
    """
    seed = check_seed("seed", seed)
    if not isinstance(text, str):
        return as_request(text, train, seed)
    check_dataset("The training set of a request", train)
    # Only a + before another term splits: file names may hold one.
    terms = [term.strip() for term in re.split(r"\+(?=\s*[A-Za-z_]+:)", text)]
    named = np.empty(0, np.int64)
    count, slugs = 0, []
    for term in terms:
        kind, _, value = (piece.strip() for piece in term.partition(":"))
        _check_joined(text, term)
        if kind == "random":
            fraction = _fraction(value)
            count += _count(value, fraction, len(train))
            value = f"{fraction:g}"
        elif kind == "class":
            named = np.union1d(named, _ids_of_class(value, train))
            value = str(int(value))
        elif kind == "ids":
            listed = _listed_ids(value)
            found = read_ids(value) if listed is None else listed
            name = value if listed is None else "the list"
            named = np.union1d(named, _check_ids(found, name, train))
            value = Path(value).stem
        else:
            raise unknown_name("kind of forget request", kind, _NAMES)
        slugs.append(f"{kind}-{value}")
    rest = np.sort(train.ids[~np.isin(train.ids, named)])
    if count > len(rest):
        raise InputError(
            f"Forget request {text!r} draws {count} samples at random",
            f"at most the {len(rest)} that the other terms leave",
            "Lower the fraction",
        )
    drawn = np.random.default_rng(seed).permutation(rest)[:count]
    return _request(text, "+".join(slugs), np.union1d(named, drawn), train)


def request_for_ids(ids: Iterable[Any] | np.ndarray | Array, train: Dataset) -> ForgetRequest:
    """A request for the samples with these ids, from a list, a tuple or an array of integers.

    Raises:
        InputError: not integers, duplicates, ids that are not in ``train``, none, or all.

    >>> from dcmu_jax.data.sources import load
    >>> train = load("synthetic:classes=2,per_class=40,size=8,channels=1").train
    >>> request_for_ids([17, 3], train).ids
    array([ 3, 17])
    """
    values = np.asarray(ids) if hasattr(ids, "dtype") else np.array(_integers(list(ids), "ids"))
    checked = np.sort(_check_ids(values, "ids", train))
    digest = hashlib.sha256(checked.tobytes()).hexdigest()[:8]
    return _request(f"{len(checked)} ids ({digest})", f"ids-{digest}", checked, train)


def as_request(asked: RequestLike, train: Dataset, seed: int = 0) -> ForgetRequest:
    """A request from whatever names samples: itself, its text, ids, or a boolean mask.

    Args:
        asked: a request for ``train``; a text (``parse_request``); a list, tuple, set or array of
            ids; or as many booleans as there are training samples.
        train: the training set.
        seed: of what a text draws at random.

    Raises:
        InputError: what ``parse_request`` and ``request_for_ids`` refuse, a mask of another length,
            or a request for other samples than those of ``train``.

    >>> from dcmu_jax.data.sources import load
    >>> train = load("synthetic:classes=2,per_class=40,size=8,channels=1").train
    >>> as_request(train.labels == 1, train).forgotten_classes, len(as_request({3, 17}, train))
    ((1,), 2)
    """
    seed = check_seed("seed", seed)
    check_dataset("The training set of a request", train)
    if isinstance(asked, ForgetRequest):
        train.positions(asked.ids)
        return asked
    if isinstance(asked, str):
        return parse_request(asked, train, seed)
    single = not isinstance(asked, Iterable) or isinstance(asked, bytes | bytearray | Mapping)
    if single or getattr(asked, "ndim", 1) == 0:
        raise _no_request(asked)
    if not hasattr(asked, "dtype"):
        given: Any = list(cast(Any, asked))
        asked = np.array(given) if given and all(isinstance(x, bool) for x in given) else given
    if isinstance(asked, np.ndarray | Array) and asked.dtype == np.bool_:
        asked = train.ids[as_mask("mask of the forget set", asked, (len(train),))]
    array = np.empty(0)
    with contextlib.suppress(ValueError, TypeError, OverflowError):  # those make no array
        array = np.asarray(asked)
    check_no_mask("ids", array, "ids, or a boolean mask", f"Pass {BOOLEAN}")
    return request_for_ids(cast(Any, asked), train)


def texts_meant(given: Any) -> list[str]:
    """The texts that a number, a path or bytes may have been meant for, of a form that is read.

    >>> texts_meant(3.0), texts_meant(0.1), texts_meant(-1), texts_meant(b"class:2")
    (['class:3', 'ids:3'], ['random:0.1'], [], ['class:2'])
    """
    if getattr(given, "ndim", None) == 0 and hasattr(given, "item"):
        given = given.item()
    if isinstance(given, os.PathLike):
        return [f"ids:{os.fsdecode(given)}"]
    if isinstance(given, bytes | bytearray):
        with contextlib.suppress(UnicodeDecodeError):
            text = given.decode()
            return [text] if text.partition(":")[0].strip() in _NAMES else []
    if not isinstance(given, numbers.Real) or isinstance(given, bool):
        return []
    number = int(given) if isinstance(given, numbers.Integral) else float(given)
    if isinstance(number, int) or number.is_integer():
        whole = int(number)
        most = {"class": 10**9, "ids": 10**18}
        return [f"{kind}:{whole}" for kind in most if 0 <= whole < most[kind]]
    short = f"{number:g}"
    return [f"random:{short if float(short) < 1 else repr(number)}"] if 0 < number < 1 else []


def _no_request(asked: Any) -> InputError:
    """For a single thing that is neither a text nor a request: what was meant, as it is typed."""
    texts = texts_meant(asked)
    remedy = f"Give {' or '.join(map(repr, texts))}" if texts else "Say what to forget"
    allowed = f"a text ({_ALLOWED}), ids, a mask, or a request"
    return InputError(f"A forget request given as {asked!r}", allowed, remedy)


def _listed_ids(value: str) -> np.ndarray | None:
    """The ids of ``3,17,29``; None where that is no such list, or the name of a file."""
    if not re.fullmatch(r"-?[0-9]{1,18}(\s*,\s*-?[0-9]{1,18})*", value):
        return None
    if len(value) < 256 and Path(value).exists():
        return None
    return np.array([int(word) for word in value.split(",")], np.int64)


def read_ids(path: str) -> np.ndarray:
    """The integers in a text, ``.json`` or ``.npy`` file, int64, in their order.

    Raises:
        InputError: no such file, one that may not be read, or something other than integers in it.
    """
    named = expanded(path)
    there = bool(path) and is_there(named)
    if not (there and named.is_file()):
        raise InputError(
            f"{path[:200]!r} is no plain file"
            if there
            else f"There is no file of ids {path[:200]!r}",
            "a text, .json or .npy file",
            "Write the ids to a file"
            if there
            else "Check the path. Typed in place of a file, ids are set apart by commas, as in "
            "ids:3,17; there are no ranges",
        )
    about = (named, "a file of ids", "Write the ids alone")
    try:
        if named.suffix == ".npy":
            return read_npy(*about)
        data = read_bytes(*about).removeprefix(codecs.BOM_UTF8)
        values = parse_json(data, *about) if named.suffix == ".json" else _split(data.decode())
    except Unreadable:
        raise
    except (InputError, UnicodeDecodeError) as error:
        raise _not_integers(str(named), type(error.__cause__ or error).__name__) from error
    if not isinstance(values, list):
        raise _not_integers(str(named), type(values).__name__)
    return np.array(_integers(values, str(named)), np.int64)


def _split(text: str) -> list[int | str]:
    words = re.split(r"[\s,]+", text.strip(" \t\r\n,"))
    # At most 19 digits: more would not fit an id, and int() of a long text is slow.
    return [int(w) if re.fullmatch(r"[+-]?[0-9]{1,19}", w) else w for w in words if w]


def _integers(values: list, name: str) -> list:
    for value in values:
        whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
        if not (whole and -(2**63) <= value < 2**63):
            raise _not_integers(name, repr(value)[:40])
    return values


def _not_integers(name: str, what: str) -> InputError:
    return InputError(
        f"{name} holds something other than ids: {what}",
        "integers: text with one a line or separated by commas or spaces, a .json list, or a "
        ".npy array of one dimension",
        "Write the ids alone",
    )


def _check_ids(ids: np.ndarray, name: str, train: Dataset) -> np.ndarray:
    if ids.size == 0:
        raise InputError(f"{name} holds no id: the request is empty", "one id or more", "Name some")
    which = f"Give the ids of those samples: dataset.ids[{BOOLEAN}]"
    check_no_mask(name, ids, "integers, each id once", which)
    if ids.dtype.kind not in "iu" or ids.ndim != 1:
        raise _not_integers(name, f"an array of {ids.dtype}, shape {ids.shape}")
    values, counts = np.unique(ids, return_counts=True)
    if len(values) != len(ids):
        shown = ", ".join(map(str, values[counts > 1][:5].tolist()))
        raise InputError(f"{name} holds duplicates: {shown}", "each id once", "Remove the copies")
    train.positions(values)  # raises where an id is unknown
    return values.astype(np.int64)


def _check_joined(text: str, term: str) -> None:
    """Raise where a + of a request has no term beside it, or one without its kind."""
    if not text.strip():
        raise InputError(f"Forget request {text!r} is empty", _ALLOWED, "Say what to forget")
    if not term:
        raise InputError(f"Forget request {text!r} begins with a +", _ALLOWED, "Leave the + out")
    kind, _, value = (piece.strip() for piece in term.partition(":"))
    # Names of files may hold one, and so do numbers: +0.1 and 1e+0.
    plus = re.fullmatch(r"(.*[^eE\s])\s*\+\s*(.*)", value, re.DOTALL)
    if plus is None or kind not in _NAMES:
        return  # an unknown kind is said elsewhere
    if kind == "ids" and (plus[2] or is_there(expanded(value))):
        return
    if not plus[2]:
        raise InputError(
            f"Forget request {text!r} has no term after the + of {term!r}",
            _ALLOWED,
            "Leave the + out",
        )
    raise InputError(
        f"Forget request {text!r} joins {plus[2]!r}, which has no kind",
        _ALLOWED,
        "Write each term whole, as in class:0+class:1",
    )


def _fraction(value: str) -> float:
    """The number, in ASCII: digits of other scripts would be read, too, but not by everybody."""
    try:
        # Exactly: 1e-400 is no 0, but a fraction in which no sample falls.
        if not (re.fullmatch(r"[0-9A-Za-z.+-]+", value) and 0 < Decimal(value) < 1):
            raise ValueError(value)
    except (ValueError, ArithmeticError) as error:
        raise InputError(
            f"random:{value}",
            "a number strictly between 0 and 1, in the digits 0 to 9",
            "Write random:0.1, say",
        ) from error
    return float(value)


def _count(value: str, fraction: float, total: int) -> int:
    count = int(fraction * total + 1e-9)  # 0.7 of 90 is 63, not 62.99999999999999
    if count == 0:
        raise InputError(
            f"random:{value} of {total} samples is no sample",
            f"a fraction of {1 / total:.3g} or more",
            "Raise the fraction",
        )
    return count


def _ids_of_class(value: str, train: Dataset) -> np.ndarray:
    classes = np.unique(train.labels).tolist()
    if not re.fullmatch(r"[0-9]{1,9}", value) or int(value) not in classes:
        shown = ", ".join(map(str, classes[:20])) + (", ..." if len(classes) > 20 else "")
        raise InputError(
            f"There is no class {value!r}",
            f"one of the {len(classes)} classes of the training set: {shown}",
            "Write class:0, say; join several as class:0+class:1",
        )
    return train.ids[train.labels == int(value)]


def _request(text: str, slug: str, ids: np.ndarray, train: Dataset) -> ForgetRequest:
    if len(ids) == len(train):
        raise InputError(
            f"Forget request {text!r} asks for all {len(train)} training samples",
            "a request that leaves some",
            "Ask for less; a model of no data is a fresh one",
        )
    leaves = np.unique(train.labels[~np.isin(train.ids, ids)])
    forgotten = np.setdiff1d(np.unique(train.labels), leaves).tolist()
    slug = re.sub(r"[^A-Za-z0-9.+-]+", "-", slug)[:LONGEST_SLUG]
    return ForgetRequest(text, ids, tuple(forgotten), slug)

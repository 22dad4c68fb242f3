"""Stages of a run on disk: found by everything that determines them, and written atomically.

Each stage is a folder. In it lies identity.json, which says what the stage was made of (settings,
seeds, fingerprints of the data and of the networks before it) and the hash of that. A stage lies
under a plain name; where that is taken by one that was made of something else, under the name and
the hash. So a stage is never taken for another, and none is lost when a setting changes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pydantic

from dcmu_jax.data.requests import LONGEST_SLUG, ForgetRequest
from dcmu_jax.errors import InputError
from dcmu_jax.files import json_text, write_json
from dcmu_jax.reading import read_json_as
from dcmu_jax.training.devices import from_writer, is_writer

IDENTITY = "identity.json"
_ANYTHING = pydantic.TypeAdapter(Any)

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Stage:
    """A stage of a run.

    Attributes:
        path: the folder where it lies, or where it will.
        made_of: all that determines it, as JSON has it.
        there: whether it was made before.
    """

    path: Path
    made_of: dict[str, Any]
    there: bool

    @property
    def hash(self) -> str:
        """SHA-256 (hex) of ``made_of``."""
        return hash_of(self.made_of)


def plain(made_of: Mapping[str, Any]) -> dict[str, Any]:
    """Values with dataclasses and tuples converted to JSON values."""
    return _ANYTHING.dump_python(dict(made_of), mode="json")


@dataclasses.dataclass(frozen=True)
class Identity:
    """What identity.json says.

    Attributes:
        hash: SHA-256 (hex) of ``made_of``.
        made_of: see ``Stage``.
        made_with: what is worth knowing and determines nothing beyond rounding.
    """

    hash: str
    made_of: dict[str, Any]
    made_with: dict[str, Any]


def hash_of(made_of: Mapping[str, Any]) -> str:
    """SHA-256 (hex) of JSON values, whatever their order."""
    return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()


def digest(*arrays: np.ndarray) -> str:
    """SHA-256 (hex) of arrays: shapes, types and bytes."""
    found = hashlib.sha256()
    for array in arrays:
        found.update(f"{array.dtype.str} {array.shape}".encode())
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()


def find_stage(folder: Path, name: str, made_of: Mapping[str, Any]) -> Stage:
    """The stage ``name`` in ``folder`` with this identity, or the path where it will be.

    Args:
        folder: where stages of this kind lie.
        name: plain name.
        made_of: name -> value that determines it: JSON's kinds, dataclasses, tuples.

    Raises:
        InputError: a folder of that name does not say what it was made of, as those of versions
            before this file; what it says is not what it was written with; or something else is in
            its place.
    """
    known = plain(made_of)
    wanted = hash_of(known)
    name = re.sub(r"[^\w.-]+", "-", name).lstrip(".-")  # of a user's own: file.py:attribute
    names = (name, f"{name}-{wanted[:16]}")

    def look() -> bytes:
        check_place(folder)
        for at, path in enumerate(folder / each for each in names):
            check_place(path)
            if not path.exists():
                return json.dumps([at, False]).encode()
            if identity_in(path).hash == wanted:
                return json.dumps([at, True]).encode()
        raise damaged(folder / names[1] / IDENTITY, ValueError("it is of another stage"))

    at, there = json.loads(from_writer(look))
    return Stage(folder / names[at], known, there)


def check_place(path: Path) -> None:
    """Raise ``InputError`` where something lies at ``path`` that is no folder, nor leads to one."""
    if os.path.lexists(path) and not path.is_dir():
        raise InputError(
            f"{str(path)!r} is no folder, nor a link that leads to one",
            "a folder, or nothing",
            "Move it out of the run and run the same command again",
        )


def identity_in(path: Path) -> Identity:
    """What identity.json in a folder says, in the process that reads.

    Raises:
        InputError: it is missing, or its hash is not that of what it says.
    """
    file = path / IDENTITY
    if not os.path.lexists(file):
        raise InputError(
            f"{str(path)!r} does not say what it was made of: there is no {IDENTITY} in it",
            "stages as this version makes them",
            "Move that folder out of the run and run the stage again; a network of your own is "
            "brought into a run by Run.adopt",
        )
    found = read_json_as(Identity, file, f"the {IDENTITY} of a stage", moved(path))
    if found.hash != hash_of(found.made_of):
        raise damaged(file, ValueError("its hash is not that of what it says"))
    return found


@contextlib.contextmanager
def making(stage: Stage, **made_with: Any) -> Iterator[Path]:
    """A temporary folder for a new stage; renamed when the block ends without an error.

    Only process 0 writes. What an earlier process left aside when it was killed goes.

    Args:
        stage: that is not there yet.
        made_with: what is worth knowing and determines nothing beyond rounding.
    """
    aside = stage.path.with_name(f".{stage.path.name}.part")
    if not is_writer():
        yield aside
        return
    shutil.rmtree(aside, ignore_errors=True)
    try:
        aside.mkdir(parents=True)
        yield aside
        identity = Identity(stage.hash, stage.made_of, made_with)
        write_json(aside / IDENTITY, dataclasses.asdict(identity))
        aside.rename(stage.path)
    except OSError as error:
        raise InputError(
            f"{str(stage.path)!r} cannot be written ({error.strerror or error})",
            "a folder that can be written to, with room",
            "Make room and run the stage again: what was finished is found",
        ) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def once(
    stage: Stage,
    load: Callable[[Path], T],
    make: Callable[[], T],
    save: Callable[[Path, T], Mapping[str, Any]],
    log: Callable[..., None],
    **made_with: Any,
) -> T:
    """What a stage holds: read if it is there, else made, kept and returned.

    Args:
        stage: see ``find_stage``.
        load: reads it from its folder.
        make: computes it.
        save: writes it to a folder, and gives what it cost.
        log: told the cost when all of it is in its place.
        made_with: see ``making``.
    """
    if stage.there:
        return load(stage.path)
    made = make()
    with making(stage, **made_with) as folder:
        cost = save(folder, made)
    log(**cost)
    return made


def request_folder(folder: Path, request: ForgetRequest) -> Path:
    """The folder of one request.

    Classes name the same samples as long as the data is the same. What else a request is called
    names others with another seed or another file: then the hash of its ids is in the name.

    Raises:
        InputError: the folder says that it is of other ids, or something else is in its place.
    """
    name = request.slug
    if not re.fullmatch(r"class-[0-9]+(\+class-[0-9]+)*", name) or len(name) >= LONGEST_SLUG:
        name += f"-{digest(request.ids)[:16]}"
    path = folder / name
    file = path / "request.json"

    def look() -> bytes:
        check_place(folder)
        check_place(path)
        if path.exists():
            asked = read_json_as(_Asked, file, "the ids of a request", moved(path))
            if asked.ids != request.ids.tolist():
                raise damaged(file, ValueError("it names other ids"))
        return b""

    from_writer(look)
    return path


@dataclasses.dataclass(frozen=True)
class _Asked:
    """What request.json says."""

    text: str
    ids: list[int]


def keep_request(folder: Path, request: ForgetRequest) -> None:
    """Make the folder of a request with its request.json, unless it exists."""
    if not is_writer() or folder.exists():
        return
    aside = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(aside, ignore_errors=True)
    asked = _Asked(request.text, request.ids.tolist())
    write_json(aside / "request.json", dataclasses.asdict(asked))
    aside.rename(folder)


def add_line(path: Path, entry: Mapping[str, Any]) -> None:
    """Add a line of JSON, and the time, to a log."""
    line = json_text({"time": round(time.time(), 3), **entry}) + "\n"
    # One write of one line, which no other process or thread can get into.
    with path.open("ab", buffering=0) as file:
        file.write(line.encode())


def is_there(path: Path) -> bool:
    """Whether process 0 finds a directory."""
    return from_writer(lambda: b"yes" if os.path.isdir(path) else b"") == b"yes"


def damaged(path: Path, error: Exception) -> InputError:
    """The remedy for a damaged file of a stage."""
    return InputError(
        f"{str(path)!r} cannot be read ({error})",
        "the file as the stage wrote it",
        moved(path.parent),
    )


def moved(folder: Path) -> str:
    """The remedy for a folder of a run with a damaged file."""
    return f"Move the folder {str(folder)!r} out of the run and run the stage again"

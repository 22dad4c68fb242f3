"""Readers of untrusted JSON, ``npz`` and ``npy`` files; nothing is unpickled.

Whatever lies at a path and whatever bytes it has, they raise ``InputError`` and nothing else, and
take no more memory than a file of its size can hold.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import io
import json
import math
import os
import re
import stat
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import pydantic

from dcmu_jax.errors import InputError

Stream = IO[bytes] | io.BufferedIOBase
_OF_WHAT_LIES_THERE = (
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EINVAL,
    errno.ENXIO,
    errno.ELOOP,
    errno.ENAMETOOLONG,
)
"""What the system says of a path, and not of permissions, open files, the disk or memory."""
LARGEST_JSON = 2**28
"""Largest JSON file that is read, in bytes; far larger than any that is written."""
DEFLATE = 1100
"""Deflate expands a byte to 1,032 at most: a member that claims more is forged."""


@contextlib.contextmanager
def opened(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """A plain file to read from; anything else in its place raises ``OSError``.

    A FIFO is not waited for.
    """
    mode = os.stat(path).st_mode  # asked first: to open a FIFO is to wait for its writer
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "Not a plain file", str(path))
    with Path(path).open("rb") as file:
        yield file


def read_bytes(path: str | os.PathLike[str], what: str, remedy: str) -> bytes:
    """The bytes of a small file.

    Args:
        path: of the file.
        what: it is meant to hold, with an article, for messages.
        remedy: what to do if it cannot be read.

    Raises:
        InputError: it is missing, no plain file, too large, or may not be read.
    """
    with refused(repr(str(path)), what, remedy), opened(path) as file:
        if os.fstat(file.fileno()).st_size > LARGEST_JSON:
            raise ValueError(f"more than {LARGEST_JSON} bytes")
        return file.read(LARGEST_JSON)


class Unreadable(InputError):
    """What cannot be read for want of permission, memory or a disk that works.

    Nothing says that it is damaged, so nobody may be told to remove it.
    """


def system_error(error: BaseException) -> OSError | None:
    """The ``OSError`` behind an error; TensorStore names it in its message only."""
    if isinstance(error, OSError) and error.errno:
        return error
    found = re.search("os_error_code='([0-9]{1,4})'", str(error))
    return OSError(int(found[1]), os.strerror(int(found[1]))) if found else None


def unreadable(path: str | os.PathLike[str], error: BaseException | None) -> Unreadable | None:
    """What to raise for a file that was not read; None where that may be for what lies there.

    Args:
        path: of the file, as it is shown.
        error: what was raised; what it was raised from counts as well.
    """
    while error is not None:
        system = system_error(error)
        if system is not None and system.errno not in _OF_WHAT_LIES_THERE:
            return Unreadable(
                f"{path} cannot be read ({system.strerror})",
                "a file that may be read, on a disk that works",
                "Mend its permissions, the limit of open files (ulimit -n) or the disk, and run "
                "it again. Nothing says that it is damaged",
            )
        exhausted = system is None and "RESOURCE_EXHAUSTED" in str(error)
        if exhausted or isinstance(error, MemoryError):
            why = (str(error).strip() or "no more").splitlines()[0][:160]
            return Unreadable(
                f"{path} cannot be read: memory is exhausted ({why})",
                "memory that holds it",
                "Free some, or read it where there is more. Nothing says that it is damaged",
            )
        error = error.__cause__ or error.__context__
    return None


def is_there(path: str | os.PathLike[str]) -> bool:
    """Whether something lies at ``path``; no name that no file can have is there.

    Raises:
        InputError: one may not look.
    """
    try:
        os.stat(path)
    except ValueError:  # NUL, or half of a surrogate pair
        return False
    except OSError as error:
        hindered = unreadable(repr(str(path)), error)
        if hindered is not None:
            raise hindered from error
        return False
    return True


@contextlib.contextmanager
def refused(path: str | os.PathLike[str], what: str, remedy: str) -> Iterator[None]:
    """Turn any error within the block into an ``InputError``.

    All of ``Exception``: what the libraries raise on bytes that are not to be trusted is of many
    kinds, and none of their documents lists them.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        hindered = unreadable(path, error)
        if hindered is not None:
            raise hindered from error
        missing = isinstance(error, FileNotFoundError | NotADirectoryError)
        why = getattr(error, "strerror", None) or str(error).strip() or type(error).__name__
        raise InputError(
            f"No {what.partition(' ')[2]} at {path}"
            if missing
            else f"{path} cannot be read as {what} ({why.splitlines()[0][:200]})",
            "the file as it was written",
            remedy,
        ) from error


def parse_json(data: bytes, path: str | os.PathLike[str], what: str, remedy: str) -> Any:
    """The value of strict JSON in UTF-8.

    Args:
        data: the bytes of the file.
        path: where they came from, for messages.
        what: see ``read_bytes``.
        remedy: likewise.

    Raises:
        InputError: no such JSON; a key that occurs twice in an object; a number that is not finite
            or a whole one beyond 64 bits; text that is no Unicode; nesting beyond any use.
    """
    with refused(repr(str(path)), what, remedy):
        text = data.decode()
        value = json.loads(
            text,
            parse_constant=_no_number,
            parse_float=_finite,
            parse_int=_whole,
            object_pairs_hook=_object,
        )
        if "\\u" in text:  # halves of characters pass as JSON, and cannot be written anywhere
            json.dumps(value, ensure_ascii=False).encode()
        return value


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no number in JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:40]} is too large a number")
    return value


def _whole(text: str) -> int:
    if len(text) > 20 or not -(2**63) <= int(text) < 2**64:
        raise ValueError(f"{text[:40]} has more than 64 bits")
    return int(text)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice[:40]!r} occurs twice")
    return found


_adapter = functools.cache(pydantic.TypeAdapter)


def parse_as(kind: Any, data: bytes, path: str | os.PathLike[str], what: str, remedy: str) -> Any:
    """JSON of a known form, with the types that it has and no others.

    Args:
        kind: the form: a type that pydantic knows, such as a dataclass.
        data: see ``parse_json``.
        path: likewise.
        what: likewise.
        remedy: likewise.

    Raises:
        InputError: see ``parse_json``; or another form, with the place in it.
    """
    parse_json(data, path, what, remedy)
    try:
        return _adapter(kind).validate_json(data, strict=True)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))[:200] or "the whole file"
        raise InputError(
            f"{str(path)!r} cannot be read as {what} ({where}: {first['msg'][:200]})",
            "the file as it was written",
            remedy,
        ) from error


def read_json(path: str | os.PathLike[str], what: str, remedy: str) -> Any:
    """The value of a JSON file; see ``read_bytes`` and ``parse_json``."""
    return parse_json(read_bytes(path, what, remedy), path, what, remedy)


def read_json_as(kind: Any, path: str | os.PathLike[str], what: str, remedy: str) -> Any:
    """A JSON file of a known form; see ``read_bytes`` and ``parse_as``."""
    return parse_as(kind, read_bytes(path, what, remedy), path, what, remedy)


def read_archive(path: str | os.PathLike[str], what: str, remedy: str) -> dict[str, np.ndarray]:
    """The arrays of an ``npz`` archive as ``np.savez`` writes it, by name.

    Args:
        path: of the file.
        what: it is meant to hold, with an article, for messages.
        remedy: what to do if it does not.

    Raises:
        InputError: no such file; one that is no archive of plain arrays; a name that occurs twice;
            arrays of Python objects, or compressed ones.
    """
    with refused(path, what, remedy), opened(path) as file:
        return _stored(file)


def archive_of(data: bytes, what: str, remedy: str) -> dict[str, np.ndarray]:
    """The arrays of an archive that was sent; see ``read_archive``."""
    with refused("a message", what, remedy):
        return _stored(io.BytesIO(data))


def _stored(file: Stream) -> dict[str, np.ndarray]:
    with Archive(file) as archive:
        if any(member.compress_type != zipfile.ZIP_STORED for member in archive.members.values()):
            raise ValueError("arrays are compressed")
        end = file.seek(0, os.SEEK_END)
        if any(member.file_size > end for member in archive.members.values()):
            raise ValueError("arrays are larger than the archive")
        return {name: archive.read(name) for name in archive.members}


def read_npy(path: str | os.PathLike[str], what: str, remedy: str) -> np.ndarray:
    """The array of an ``npy`` file; see ``read_archive``."""
    with refused(path, what, remedy), opened(path) as file:
        return _array(file, os.fstat(file.fileno()).st_size, what)


class NoArray(ValueError):
    """A member of an archive that is no array at all."""


class Archive:
    """The arrays of an ``npz`` archive, each read when asked for.

    What is raised, here and by ``read``, is any ``Exception``: see ``read_archive``.

    Attributes:
        members: by the name of the array; a member that is none has its file's name.
    """

    def __init__(self, file: Stream):
        self._archive = zipfile.ZipFile(file)
        infos = self._archive.infolist()
        self.members = {info.filename.removesuffix(".npy"): info for info in infos}
        if len(self.members) < len(infos):
            raise ValueError("an array occurs twice")

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, *error: object) -> None:
        self._archive.close()

    def read(self, name: str) -> np.ndarray:
        """An array."""
        member = self.members[name]
        if not member.filename.endswith(".npy"):
            raise NoArray(f"{name[:80]!r} is no array")
        kinds = {zipfile.ZIP_STORED: 1, zipfile.ZIP_DEFLATED: DEFLATE}
        if member.file_size > kinds[member.compress_type] * member.compress_size:
            raise ValueError(f"{name[:80]!r} is larger than what it is made from")
        if member.file_size > _memory():
            raise MemoryError(f"{member.file_size} bytes, more than the memory of this machine")
        with self._archive.open(member) as stream:
            found = _array(stream, member.file_size, name)
            stream.read(1)  # its end: only there is its checksum compared
        return found


def _memory() -> int | float:
    """Bytes of this machine's memory, where it says."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return math.inf


def _array(stream: Stream, size: int, name: str) -> np.ndarray:
    """The array in ``size`` bytes, of which its header must account for every one."""
    version = np.lib.format.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"version {version} of the format")
    read = getattr(np.lib.format, f"read_array_header_{version[0]}_0")
    shape, fortran, dtype = read(stream)
    if dtype.hasobject:
        raise ValueError(f"{name[:80]} holds Python objects, which are never unpickled")
    count = math.prod(shape)
    states = count * dtype.itemsize
    if min(shape, default=0) < 0 or states != size - stream.tell() or (count > 1 and not states):
        raise ValueError(f"{name[:80]} of shape {str(shape)[:80]} in {size} bytes")
    flat = np.empty(count, dtype)
    rest = flat.view(np.uint8).data if states else memoryview(b"")
    while rest:
        data = stream.read(min(len(rest), 2**24))
        if not data:
            raise EOFError(f"{name[:80]} is cut off")
        rest[: len(data)] = data
        rest = rest[len(data) :]
    return flat.reshape(shape, order="F" if fortran else "C")


def is_text(array: np.ndarray) -> bool:
    """Whether an array from a file is one string, or several, that can be written again."""
    try:
        return array.dtype.kind == "U" and "".join(array.ravel().tolist()).encode() is not None
    except (ValueError, SystemError):  # code points that are none
        return False

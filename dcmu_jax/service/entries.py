"""What a workspace may contain (plain files and folders), and how its files are opened."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from dcmu_jax.errors import InputError

_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
"""No link is followed; and opening does not wait for the other end of a named pipe."""


def check_plain(directory: Path) -> None:
    """Raise ``InputError`` unless all below ``directory`` is a plain file or a folder.

    Links are not followed, and nothing is opened. What vanishes meanwhile is passed over: another
    process may be at work.
    """
    for entry in entries_below(directory):
        kind = _kind(entry)
        if kind:
            raise _not_plain(Path(entry.path), kind)


def entries_below(folder: Path | str) -> Iterator[os.DirEntry[str]]:
    """Everything below a folder, recursively; links are not followed."""
    waiting = _entries(folder)
    while waiting:
        entry = waiting.pop()
        yield entry
        if entry.is_dir(follow_symlinks=False):
            waiting += _entries(entry.path)


def _entries(folder: Path | str) -> list[os.DirEntry[str]]:
    """The entries of a folder, in descending order; nothing if the folder is gone by now."""
    try:
        with os.scandir(folder) as found:
            return sorted(found, key=lambda entry: entry.name, reverse=True)
    except FileNotFoundError:
        return []


def _kind(entry: os.DirEntry[str]) -> str:
    """What an entry is; empty for a plain file, a folder, and what is gone by now."""
    if entry.is_file(follow_symlinks=False) or entry.is_dir(follow_symlinks=False):
        return ""
    try:
        mode = entry.stat(follow_symlinks=False).st_mode
    except FileNotFoundError:
        return ""
    if stat.S_ISLNK(mode):
        return "a link"
    if stat.S_ISFIFO(mode):
        return "a named pipe"
    return "a socket" if stat.S_ISSOCK(mode) else "a device"


def _not_plain(path: Path, kind: str) -> InputError:
    return InputError(
        f"{str(path)!r} is {kind}",
        "plain files and folders, at every level of a workspace",
        "Nothing was changed. Put the file or the folder itself there",
    )


def open_plain(path: Path, *, write: bool = False) -> io.BufferedRandom | io.BufferedReader:
    """Open a file that is there, for reading, or for reading and writing in place.

    Raises:
        InputError: it is a link, a pipe or anything else but a plain file; or it shall be written
            and has a second name, under which the change would be seen, too.
        OSError: it cannot be opened.
    """
    if path.is_symlink():
        raise _not_plain(path, "a link")
    descriptor = os.open(path, (os.O_RDWR if write else os.O_RDONLY) | _NO_FOLLOW)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise _not_plain(path, "no plain file")
        if write and found.st_nlink > 1:
            raise InputError(
                f"{str(path)!r} has a second name (a hard link), which a change would reach, too",
                "a file of its own",
                "Nothing was changed. Copy it, and move the copy in its place",
            )
        return os.fdopen(descriptor, "r+b") if write else os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_plain(path: Path) -> bytes:
    """The bytes of a file; see ``open_plain``."""
    with open_plain(path) as file:
        return file.read()

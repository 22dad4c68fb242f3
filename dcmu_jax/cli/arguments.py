"""Command-line arguments: ones that no command accepts, and values needed before parsing."""

from __future__ import annotations

import dataclasses
import os
import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Any

from dcmu_jax.errors import InputError


def value_of(flag: str, argv: Sequence[str], default: str) -> str:
    """The value of ``--flag`` in ``argv``: it decides the defaults of the other flags."""
    value = default
    for index, argument in enumerate(argv):
        if argument == f"--{flag}" and index + 1 < len(argv):
            value = argv[index + 1]
        elif argument.startswith(f"--{flag}="):
            value = argument.split("=", 1)[1]
    return value


def number_of(flag: str, argv: Sequence[str]) -> int | None:
    """The whole number given as ``--flag``; None for anything else, which the parser refuses."""
    given = value_of(flag, argv, "")
    return int(given) if re.fullmatch("[0-9]{1,19}", given) else None


def check_words(argv: Sequence[str]) -> None:
    """Raise ``InputError`` for words that no shell can pass and no file can be named.

    >>> check_words(["status", "w"])
    """
    for word in argv:
        try:
            fits = b"\0" not in os.fsencode(word)
        except UnicodeEncodeError:  # half of a surrogate pair
            fits = False
        if not fits:
            raise InputError(
                f"The argument {ascii(word)[:80]}",
                "text without NUL that the encoding of file names has",
                "Give the command without that character",
            )


def check_digits(argv: Sequence[str], args: Any) -> None:
    """Raise ``InputError`` for a number in other digits than 0 to 9, which Python would read.

    Args:
        argv: the words of a command.
        args: what the parser made of them: a word that is a text or a path there may be anything.
    """
    texts = set(_texts(args))
    for word in argv:
        value = word.split("=", 1)[1] if word.startswith("--") and "=" in word else word
        if value.isascii() or value in texts:
            continue
        try:
            float(value)
        except ValueError:
            continue
        plain = "".join(str(unicodedata.digit(sign)) if sign.isdigit() else sign for sign in value)
        raise InputError(f"The number {value!r}", "numbers in the digits 0 to 9", f"Write {plain}")


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str | os.PathLike):
        yield str(value)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _texts(inner)
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            if field.name != "words":  # the words themselves, as they were given
                yield from _texts(getattr(value, field.name))

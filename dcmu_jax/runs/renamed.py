"""Settings of a run under the names that they had before, which still work."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

RENAMED = {"rivals": "baselines"}
"""Old name of a setting -> the name that it has now."""


def accept_old_names(kind: type) -> None:
    """Let a dataclass take and show each of its settings under its old name as well.

    Of both names, the old one counts: ``dataclasses.replace`` gives the new one unasked.

    >>> import dataclasses
    >>> @dataclasses.dataclass(frozen=True, kw_only=True)
    ... class Compared:
    ...     baselines: tuple = ()
    >>> accept_old_names(Compared)
    >>> dataclasses.replace(Compared(rivals=("scrub",)), rivals=("paper",))
    Compared(baselines=('paper',))
    """
    made: Any = kind.__init__

    @functools.wraps(made)
    def init(self: Any, **settings: Any) -> None:
        made(self, **new_names(settings))

    setattr(kind, "__init__", init)  # noqa: B010
    for old, new in RENAMED.items():
        setattr(kind, old, property(functools.partial(_shown, new), doc=f"``{new}``."))


def _shown(name: str, settings: Any) -> Any:
    return getattr(settings, name)


def new_names(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by name, with old names made new.

    >>> new_names({"seed": 1, "rivals": ()})
    {'seed': 1, 'baselines': ()}
    """
    kept = {name: value for name, value in settings.items() if name not in RENAMED}
    return kept | {RENAMED[name]: value for name, value in settings.items() if name in RENAMED}


def old_names(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The reverse of ``new_names``: what names of folders are hashed from, so that they stay."""
    before = {new: old for old, new in RENAMED.items()}
    return {before.get(name, name): value for name, value in settings.items()}


def new_options(argv: Sequence[str]) -> list[str]:
    """The words of a command, with options under old names made new.

    >>> new_options(["run", "--rivals", "scrub", "--rivals=paper"])
    ['run', '--baselines', 'scrub', '--baselines=paper']
    """
    words = []
    for word in argv:
        option, sign, value = word.partition("=")
        old = option.removeprefix("--")
        words.append(f"--{RENAMED[old]}{sign}{value}" if old != option and old in RENAMED else word)
    return words

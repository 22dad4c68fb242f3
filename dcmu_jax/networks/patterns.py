"""Patterns of parameter paths, by which the parameters of a module are assigned to parts."""

from __future__ import annotations

import fnmatch
from collections.abc import Collection, Mapping
from typing import Any

from dcmu_jax.errors import InputError, counted, kind_of, unknown_name
from dcmu_jax.networks.partition import PARTS, check_parts

Patterns = Mapping[str, str | Collection[str]]
"""Part -> patterns of parameter paths, such as ``{"final": "Dense_*"}``; see ``labels_of``."""


def labels_of(paths: Collection[str], parts: Patterns | Any, module: str) -> dict[str, str]:
    """The part of each path.

    A pattern is that of a file name (``*``, ``?``, ``[...]``), and stands for all that lies below
    what it matches: ``Conv_0``, ``Block_?/Conv_*``, ``*/bias``.

    Args:
        paths: of parameters and statistics, as ``Conv_0/kernel``.
        parts: patterns of each part.
        module: name of the module, for messages.

    Raises:
        InputError: an unknown part, one of the three without a parameter, a pattern that matches
            nothing, a path without a part or with two.

    >>> labels_of(["Conv_0/kernel", "Dense_0/bias"], {p: "*" for p in PARTS[:2]}, "N")
    Traceback (most recent call last):
    ...
    dcmu_jax.errors.InputError: Parts of N without 'final'. Allowed: patterns for beginning, \
intermediate and final. Give final=...: which part ends where is yours to choose
    """
    if not isinstance(parts, Mapping):
        raise InputError(
            f"Parts of {module} given as {kind_of(parts)}",
            "a dictionary of part and patterns",
            'Give {"beginning": "Conv_0", "intermediate": "Conv_1", "final": "Dense_*"}',
        )
    check_parts(tuple(parts))
    for part in PARTS:
        if part not in parts:
            raise InputError(
                f"Parts of {module} without {part!r}",
                f"patterns for {', '.join(PARTS[:2])} and {PARTS[2]}",
                f"Give {part}=...: which part ends where is yours to choose",
            )
    found: dict[str, tuple[str, str]] = {}
    for part, patterns in parts.items():
        for pattern in _patterns_of(part, patterns):
            matched = [path for path in paths if _matches(path, pattern)]
            if not matched:
                tops = {"/".join(path.split("/")[:-1]) or path for path in paths}
                raise unknown_name(f"parameters of {module} (pattern for {part})", pattern, tops)
            for path in matched:
                if found.setdefault(path, (part, pattern))[0] != part:
                    raise _in_two(paths, path, module, (found[path], (part, pattern)))
    missing = [path for path in paths if path not in found]
    if missing:
        shown = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
        them = "them" if len(missing) > 1 else "it"
        raise InputError(
            f"{counted(len(missing), 'parameter')} of {module} in no part: {shown}",
            "each parameter in one part",
            f"Add patterns that match {them}",
        )
    return {path: part for path, (part, _) in found.items()}


def _patterns_of(part: str, given: Any) -> tuple[str, ...]:
    """The patterns of a part: a text, or a collection of texts."""
    patterns = (given,) if isinstance(given, str) else given
    if not isinstance(patterns, Collection) or not all(isinstance(one, str) for one in patterns):
        raise InputError(
            f"The patterns for {part} given as {given!r}",
            "a pattern of parameter paths, or a list of them",
            f'Give texts, such as {{"{part}": "Dense_0"}}',
        )
    return tuple(sorted(patterns) if isinstance(patterns, set | frozenset) else patterns)


def _in_two(
    paths: Collection[str], path: str, module: str, owners: tuple[tuple[str, str], tuple[str, str]]
) -> InputError:
    """The error for a parameter that patterns of two parts match: the wider one is to change."""
    (one, first), (other, second) = owners
    wider = max((second, first), key=lambda pattern: sum(_matches(p, pattern) for p in paths))
    return InputError(
        f"The parameter {path!r} of {module} is in {one} (by the pattern {first!r}) and in {other} "
        f"(by {second!r})",
        "each parameter in one part",
        f"Make the pattern {wider!r} narrower",
    )


def _matches(path: str, pattern: str) -> bool:
    return fnmatch.fnmatchcase(path, pattern) or fnmatch.fnmatchcase(path, f"{pattern}/*")

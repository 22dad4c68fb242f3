"""The options of an experiment, made of the fields of a dataclass by argparse alone."""

from __future__ import annotations

import argparse
import dataclasses
import re
import types
import typing
from collections.abc import Sequence
from typing import Any, Literal, TypeVar

from dcmu_jax.programs import keep_programs

_T = TypeVar("_T")
_ALSO = {"baselines": "--rivals", "dtype": "--network.dtype"}
"""Other names of options."""
_NONE = "None"


def parse(kind: type[_T], doc: str | None, arguments: Sequence[str] | None = None) -> _T:
    """The options as a value.

    Fields are text, numbers, paths, a Literal of texts, bool (``--plan`` and ``--no-plan``), a
    tuple of one type (any number of words), or one of these or None.

    Args:
        kind: a dataclass whose docstring has a line for each field under ``Attributes:``.
        doc: of the module, for the help.
        arguments: those of this process by default.

    >>> @dataclasses.dataclass
    ... class Options:
    ...     seeds: tuple[int, ...] = (1, 2)
    >>> parse(Options, None, ["--seeds", "3", "4"])
    Options(seeds=(3, 4))
    """
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    types_of, said = typing.get_type_hints(kind), _attributes(kind.__doc__ or "")
    for field in dataclasses.fields(kind):  # pyright: ignore[reportArgumentType]
        names = dict.fromkeys(f"--{n}" for n in (field.name.replace("_", "-"), field.name))
        required = field.default is dataclasses.MISSING
        shown = "required" if required else f"default: {_shown(field.default)}"
        parser.add_argument(
            *names,
            *([_ALSO[field.name]] if field.name in _ALSO else []),
            dest=field.name,
            required=required,
            default=argparse.SUPPRESS,
            help=f"{said.get(field.name, '')} ({shown})".replace("%", "%%"),
            **_argument(types_of[field.name]),
        )
    found = vars(parser.parse_args(arguments))
    if arguments is None:
        keep_programs()  # every experiment comes by here before it compiles anything
    return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in found.items()})


def _argument(of: Any) -> dict[str, Any]:
    """What argparse is told of a type."""
    if isinstance(of, types.UnionType):
        (inner,) = (each for each in typing.get_args(of) if each is not types.NoneType)
        return _argument(inner) | ({} if _is_tuple(inner) else {"type": _or_none(inner)})
    if _is_tuple(of):
        return {**_argument(typing.get_args(of)[0]), "nargs": "*"}
    if typing.get_origin(of) is Literal:
        return {"choices": typing.get_args(of)}
    if of is bool:
        return {"action": argparse.BooleanOptionalAction}
    return {"type": of, "metavar": of.__name__.upper()}


def _is_tuple(of: Any) -> bool:
    return typing.get_origin(of) is tuple


def _or_none(of: Any) -> Any:
    def read(word: str) -> Any:
        return None if word == _NONE else of(word)

    read.__name__ = of.__name__  # in messages
    return read


def _shown(default: Any) -> str:
    return " ".join(map(str, default)) if isinstance(default, tuple) else str(default)


def _attributes(doc: str) -> dict[str, str]:
    """Name -> text of the lines under ``Attributes:``."""
    found = re.findall(r"^ {8}(\w+): (.*(?:\n {12}.*)*)", doc, re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in found}

"""A command of `dcmu`: its arguments are parsed and checked, and it is run."""

from __future__ import annotations

import dataclasses
import functools
import os
import re
import sys
import unicodedata
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import tyro

from dcmu_jax.cli.condensed_model import (
    CondensedModelCommand,
    condensed_model,
    condensed_model_defaults,
    with_folder,
)
from dcmu_jax.cli.output import Output, dated
from dcmu_jax.cli.runs import RUN_COMMANDS, NewRun
from dcmu_jax.cli.service import SERVICE_COMMANDS, ProcessCommand, process_defaults
from dcmu_jax.errors import InputError, check_numbers, unknown_name
from dcmu_jax.metrics.telltale import TelltaleWarning
from dcmu_jax.outlets import OutputFailed, WayOn, interrupted
from dcmu_jax.programs import keep_programs
from dcmu_jax.runs.config import RunConfig
from dcmu_jax.runs.cost import CostWarning
from dcmu_jax.runs.presets import PRESETS
from dcmu_jax.runs.renamed import new_options
from dcmu_jax.service.given import check_outside
from dcmu_jax.training.devices import check_platform
from dcmu_jax.training.processes import ended_together

COMMANDS: dict[str, tuple[Callable[[Any, Output], None], type]] = {
    **RUN_COMMANDS,
    "condensed-model": (condensed_model, CondensedModelCommand),
    **SERVICE_COMMANDS,
}
"""Name -> handler and its arguments."""


def _parse(command: str, argv: Sequence[str]) -> Any:
    handler, kind = COMMANDS[command]
    options: dict[str, Any] = {}
    if kind is NewRun:
        argv = new_options(argv)
        chosen, model = _value_of("preset", argv, "recommended"), _value_of("model", argv, "mlp")
        if chosen not in PRESETS:
            raise unknown_name("preset", chosen, PRESETS)
        options["default"] = NewRun(
            config=RunConfig(preset=chosen, model=model),
            now_devices=_number_of("devices", argv),
            words=tuple(argv),
        )
    if kind is ProcessCommand:
        options["default"] = process_defaults(argv, _value_of("preset", argv, "") or None)
    if kind is CondensedModelCommand:
        chosen = _value_of("preset", argv, "recommended")
        devices = _number_of("devices", argv)
        options["default"] = condensed_model_defaults(chosen, _value_of("run", argv, ""), devices)
    return tyro.cli(
        kind,
        prog=f"dcmu {command}",
        description=handler.__doc__,
        args=list(argv),
        **options,
    )


def _named(args: Any) -> Any:
    """The arguments with a directory filled in, so that an interrupted command can name it."""
    if isinstance(args, CondensedModelCommand):
        return with_folder(args)
    new = isinstance(args, NewRun) and not (args.resume or args.start_or_resume)
    if not new or args.out is not None:
        return args
    source, config = args.config.dataset.split(":")[0], args.config
    model = re.sub(r"[^\w-]+", "-", config.model).strip("-")  # may be file.py:attribute
    return dataclasses.replace(args, out=dated(source, model, config.preset))


def _go_on(argv: Sequence[str], args: Any, there: bool) -> list[str]:
    """The arguments of the command that resumes an interrupted one.

    Args:
        argv: its own.
        args: what the parser made of them.
        there: whether its directory was there before it.
    """
    words, out = list(argv), getattr(args, "out", None)
    if argv[0] == "request" and args.reference is None:
        return ["status", str(args.directory)]  # says whether it was acknowledged
    made = out is not None and not there and os.path.isdir(out)
    if argv[0] not in ("run", "train", "condensed-model") or not made:
        return words
    if not _value_of("out", argv, ""):
        words += ["--out", str(out)]
    if isinstance(args, NewRun) and not (args.resume or args.start_or_resume):
        words.append("--resume")
    return words


def execute(argv: Sequence[str], way_on: WayOn) -> int:
    """Run the command ``argv[0]``, one of ``COMMANDS``, with the arguments after it.

    Args:
        argv: the command and its arguments.
        way_on: is told how to go on with it.

    Returns:
        The exit status, 0.

    Raises:
        InputError: bad input.
        Interrupted: Ctrl-C or SIGTERM.
        OutputFailed: the work is done, and was not told of.
        SystemExit: see ``cli.main``.
    """
    # A file or a pipe has no width; the tables need some 105 columns.
    console = Output() if sys.stdout.isatty() else Output(width=120)
    _check_words(argv)
    args = _named(_parse(argv[0], argv[1:]))
    out = getattr(args, "out", None)
    there = out is not None and os.path.isdir(out)
    way_on.find, way_on.begun = functools.partial(_go_on, argv, args, there), True
    _check_digits(argv[1:], args)
    if isinstance(getattr(args, "out", None), Path):
        check_outside(args.out)
    for field in dataclasses.fields(args):
        value = getattr(args, field.name)
        check_numbers(value, "" if dataclasses.is_dataclass(value) else field.name)
    several = getattr(args, "several", None)
    if several is None or not several.several:
        check_platform()
    keep_programs()
    with warnings.catch_warnings(), ended_together(lambda: interrupted(way_on.find())):
        for said in (CostWarning, TelltaleWarning):  # beside the command's output
            warnings.simplefilter("ignore", said)
        COMMANDS[argv[0]][0](args, console)
    if console.failure is not None:
        raise OutputFailed(console.failure)
    return 0


def _value_of(flag: str, argv: Sequence[str], default: str) -> str:
    """The value of ``--flag`` in ``argv``: it decides the defaults of the other flags."""
    value = default
    for index, argument in enumerate(argv):
        if argument == f"--{flag}" and index + 1 < len(argv):
            value = argv[index + 1]
        elif argument.startswith(f"--{flag}="):
            value = argument.split("=", 1)[1]
    return value


def _number_of(flag: str, argv: Sequence[str]) -> int | None:
    """The whole number given as ``--flag``; None for anything else, which the parser refuses."""
    given = _value_of(flag, argv, "")
    return int(given) if re.fullmatch("[0-9]{1,19}", given) else None


def _check_words(argv: Sequence[str]) -> None:
    """Raise ``InputError`` for words that no shell can pass and no file can be named.

    >>> _check_words(["status", "w"])
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


def _check_digits(argv: Sequence[str], args: Any) -> None:
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

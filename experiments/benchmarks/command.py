"""A benchmark's options, the command that measures the same again, and processes of its own."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

HIDDEN = ("minutes", "profile", "folder")
"""Options that say nothing of what is measured."""
ROOT = Path(__file__).resolve().parents[2]


DRY = False, "print only, write nothing"
"""The option ``--dry``."""


def _argument(given: Any) -> dict[str, Any]:
    """What argparse is told of an option; see ``CommandLine``."""
    if isinstance(given, dict):
        return given
    if isinstance(given, tuple):
        return {**_argument(given[0]), "help": given[1]}
    if isinstance(given, type):
        return {"type": given}
    if isinstance(given, bool):
        return {"action": "store_true"}
    if isinstance(given, list):
        return {"type": type(given[0]), "nargs": "+", "default": given}
    return {"type": type(given), "default": given}


class CommandLine:
    """The options of a benchmark.

    Args:
        name: of its module.
        doc: of its module, whose first line is the help.
        **options: the default of each, or its type where there is none; or a pair of that and its
            help; or all that ``argparse`` is told of it.
    """

    def __init__(self, name: str, doc: str | None, **options: Any):
        self.name = name
        self.parser = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
        for option, given in options.items():
            self.parser.add_argument(f"--{option.replace('_', '-')}", **_argument(given))

    def parse(self, arguments: list[str] | None = None) -> argparse.Namespace:
        """The options given, those of this process by default."""
        return self.parser.parse_args(arguments)

    def command(self, options: argparse.Namespace) -> str:
        """What gives the same again: all options but the defaults, of paths the last name."""
        words = [f"python -m experiments.benchmarks.{self.name}"]
        for name, value in vars(options).items():
            if name in HIDDEN or value == self.parser.get_default(name):
                continue
            values = value if isinstance(value, list) else [value]
            words.append(f"--{name.replace('_', '-')}")
            words += [v.name if isinstance(v, Path) else str(v) for v in values]
        return " ".join(words)

    def write(self, result: str, figures: dict[str, Any], options: argparse.Namespace) -> None:
        """Write the result beside the command, but for ``--dry``, and say where it is."""
        from experiments.benchmarks.record import write_result  # which imports JAX

        if not getattr(options, "dry", False):
            print(f"written: {write_result(result, figures, self.command(options)).name}")


def in_a_process(name: str, *arguments: Any, **settings: Any) -> Any:
    """The last line that a benchmark prints in a process of its own, which is JSON.

    Args:
        name: of its module.
        *arguments: the words after it.
        **settings: of ``subprocess.run``.
    """
    command = [sys.executable, "-m", f"experiments.benchmarks.{name}", *map(str, arguments)]
    settings = {"stdout": subprocess.PIPE, "text": True, "check": True, "cwd": ROOT} | settings
    return json.loads(subprocess.run(command, **settings).stdout.splitlines()[-1])

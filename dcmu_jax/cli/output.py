"""The console of a command: a failed stdout does not stop the work; it is reported at the end."""

from __future__ import annotations

import datetime
import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from dcmu_jax.reporting.progress import training_progress


class Output(Console):
    """A console that drops its output once printing has failed.

    Attributes:
        failure: why it cannot; None while it can.
    """

    failure: OSError | None = None

    def print(self, *objects: Any, **options: Any) -> None:
        """As ``Console.print``."""
        try:
            super().print(*objects, **options)
        except OSError as error:
            self.failure, self.quiet = error, True

    def say(self, *sentences: str | None) -> None:
        """Print what is there, unwrapped: a path can be copied from a narrow terminal."""
        for text in filter(None, sentences):
            self.print(Text(text), soft_wrap=True)

    def counter(self, what: str, quiet: bool) -> Callable[[int, int], None]:
        """What is told how many networks of a population are trained."""
        return lambda done, of: None if quiet else self.say(f"{done} of {of} {what} trained")

    def on_broken_pipe(self) -> None:
        """Raise, where ``Console`` would end the process."""
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


def progress(quiet: bool) -> Callable[[str, int], Any]:
    """The progress of ``Hooks`` as bars, or none."""
    return lambda name, epochs: training_progress(name, epochs, enabled=not quiet)


def dated(*names: str) -> Path:
    """The directory of work that was given none."""
    return Path("runs") / "-".join([f"{datetime.datetime.now():%Y%m%d-%H%M%S}", *names])

"""The console of a command: a failed stdout does not stop the work; it is reported at the end."""

from __future__ import annotations

import errno
import os
from typing import Any

from rich.console import Console


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

    def on_broken_pipe(self) -> None:
        """Raise, where ``Console`` would end the process."""
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))

"""A progress bar for a training run: epochs done, loss, accuracy, time left."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text


class _Description(TextColumn):
    """The description as it is: a name in square brackets is no markup."""

    def render(self, task) -> Text:
        return Text(task.description)


@contextlib.contextmanager
def training_progress(
    description: str, epochs: int, *, enabled: bool = True
) -> Iterator[Callable[[int, float, float], None]]:
    """A bar on stderr for the length of the block; yields what to call after each epoch.

    The callback takes the epochs done, the mean loss and the accuracy (%), as training calls it.
    Where stderr is not a terminal, or when not ``enabled``, nothing at all is printed.

    Args:
        description: what is being trained.
        epochs: how many epochs there will be.
        enabled: whether to show the bar.
    """
    # Asked of the stream itself: rich lets environment variables pass a file off as a terminal.
    if not (enabled and sys.stderr.isatty()):
        yield _silent
        return
    columns = (
        _Description(""),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]}  accuracy {task.fields[accuracy]}"),
        TimeRemainingColumn(),
        TextColumn("left"),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(description, total=epochs, loss="-", accuracy="-")

        def after_epoch(epoch: int, loss: float, accuracy: float) -> None:
            progress.update(task, completed=epoch, loss=f"{loss:.4f}", accuracy=f"{accuracy:.1f} %")

        yield after_epoch


def _silent(epoch: int, loss: float, accuracy: float) -> None:
    """Show nothing."""

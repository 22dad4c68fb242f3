"""Write a file aside and rename it into place, so that nothing half-written is ever seen."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def written_aside(path: Path | str) -> Iterator[Path]:
    """A path to write to in place of ``path``; renamed to it when the block ends well.

    Folders above ``path`` are made. When the block raises, the file aside is removed and whatever
    was at ``path`` stays as it was.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield aside
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)

"""Reading a workspace while others may write to it: a read that was overtaken is repeated."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from dcmu_jax.errors import InputError
from dcmu_jax.service.history import History, replay
from dcmu_jax.service.ledger import read_ledger
from dcmu_jax.service.shape import check_shape

_TIMES = 5

Found = TypeVar("Found")


def looked_at(directory: Path, look: Callable[[History], Found]) -> Found:
    """The result of ``look`` on a workspace that nobody changed meanwhile.

    The ledger is read again afterwards. Where a batch or a purge began or was published since,
    files may have gone that the older history speaks of, and ``look`` starts over. Requests change
    no file that was published.

    Raises:
        InputError: work overtook it every time; or the ledger is damaged; or what ``look`` raises.
        OSError: likewise.
    """
    for _ in range(_TIMES):
        check_shape(directory)
        history = replay(read_ledger(directory))
        error = found = None
        try:
            found = look(history)
        except (InputError, OSError) as raised:
            error = raised
        if _work_of(replay(read_ledger(directory))) == _work_of(history):
            if error is not None:
                raise error
            return found  # type: ignore[return-value]
    raise InputError(
        f"Work changed {str(directory)!r} each of the {_TIMES} times that it was looked at",
        "a workspace on which nobody works for a while",
        "Wait until dcmu process and dcmu purge are done, and look again",
    )


def _work_of(history: History) -> int:
    return len(history.ledger.entries) - len(history.requests)

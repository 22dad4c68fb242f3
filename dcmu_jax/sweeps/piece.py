"""Minutes on a machine that is lent: no step of a sweep begins that cannot end in what is left."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from dcmu_jax.files import write_json

_LAST = 8
"""Steps of a kind that say how far off the plan is."""


class NoTimeError(Exception):
    """A step that cannot end in what is left of a piece."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Piece:
    """How long a machine is held, and what steps are expected to take.

    Attributes:
        seconds: of the whole piece.
        ends: when it is over, as ``time.time`` has it, the same for all workers.
        planned: seconds of a step by its words, such as a group, a request and a method; steps
            that are not there count as nothing.
        folder: where steps that ended leave what they took. The last of a kind correct the plan,
            in later pieces as well.
    """

    seconds: float
    ends: float
    planned: Mapping[tuple[str, ...], float]
    folder: Path

    def expected(self, kind: str, words: tuple[str, ...]) -> float:
        """Seconds by the plan and by what steps of the kind have taken so far."""
        ended = sorted(self.folder.glob(f"{kind}--*.json"), key=lambda path: path.stat().st_mtime)
        known = [json.loads(path.read_text()) for path in ended[-_LAST:]]
        planned = sum(each["planned_s"] for each in known)
        pace = sum(each["took_s"] for each in known) / planned if planned else 1.0
        return pace * self.planned.get(words, 0.0)

    @contextlib.contextmanager
    def step(self, kind: str, words: tuple[str, ...]) -> Iterator[None]:
        """Around a step.

        Args:
            kind: which others it resembles, as a file may be called.
            words: its name, as the plan has it.

        Raises:
            NoTimeError: it is not begun.
        """
        expected, left = self.expected(kind, words), self.ends - time.time()
        if expected > left or left <= 0:
            said = f"{' '.join(words)}: not begun, {expected:.0f} s expected, {left:.0f} s left"
            if expected > self.seconds:
                said += f"; more than a whole piece: it wants {math.ceil(expected / 60)} minutes"
            raise NoTimeError(said)
        began = time.time()
        yield
        if planned := self.planned.get(words):
            took = {"planned_s": planned, "took_s": time.time() - began}
            name = "-".join(words).replace("/", "_").replace(":", "-")
            write_json(self.folder / f"{kind}--{name}.json", took)

"""The small JSON files of a run: what each stage notes beside its network, read back checked."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Generic, TypeVar

import numpy as np
import pydantic

from dcmu_jax.metrics.measurement import Trajectory
from dcmu_jax.reading import parse_as, read_bytes
from dcmu_jax.training.classifier import Classifier
from dcmu_jax.training.devices import from_writer
from dcmu_jax.unlearning.task import Unlearned

T = TypeVar("T")
Id = Annotated[int, pydantic.Field(ge=-(2**63), lt=2**63)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataNote:
    """``data.json``: which data a run was started with."""

    fingerprint: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class PreparedNote:
    """``cost.json`` of an offline phase.

    Attributes:
        offline_s: seconds it took, compilation apart.
        compile_s: seconds of compilation.
        trained: whether a network lies beside it; else it is the original.
    """

    offline_s: float
    compile_s: float
    trained: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class OnlineCost:
    """See ``Unlearned``."""

    online_s: float
    compile_s: float
    flops: float | None
    reduction: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class ServedNote:
    """``result.json`` of a request served by a method; see ``Unlearned`` and ``Trajectory``."""

    cost: OnlineCost
    trajectory: Trajectory
    trained_ids: tuple[Id, ...]

    def __post_init__(self):
        points = dataclasses.astuple(self.trajectory)[1:]
        if len({len(values) for values in points}) > 1:
            raise ValueError("a trajectory of lines of different lengths")

    def unlearned(self, network: Classifier) -> Unlearned:
        """The result, whose network was read from beside it."""
        ids = np.array(self.trained_ids, np.int64)
        return Unlearned(network, trained_ids=ids, **vars(self.cost))


class Note(Generic[T]):
    """One kind of file."""

    def __init__(self, kind: type[T]):
        self._kind = kind

    def read(self, path: Path) -> T | None:
        """What process 0 finds at ``path``; None where there is nothing.

        Raises:
            InputError: it is not as the stage wrote it.
        """
        what, remedy = f"the {path.name} of a stage", "Delete it and run the stage again"

        def read() -> bytes:
            return b"+" + read_bytes(path, what, remedy) if path.exists() else b""

        data = from_writer(read)
        return parse_as(self._kind, data[1:], path, what, remedy) if data else None


DATA, PREPARED, SERVED = Note(DataNote), Note(PreparedNote), Note(ServedNote)

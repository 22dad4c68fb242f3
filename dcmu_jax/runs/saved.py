"""The small JSON files that each stage writes with its network, checked when read."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Generic, TypeVar

import numpy as np
import pydantic

from dcmu_jax.metrics.measurement import Trajectory
from dcmu_jax.networks.behaviour import Behaviour
from dcmu_jax.reading import is_there, parse_as, read_bytes
from dcmu_jax.training.classifier import Classifier
from dcmu_jax.training.devices import from_writer
from dcmu_jax.unlearning.task import Unlearned

T = TypeVar("T")
Id = Annotated[int, pydantic.Field(ge=-(2**63), lt=2**63)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataNote:
    """``data.json``: which data and which module a run was started with.

    Attributes:
        fingerprint: of the data.
        own_data: whether it came from Python, as ``splits``; None where an earlier version wrote
            the file, which does not say.
        own_module: the same of the module, as ``model``.
        behaviour: what a module of the user's own computes.
        initial: how its parameters start, see ``initial_of``; None where an earlier version wrote
            the file.
    """

    fingerprint: str
    own_data: bool | None = None
    own_module: bool | None = None
    behaviour: Behaviour | None = None
    initial: dict[str, list[float]] | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class PreparedNote:
    """``cost.json`` of an offline phase.

    Attributes:
        offline_s: seconds it took, compilation apart.
        compile_s: seconds of compilation.
        trained: whether a network lies beside it; else it is the original.
        bank: fingerprint of the bank beside it.
    """

    offline_s: float
    compile_s: float
    trained: bool
    bank: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class OnlineCost:
    """See ``Unlearned``."""

    online_s: float
    compile_s: float
    flops: float | None
    reduction: float | None
    residual: float | None = None
    solved: bool = True


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
    """One kind of file, with the remedy where it is missing or damaged."""

    def __init__(self, kind: type[T], remedy: str):
        self._kind, self._remedy = kind, remedy

    def read(self, path: Path) -> T:
        """What process 0 finds at ``path``.

        Raises:
            InputError: it is missing, or not as the stage wrote it.
        """
        what, remedy = f"the {path.name} of a run", self._remedy.format(folder=path.parent)
        data = from_writer(lambda: read_bytes(path, what, remedy))
        return parse_as(self._kind, data, path, what, remedy)

    def read_if_there(self, path: Path) -> T | None:
        """As ``read``; None where process 0 finds no file."""
        return self.read(path) if from_writer(lambda: b"1" if is_there(path) else b"") else None


_AGAIN = "Move the folder '{folder}' out of the run and run the stage again"
DATA = Note(DataNote, "Restore the file, or start a new run")
ENVIRONMENT = Note(dict, "Restore the file, or delete it")
"""See ``training.environment``; runs that were made before it have none."""
PREPARED, SERVED = Note(PreparedNote, _AGAIN), Note(ServedNote, _AGAIN)

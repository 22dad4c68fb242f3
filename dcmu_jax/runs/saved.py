"""What lies in the folder of each stage: written by process 0, checked when it is read."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar

import numpy as np
import pydantic

from dcmu_jax.condensation.bank import CondensedBank
from dcmu_jax.data.dataset import Dataset
from dcmu_jax.files import write_json
from dcmu_jax.metrics.measurement import Trajectory
from dcmu_jax.networks.behaviour import Behaviour
from dcmu_jax.reading import is_there, parse_as, read_bytes
from dcmu_jax.runs.store import Stage, damaged, moved
from dcmu_jax.training.checkpoints import FitCheckpoint, save_classifier
from dcmu_jax.training.classifier import Classifier
from dcmu_jax.training.devices import from_writer, is_writer
from dcmu_jax.unlearning.task import Prepared, Unlearned

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


@dataclasses.dataclass(frozen=True)
class Served:
    """A request served by one method.

    Attributes:
        unlearned: the result.
        trajectory: how it got there.
        directory: where both lie; the network in the folder network.
    """

    unlearned: Unlearned
    trajectory: Trajectory
    directory: Path


def unfinished(stage: Stage, epochs: int) -> FitCheckpoint:
    """What an interrupted training of the original goes on from."""
    checkpoint = FitCheckpoint(
        stage.path.with_name(f"{stage.path.name}.unfinished"),
        every=max(1, epochs // 6),
        identity=stage.hash,
    )
    if checkpoint.is_of_another():
        path = stage.path.with_name(f"original-{stage.hash[:16]}.unfinished")
        checkpoint = dataclasses.replace(checkpoint, path=path)
    return checkpoint


def save_prepared(folder: Path, prepared: Prepared, original: Classifier) -> dict[str, Any]:
    """Write the bank, the network if it is not the original, and cost.json, which is returned."""
    trained, bank = prepared.classifier is not original, prepared.bank
    cost = {
        "offline_s": prepared.offline_s,
        "compile_s": prepared.compile_s,
        "trained": trained,
        "matching_loss_start": float(bank.initial_loss.mean()),
        "matching_loss_end": float(bank.final_loss.mean()),
        "clusters": len(bank.labels),
        "bank": bank.fingerprint(),
    }
    if is_writer():
        bank.save(folder / "bank.npz")
        write_json(folder / "cost.json", cost)
    if trained:
        save_classifier(folder / "network", prepared.classifier)
    return cost


def load_prepared(
    folder: Path,
    original: Classifier,
    train: Dataset,
    remembrance: Dataset,
    network: Callable[[Path], Classifier],
) -> Prepared:
    """Read what ``save_prepared`` wrote.

    Args:
        folder: of the stage.
        original: the network, where offline training did not change it.
        train: what the bank is of.
        remembrance: the remembrance samples.
        network: reads the network in the folder of a stage.

    Raises:
        InputError: the bank is damaged, of other data, or another than its note says.
    """
    note = PREPARED.read(folder / "cost.json")
    file = folder / "bank.npz"
    data = from_writer(lambda: CondensedBank.load(file, moved(folder)).to_bytes())
    bank = CondensedBank.from_bytes(data)
    bank.check(train)
    if bank.fingerprint() != note.bank:
        raise damaged(file, ValueError("its contents do not match its fingerprint"))
    trained = network(folder) if note.trained else original
    return Prepared(bank, trained, remembrance, note.offline_s, note.compile_s)


def save_served(folder: Path, served: Served) -> dict[str, Any]:
    """Write the network and result.json, whose cost is returned."""
    unlearned = served.unlearned
    cost = {
        "online_s": unlearned.online_s,
        "compile_s": unlearned.compile_s,
        "flops": unlearned.flops,
        "reduction": unlearned.reduction,
        "residual": unlearned.residual,
        "solved": unlearned.solved,
    }
    save_classifier(folder / "network", unlearned.classifier)
    result = {
        "cost": cost,
        "trajectory": dataclasses.asdict(served.trajectory),
        "trained_ids": unlearned.trained_ids.tolist(),
    }
    if is_writer():
        write_json(folder / "result.json", result)
    return cost


def load_served(folder: Path, network: Callable[[Path], Classifier]) -> Served:
    """Read what ``save_served`` wrote; see ``load_prepared``."""
    note = SERVED.read(folder / "result.json")
    return Served(note.unlearned(network(folder)), note.trajectory, folder)

"""A population of models as one tensor: the logit margin of every model on every example.

Every audit is a pure function of it, so models are trained once and audited as often as wanted.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import jax
import numpy as np

from dcmu_jax.data.dataset import Splits
from dcmu_jax.data.selections import Ids, Mask, as_ids, as_mask, as_positions
from dcmu_jax.errors import InputError
from dcmu_jax.files import FilePath, write_archive
from dcmu_jax.reading import is_text, read_archive

_MODELS_BY_EXAMPLES = {"margins": "f4", "correct": "b1", "member": "b1", "forgotten": "b1"}
_EXAMPLES = {"ids": "i8", "labels": "i4", "test": "b1"}
_REMEDY = "Train the population again"


@dataclasses.dataclass(frozen=True, eq=False)
class Population:
    """Models x examples.

    Attributes:
        margins: float32 ``(models, examples)``, log(p / (1 - p)) of the true class.
        correct: bool, like ``margins``: whether the largest logit is the label's.
        member: bool, like ``margins``: whether the example was in the set that the model was
            trained on, those that it forgot afterwards included.
        forgotten: bool, like ``margins``: whether the model was made to forget the example.
        kinds: what each model is: ``shadow``, ``oracle``, ``original``, or the method that made it.
        ids: int64 ``(examples,)``, training and test examples.
        labels: int32 ``(examples,)``.
        test: bool ``(examples,)``: an example of the test split, which no model was trained on.
        data_fingerprint: of the training set.
    """

    margins: np.ndarray
    correct: np.ndarray
    member: np.ndarray
    forgotten: np.ndarray
    kinds: tuple[str, ...]
    ids: np.ndarray
    labels: np.ndarray
    test: np.ndarray
    data_fingerprint: str

    def __len__(self) -> int:
        return len(self.kinds)

    def __post_init__(self):
        shape = (len(self.kinds), len(self.ids))
        for name in _MODELS_BY_EXAMPLES:
            _check_shape(name, getattr(self, name), shape)
        for name in _EXAMPLES:
            _check_shape(name, getattr(self, name), shape[1:])
        for name in ("correct", "member", "forgotten", "test"):
            array = getattr(self, name)
            as_mask(name, array, array.shape)
        if (self.member & self.test).any() or (self.forgotten & ~self.member).any():
            raise InputError(
                "A population with a test example among members, or a forgotten one that was none",
                "members from the training set, and forgotten examples among them",
                "Check the masks: 1 where the model was trained on the example",
            )

    def of(self, *kinds: str) -> Population:
        """The models of some kinds, in their order.

        Raises:
            InputError: there is none of a kind.
        """
        for kind in kinds:
            if kind not in self.kinds:
                raise InputError(
                    f"A population without a model of the kind {kind!r}",
                    ", ".join(sorted(set(self.kinds))),
                    f"Train some of the kind {kind!r}, or name another",
                )
        return self.models([number for number, kind in enumerate(self.kinds) if kind in kinds])

    def models(self, numbers: Mask | Ids) -> Population:
        """Some of the models, by position or mask.

        Raises:
            InputError: as ``Dataset.take``.
        """
        numbers = as_positions("models", numbers, len(self))
        arrays = {name: getattr(self, name)[numbers] for name in _MODELS_BY_EXAMPLES}
        kinds = tuple(self.kinds[number] for number in numbers)
        return dataclasses.replace(self, kinds=kinds, **arrays)

    def positions(self, ids: Ids, *, test: bool = False) -> np.ndarray:
        """Where training (or test) examples stand, int64 ``(len(ids),)``.

        Raises:
            InputError: an id that is not among them, or there twice; a mask.
        """
        ids = as_ids("ids", ids)
        candidates = np.flatnonzero(self.test == test)
        order = candidates[np.argsort(self.ids[candidates])]
        at = np.minimum(np.searchsorted(self.ids[order], ids), len(order) - 1)
        missing = ids[self.ids[order[at]] != ids] if len(order) else ids
        if len(missing):
            raise InputError(
                f"{len(missing)} of {len(ids)} ids that the population was not measured on, "
                f"{missing[0]} for one",
                f"ids of its {len(candidates)} {'test' if test else 'training'} examples",
                "Take the population of this data set",
            )
        return order[at]

    def check(self, splits: Splits) -> None:
        """Raise unless the models were trained and measured on ``splits``.

        Raises:
            InputError: another training set.
        """
        given = splits.train.fingerprint()
        if given != self.data_fingerprint:
            raise InputError(
                f"A population of another training set (fingerprint {self.data_fingerprint[:12]}"
                f"..., given {given[:12]}...)",
                "the training set that its models come from",
                f"Pass that set. {_REMEDY}",
            )

    def save(self, path: FilePath) -> None:
        """Write an ``npz`` archive; the file appears whole or not at all."""
        write_archive(path, {**vars(self), "kinds": np.array(self.kinds, dtype=np.str_)})

    @classmethod
    def load(cls, path: FilePath, remedy: str = _REMEDY) -> Population:
        """Read what ``save`` wrote. Nothing is unpickled.

        Args:
            path: of the file.
            remedy: what an error says to do.

        Raises:
            InputError: no such file, or not such an archive.
        """
        found = read_archive(path, "a population", remedy)
        wanted = {**_MODELS_BY_EXAMPLES, **_EXAMPLES}
        for name, kind in {**wanted, "kinds": "U", "data_fingerprint": "U"}.items():
            array = found.get(name)
            fits = array is not None and np.dtype(array.dtype).str[1:].startswith(kind)
            if array is None or not fits or (kind == "U" and not is_text(array)):
                raise InputError(
                    f"{path} has {'no' if array is None else 'a strange'} array {name!r}",
                    "the arrays of a population",
                    remedy,
                )
        kinds = tuple(str(kind) for kind in found["kinds"].ravel())
        arrays = {name: found[name] for name in wanted}
        try:
            return cls(kinds=kinds, data_fingerprint=str(found["data_fingerprint"]), **arrays)
        except InputError as error:  # arrays that do not go together
            raise InputError(f"{path}: {error.given}", error.allowed, remedy) from error


def joined(populations: Sequence[Population]) -> Population:
    """The models of several populations on the same examples, one after another.

    Raises:
        InputError: none, or populations of other examples or another training set.
    """
    if not populations:
        raise InputError("No population to join", "one or more", "Train one")
    first = populations[0]
    for other in populations[1:]:
        alike = all(np.array_equal(getattr(first, n), getattr(other, n)) for n in _EXAMPLES)
        if not alike or other.data_fingerprint != first.data_fingerprint:
            raise InputError(
                "Populations of different examples or training sets",
                "populations that were measured on the same examples",
                "Train them on the same splits",
            )
    arrays = {
        name: np.concatenate([getattr(p, name) for p in populations])
        for name in _MODELS_BY_EXAMPLES
    }
    kinds = tuple(kind for p in populations for kind in p.kinds)
    return dataclasses.replace(first, kinds=kinds, **arrays)


def _check_shape(name: str, array: np.ndarray, shape: tuple[int, ...]) -> None:
    given = np.shape(array) if isinstance(array, np.ndarray | jax.Array) else None
    if given != shape:
        raise InputError(
            f"{name} of shape {given} in a population of {shape[0]} models or examples",
            f"shape {shape}",
            "Bring one entry for each model and example",
        )

"""The condensed bank: clusters, weights and condensed images, all that the online phase needs."""

from __future__ import annotations

import dataclasses
import hashlib
import io
from typing import Any

import numpy as np

from dcmu_jax.data.dataset import Dataset
from dcmu_jax.errors import InputError
from dcmu_jax.files import FilePath, write_archive
from dcmu_jax.reading import archive_of, is_text, read_archive
from dcmu_jax.training.classifier import Classifier

_ARRAYS = {
    "ids": ("i8", 1),
    "cluster": ("i4", 1),
    "weights": ("f4", 1),
    "images": ("f4", 4),
    "labels": ("i4", 1),
    "sizes": ("i4", 1),
    "initial_loss": ("f4", 1),
    "final_loss": ("f4", 1),
    "feature_sums": ("i8", 2),
}
_WHAT = "a condensed bank"
_REMEDY = "Condense again: dcmu.condense(network, data, clusters)"
_STRINGS = ("layer", "lineage", "data_fingerprint", "model_fingerprint")


@dataclasses.dataclass(frozen=True, eq=False)
class CondensedBank:
    """A training set (``N`` samples) beside its condensed images (``B``, one per cluster).

    Attributes:
        ids: int64 ``(N,)``, the samples in the order of the training set.
        cluster: int32 ``(N,)``, the cluster of each sample, ``0..B-1``.
        weights: float32 ``(N,)``, the weight of each sample in its cluster's image.
        images: float32 ``(B, H, W, C)``, pixels on the scale 0..255, not clipped.
        labels: int32 ``(B,)``, the class of each cluster.
        sizes: int32 ``(B,)``, samples in each cluster, at least 1.
        initial_loss: float32 ``(B,)``, squared feature distance before the optimisation.
        final_loss: float32 ``(B,)``, the same after it.
        feature_sums: int64 ``(B, D)``, the summed features of each cluster's samples in whole
            numbers (``statistics``).
        layer: the layer the features come from, "" for the model's own (``FeatureMap``).
        lineage: ``trained``: network and clusters have seen the training set; ``clean``: neither
            has, and the image of a cluster depends on its own samples alone.
        data_fingerprint: ``Dataset.fingerprint()`` of the training set.
        model_fingerprint: ``Classifier.fingerprint()`` of the network that gave the features.
    """

    ids: np.ndarray
    cluster: np.ndarray
    weights: np.ndarray
    images: np.ndarray
    labels: np.ndarray
    sizes: np.ndarray
    initial_loss: np.ndarray
    final_loss: np.ndarray
    feature_sums: np.ndarray
    layer: str
    lineage: str
    data_fingerprint: str
    model_fingerprint: str

    def save(self, path: FilePath) -> None:
        """Write an ``npz`` archive; the file appears whole or not at all.

        Raises:
            InputError: numbers that are not finite, or arrays that do not fit together.
        """
        arrays = dataclasses.asdict(self)
        fault = _fault({name: np.asarray(value) for name, value in arrays.items()})
        if fault:
            raise InputError(
                f"A condensed bank to be saved: {fault}",
                "the arrays of a condensed bank; nothing was saved",
                _REMEDY,
            )
        write_archive(path, arrays)

    def to_bytes(self) -> bytes:
        """The bank as ``from_bytes`` takes it, to be sent to another process."""
        buffer = io.BytesIO()
        np.savez(buffer, **dataclasses.asdict(self))
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> CondensedBank:
        """What ``to_bytes`` gave. Nothing is unpickled.

        Raises:
            InputError: see ``load``.
        """
        return cls._of(archive_of(data, _WHAT, _REMEDY), "A message")

    @classmethod
    def _of(
        cls, found: dict[str, np.ndarray], path: object, remedy: str = _REMEDY
    ) -> CondensedBank:
        fault = _fault(found)
        if fault:
            raise InputError(f"{path}: {fault}", "the arrays of a condensed bank", remedy)
        values: dict[str, Any] = {name: found[name] for name in _ARRAYS}
        values |= {name: str(found[name]) for name in _STRINGS}
        return cls(**values)

    @classmethod
    def load(cls, path: FilePath, remedy: str = _REMEDY) -> CondensedBank:
        """Read what ``save`` wrote. Nothing is unpickled.

        Args:
            path: of the file.
            remedy: what an error says to do.

        Raises:
            InputError: no such file, not such an archive, or arrays that do not fit together.
        """
        return cls._of(read_archive(path, _WHAT, remedy), path, remedy)

    def fingerprint(self) -> str:
        """SHA-256 (hex) over every array and string: the identity of the bank."""
        found = hashlib.sha256()
        for name, value in dataclasses.asdict(self).items():
            array = np.asarray(value)
            found.update(f"{name} {array.dtype.str} {array.shape}".encode())
            found.update(np.ascontiguousarray(array).tobytes())
        return found.hexdigest()

    def check(self, dataset: Dataset, classifier: Classifier | None = None) -> None:
        """Raise unless the bank was made from ``dataset`` (and, where given, ``classifier``).

        Raises:
            InputError: other data or another model.
        """
        pairs = [("training set", self.data_fingerprint, dataset.fingerprint())]
        if classifier is not None:
            pairs.append(("model", self.model_fingerprint, classifier.fingerprint()))
        for what, made_from, given in pairs:
            if made_from != given:
                raise InputError(
                    f"A condensed bank of another {what} (fingerprint {made_from[:12]}..., "
                    f"given {given[:12]}...)",
                    f"the {what} that the bank was made from",
                    f"Pass that {what}. Or condense again: dcmu.condense(network, data, clusters)",
                )


def _fault(found: dict[str, np.ndarray]) -> str | None:
    """What is wrong with the arrays of an archive, if anything."""
    missing = sorted({*_ARRAYS, *_STRINGS} - set(found))
    if missing:
        return f"no array {', '.join(missing)}"
    for name, (kind, rank) in _ARRAYS.items():
        array = found[name]
        if array.dtype != np.dtype(kind) or array.ndim != rank:
            return f"{name} is {array.dtype} of rank {array.ndim}, not {np.dtype(kind)} of {rank}"
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            return f"{name} has values that are not finite"
    for name in _STRINGS:
        if not is_text(found[name]) or found[name].ndim != 0:
            return f"{name} is not a string"
    if str(found["lineage"]) not in ("trained", "clean"):
        return "lineage is neither trained nor clean"
    for group in (
        ("ids", "cluster", "weights"),
        ("labels", "images", "sizes", "initial_loss", "final_loss", "feature_sums"),
    ):
        lengths = {name: len(found[name]) for name in group}
        if len(set(lengths.values())) > 1:
            return f"lengths differ: {lengths}"
    cluster, sizes = found["cluster"], found["sizes"]
    if len(cluster) == 0 or cluster.min() < 0 or cluster.max() >= len(sizes):
        return f"cluster numbers are not within 0..{len(sizes) - 1}"
    if (np.bincount(cluster, minlength=len(sizes)) != sizes).any() or sizes.min() < 1:
        return "sizes do not count the samples of the clusters"
    if len(np.unique(found["ids"])) != len(cluster):
        return "ids occur twice"
    return None

"""The condensed bank: clusters, weights and condensed images, all that the online phase needs."""

from __future__ import annotations

import dataclasses
import os
import zipfile
from pathlib import Path
from typing import Any

import flax.linen as nn
import numpy as np
from jaxtyping import Array

from dcmu_jax.condensation.clustering import cluster_classes
from dcmu_jax.condensation.matching import MatchingConfig, match_clusters
from dcmu_jax.data.dataset import Dataset
from dcmu_jax.errors import InputError
from dcmu_jax.models.partition import Variables, apply_features
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
}
_STRINGS = ("data_fingerprint", "model_fingerprint")


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
    data_fingerprint: str
    model_fingerprint: str

    def save(self, path: str | Path) -> None:
        """Write an ``npz`` archive; the file appears whole or not at all."""
        path = Path(path)
        aside = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            with aside.open("wb") as file:
                np.savez(file, **dataclasses.asdict(self))  # type: ignore[arg-type]
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: str | Path) -> CondensedBank:
        """Read what ``save`` wrote. Nothing is unpickled.

        Raises:
            InputError: no such file, not such an archive, or arrays that do not fit together.
        """
        path = Path(path)
        remedy = "Make the bank again with build_bank"
        if not path.is_file():
            raise InputError(f"No condensed bank at {path}", "a file written by save", remedy)
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
                found = {name: archive[name] for name in archive.files}
        except (OSError, ValueError, EOFError, TypeError, AttributeError, zipfile.BadZipFile) as e:
            raise InputError(
                f"{path} cannot be read as a condensed bank ({e})", "a file written by save", remedy
            ) from e
        fault = _fault(found)
        if fault:
            raise InputError(f"{path}: {fault}", "the arrays of a condensed bank", remedy)
        values: dict[str, Any] = {name: found[name] for name in _ARRAYS}
        values |= {name: str(found[name]) for name in _STRINGS}
        return cls(**values)

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
                    f"Pass that {what}, or make the bank again with build_bank",
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
        if found[name].dtype.kind != "U" or found[name].ndim != 0:
            return f"{name} is not a string"
    for group in (
        ("ids", "cluster", "weights"),
        ("labels", "images", "sizes", "initial_loss", "final_loss"),
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


@dataclasses.dataclass(frozen=True)
class FeatureMap:
    """The features of a model as a function of ``(variables, x)``; equal for equal models."""

    model: nn.Module

    def __call__(self, variables: Variables, x: Array) -> Array:
        """See ``dcmu_jax.models.partition.apply_features``."""
        return apply_features(self.model, variables, x)


def build_bank(
    dataset: Dataset,
    classifier: Classifier,
    *,
    clusters_per_class: int,
    method: str = "kmeans",
    matching: MatchingConfig | None = None,
    seed: int = 0,
) -> CondensedBank:
    """Cluster a training set by class and condense every cluster to one image.

    Args:
        dataset: the training set, forget candidates and all.
        classifier: the trained network whose features are used, in evaluation mode.
        clusters_per_class: ``K``; a class of fewer samples keeps each sample by itself.
        method: of clustering; see ``cluster_classes``.
        matching: of the condensation; the paper's when not given.
        seed: of the clustering. The condensation has no randomness.

    Raises:
        InputError: see ``cluster_classes``.
    """
    features = np.asarray(classifier.features(dataset.images), np.float32)
    clusters = cluster_classes(
        features, dataset.labels, clusters_per_class, method=method, seed=seed
    )
    matched = match_clusters(
        FeatureMap(classifier.model),
        classifier.variables,
        dataset.images,
        features,
        clusters.assignment,
        classifier.normalisation,
        matching or MatchingConfig(),
    )
    return CondensedBank(
        ids=dataset.ids.astype(np.int64),
        cluster=clusters.assignment,
        weights=matched.weights,
        images=matched.images,
        labels=clusters.labels,
        sizes=clusters.sizes,
        initial_loss=matched.initial_loss,
        final_loss=matched.final_loss,
        data_fingerprint=dataset.fingerprint(),
        model_fingerprint=classifier.fingerprint(),
    )


def recondense(
    bank: CondensedBank,
    dataset: Dataset,
    classifier: Classifier,
    forget_ids: np.ndarray,
    config: MatchingConfig,
    *,
    warm: bool = True,
) -> CondensedBank:
    """The bank of what is left: every touched cluster condensed again from its survivors.

    The weights of forgotten samples become 0 and those of the survivors are scaled to sum to one;
    then all touched clusters are optimised together for ``config.steps``, towards the mean
    features of their survivors. Untouched clusters stay as they are, bit for bit. A cluster
    without survivors disappears and the ones after it move up.

    Guarantee: the pixels of forgotten samples, and condensed images made from them, do not enter:
    changing them changes no bit of the result. What is kept of the time before are the clusters
    and, with ``warm``, the survivors' weights, which were chosen when the forgotten samples were
    still there, and so is ``classifier``.

    Args:
        bank: of ``dataset``; only the ids are compared, for comparing pixels would use them.
        dataset: the training set the bank was made from.
        classifier: gives the features; need not be the one the bank was made with.
        forget_ids: ids to forget, distinct, not all.
        config: a few steps (10 to 30) do from a warm start.
        warm: start from the survivors' weights; else from ``1/n``, the strict variant.

    Returns:
        A bank of ``dataset.without(forget_ids)``, with the fingerprints of that and of
        ``classifier``.

    Raises:
        InputError: ids of the bank and the data differ, unknown ids, or nothing would be left.
    """
    if not np.array_equal(bank.ids, dataset.ids):
        raise InputError(
            f"A condensed bank of {len(bank.ids)} samples and a dataset of {len(dataset)}, "
            "with other ids or in another order",
            "the training set that the bank was made from",
            "Pass that training set, or make the bank again with build_bank",
        )
    gone = np.zeros(len(dataset), bool)
    gone[dataset.positions(np.asarray(forget_ids))] = True
    if gone.all():
        raise InputError(
            "A request for every sample", "a request that leaves at least one", "Forget fewer"
        )
    survivors = dataset.take(~gone)
    cluster, weights = bank.cluster[~gone], bank.weights[~gone].copy()
    sizes = np.bincount(cluster, minlength=len(bank.sizes)).astype(np.int32)
    images, before, after = bank.images.copy(), bank.initial_loss.copy(), bank.final_loss.copy()

    touched = np.flatnonzero((sizes < bank.sizes) & (sizes > 0))
    at = np.flatnonzero(np.isin(cluster, touched))
    if len(at):
        pixels = survivors.images[at]
        local = np.searchsorted(touched, cluster[at])
        start = _restart(weights[at], local, sizes[touched], warm)
        matched = match_clusters(
            FeatureMap(classifier.model),
            classifier.variables,
            pixels,
            np.asarray(classifier.features(pixels), np.float32),
            local,
            classifier.normalisation,
            config,
            weights=start,
        )
        weights[at], images[touched] = matched.weights, matched.images
        before[touched], after[touched] = matched.initial_loss, matched.final_loss

    stays = sizes > 0
    return CondensedBank(
        ids=survivors.ids.astype(np.int64),
        cluster=(np.cumsum(stays) - 1)[cluster].astype(np.int32),
        weights=weights,
        images=images[stays],
        labels=bank.labels[stays],
        sizes=sizes[stays],
        initial_loss=before[stays],
        final_loss=after[stays],
        data_fingerprint=survivors.fingerprint(),
        model_fingerprint=classifier.fingerprint(),
    )


def _restart(weights, cluster, sizes, warm: bool) -> np.ndarray:
    """Survivors' weights scaled to sum to one, or ``1/n``."""
    even = 1.0 / sizes[cluster]
    if not warm:
        return even.astype(np.float32)
    total = np.bincount(cluster, weights)[cluster]
    # Free weights may nearly cancel; blowing them up would be no warm start.
    usable = total > 0.1
    return np.where(usable, weights / np.where(usable, total, 1.0), even).astype(np.float32)

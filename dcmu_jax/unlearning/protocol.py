"""The collection protocol: which real and which condensed images the online phase trains on."""

from __future__ import annotations

import dataclasses
from typing import Literal, Protocol, get_args, runtime_checkable

import numpy as np
from jaxtyping import Bool, Int

from dcmu_jax.data.dataset import Dataset
from dcmu_jax.data.selections import Ids, Mask, as_ids, as_mask
from dcmu_jax.errors import InputError, check_at_least, check_seed, unknown_name

Touched = Literal["members", "recondense"]
"""What stands for a cluster that lost members: those that remain, or one new condensed image."""

StandIn = Literal["condensed", "member"]
"""What stands for any other cluster: its condensed image, or one of its members."""


@runtime_checkable
class Bank(Protocol):
    """What the protocol needs of a condensed bank."""

    @property
    def ids(self) -> np.ndarray:
        """int64 ``(N,)``, the clustered training samples."""
        ...

    @property
    def cluster(self) -> np.ndarray:
        """int32 ``(N,)``, the cluster of each, ``0..B-1``."""
        ...

    @property
    def images(self) -> np.ndarray:
        """float32 ``(B, H, W, C)``, the condensed image of each cluster, pixels 0..255."""
        ...

    @property
    def labels(self) -> np.ndarray:
        """int32 ``(B,)``, the class of each cluster."""
        ...


@dataclasses.dataclass(frozen=True, eq=False)
class Collection:
    """What the collection protocol decides, as positions; no pixel is looked at.

    Attributes:
        touched: bool ``(B,)``, clusters with a forgotten member.
        remaining: int64 ``(B,)``, members of each cluster that are not forgotten.
        survivors: int64, positions of the retained samples whose cluster is touched.
        condensed: int64, the untouched clusters (that have members), ascending.
        retained: size of the retain set.
    """

    touched: np.ndarray
    remaining: np.ndarray
    survivors: np.ndarray
    condensed: np.ndarray
    retained: int

    @property
    def recondensable(self) -> np.ndarray:
        """int64, the touched clusters with members left, ascending."""
        return np.flatnonzero(self.touched & (self.remaining > 0))

    @property
    def reduction(self) -> float:
        """Survivors and condensed images over the size of the retain set (eta)."""
        return (len(self.survivors) + len(self.condensed)) / self.retained


def collection_protocol(
    cluster: Int[np.ndarray, " samples"],
    num_clusters: int,
    forget: Mask,
) -> Collection:
    r"""Split the retain set into real samples and clusters that their condensed image stands for.

    A cluster is touched when one of its members is forgotten; the other members of a touched
    cluster stay as they are, an untouched one is replaced by its condensed image (Algorithm 4 of
    the paper, read as its reference implementation does). A cluster all of whose members are
    forgotten vanishes; a cluster without members is left out. O(samples + clusters).

    Guarantees: no forgotten position is among the survivors; and with :math:`m_j` members in
    cluster j, survivors and condensed images number
    :math:`N_R - \sum_{j\ \mathrm{untouched}} (m_j - 1)`.

    Args:
        cluster: the cluster of each sample, ``0..num_clusters-1``.
        num_clusters: B.
        forget: which samples are forgotten; may be none.

    Raises:
        InputError: a mask that is not boolean or of another length, a cluster out of range, or
            nothing left to keep.
    """
    forget = as_mask("forget mask", forget, cluster.shape, "samples of the bank")
    if forget.all():
        raise InputError(
            f"A request to forget all {len(cluster)} samples",
            "a request that leaves at least one sample",
            "Forget fewer samples; to forget everything, discard the model",
        )
    if cluster.min() < 0 or cluster.max() >= num_clusters:
        raise InputError(
            f"Cluster numbers {cluster.min()}..{cluster.max()}",
            f"0..{num_clusters - 1}",
            "Number the clusters without gaps, as the bank does",
        )
    members = np.bincount(cluster, minlength=num_clusters)
    forgotten = np.bincount(cluster[forget], minlength=num_clusters)
    touched = forgotten > 0
    return Collection(
        touched=touched,
        remaining=members - forgotten,
        survivors=np.flatnonzero(touched[cluster] & ~forget),
        condensed=np.flatnonzero(~touched & (members > 0)),
        retained=len(cluster) - int(forgotten.sum()),
    )


@dataclasses.dataclass(frozen=True, eq=False)
class ReducedRetainSet:
    """R_red: what the online phase trains on. Real samples first, then condensed images.

    Attributes:
        pixels: float32 ``(n, H, W, C)``, 0..255.
        labels: int32 ``(n,)``; a real sample has its own, a condensed image its cluster's.
        weights: float32 ``(n,)``, how much each counts in the loss.
        ids: int64 ``(real,)``, of the real samples, in the order of the first rows.
        is_condensed: bool ``(n,)``.
        reduction: n over the size of the retain set (eta).
    """

    pixels: np.ndarray
    labels: np.ndarray
    weights: np.ndarray
    ids: np.ndarray
    is_condensed: np.ndarray
    reduction: float

    def __len__(self) -> int:
        return len(self.labels)


def forget_mask(bank: Bank, forget_ids: Ids) -> Bool[np.ndarray, " bank"]:
    """Which samples of the bank are named by ``forget_ids``.

    Raises:
        InputError: an id that the bank does not have, or there twice; a mask.
    """
    forget_ids = as_ids("forget_ids", forget_ids)
    mask = np.isin(bank.ids, forget_ids)
    unknown = np.setdiff1d(forget_ids, bank.ids[mask])
    if len(unknown):
        shown = ", ".join(map(str, unknown[:5].tolist())) + (", ..." if len(unknown) > 5 else "")
        raise InputError(
            f"{len(unknown)} id(s) to forget that the bank does not have: {shown}",
            f"ids of the {len(bank.ids)} samples of the bank",
            "Prepare a bank of the training set that holds them, or correct the request",
        )
    return mask


def _draw_members(
    cluster: np.ndarray, eligible: np.ndarray, per_cluster: int, seed: int
) -> np.ndarray:
    """Positions, ascending, of up to ``per_cluster`` eligible samples of each cluster."""
    # One number per sample whether eligible or not: who is drawn in a cluster does not depend on
    # what is forgotten in another.
    lot = np.random.default_rng(seed).random(len(cluster))
    positions = np.flatnonzero(eligible)
    positions = positions[np.lexsort((lot[positions], cluster[positions]))]
    _, first, count = np.unique(cluster[positions], return_index=True, return_counts=True)
    rank = np.arange(len(positions)) - np.repeat(first, count)
    return np.sort(positions[rank < per_cluster])


def _recondensed_images(
    bank: Bank, recondensed: Bank | None, stays: np.ndarray, count: int
) -> np.ndarray:
    """The images of ``recondensed``, one for each of the ``count`` clusters with members left."""
    allowed = f"a bank of the {stays.sum()} retained samples, in {count} clusters"
    remedy = "Make it with condensation.recondense, for the same request"
    if recondensed is None:
        raise InputError("No re-condensed bank with touched='recondense'", allowed, remedy)
    if not np.array_equal(recondensed.ids, bank.ids[stays]) or len(recondensed.images) != count:
        raise InputError(
            f"A re-condensed bank of {len(recondensed.ids)} samples in {len(recondensed.images)} "
            "clusters, made for another request",
            allowed,
            remedy,
        )
    return recondensed.images


def collect(
    bank: Bank,
    dataset: Dataset,
    forget_ids: Ids,
    *,
    touched: Touched = "members",
    recondensed: Bank | None = None,
    weigh_by_size: bool = False,
    real_per_cluster: int = 0,
    stand_in: StandIn = "condensed",
    seed: int = 0,
) -> ReducedRetainSet:
    """The reduced retain set of a request.

    Guarantees: no forgotten id is ever in it. With the default ``touched="members"``, given the
    bank, the pixels and labels of forgotten samples are never read and no condensed image of a
    cluster they belong to is used: changing them changes nothing in the result. With
    ``"recondense"`` that rests on how the caller made ``recondensed``.

    Args:
        bank: clusters and condensed images of the training set.
        dataset: where the pixels of real samples are; must have every sample of the bank that
            is taken as a real one.
        forget_ids: ids to forget.
        touched: what stands for a touched cluster: its remaining ``"members"``, or one
            re-condensed image (``"recondense"``). One with no members left vanishes either way.
        recondensed: for ``"recondense"``, the bank of the retained samples, whose clusters are
            those of ``bank`` with members left, in their order (``condensation.recondense``).
        weigh_by_size: a condensed image counts as many times as the remaining members it stands
            for, so that all weights sum to the size of the retain set; otherwise each row counts
            once.
        real_per_cluster: this many remaining members, drawn at random, are added for each cluster
            that a condensed image stands for. Where that is all of them, the condensed image is
            left out.
        stand_in: what stands for a cluster: its ``"condensed"`` image, or one more ``"member"``
            drawn at random: the control that condensation has to beat, of the same size.
        seed: of that draw.

    Raises:
        InputError: unknown ids, everything forgotten, a re-condensed bank that is missing, given in
            vain or made for another request, a negative ``real_per_cluster``.
    """
    seed = check_seed("seed", seed)
    if touched not in ("members", "recondense"):
        raise unknown_name("treatment of touched clusters", touched, ("members", "recondense"))
    if stand_in not in get_args(StandIn):
        raise unknown_name("stand-in of a cluster", stand_in, get_args(StandIn))
    check_at_least("real_per_cluster", real_per_cluster, 0)
    forget = forget_mask(bank, forget_ids)
    split = collection_protocol(bank.cluster, len(bank.images), forget)

    if touched == "members":
        if recondensed is not None:
            raise InputError(
                "A re-condensed bank with touched='members'",
                "a re-condensed bank with touched='recondense' only",
                "Leave it out, or set touched='recondense'",
            )
        real, clusters = split.survivors, split.condensed
        images = bank.images[clusters]
    else:
        real, clusters = np.empty(0, np.int64), np.flatnonzero(split.remaining)
        images = _recondensed_images(bank, recondensed, ~forget, len(clusters))

    sizes = split.remaining[clusters]
    stands = np.isin(np.arange(len(bank.images)), clusters)[bank.cluster] & ~forget
    drawn = _draw_members(bank.cluster, stands, real_per_cluster, seed)
    if real_per_cluster:
        real = np.sort(np.concatenate([real, drawn]))
        sizes = sizes - np.minimum(sizes, real_per_cluster)
        clusters, images, sizes = clusters[sizes > 0], images[sizes > 0], sizes[sizes > 0]
    shares = sizes if weigh_by_size else np.ones(len(clusters))
    weights = np.ones(len(real))
    if stand_in == "member":
        more = np.setdiff1d(_draw_members(bank.cluster, stands, real_per_cluster + 1, seed), drawn)
        real = np.concatenate([real, more[np.argsort(bank.cluster[more])]])
        weights = np.concatenate([weights, shares])
        clusters, images, shares = clusters[:0], images[:0], shares[:0]

    ids = bank.ids[real]
    at = dataset.positions(ids)
    # Filled in place: a retain set of float32 images is large, and this is on the online clock.
    pixels = np.empty((len(at) + len(images), *images.shape[1:]), np.float32)
    pixels[: len(at)], pixels[len(at) :] = dataset.images[at], images
    return ReducedRetainSet(
        pixels=pixels,
        labels=np.concatenate([dataset.labels[at], bank.labels[clusters]], dtype=np.int32),
        weights=np.concatenate([weights, shares], dtype=np.float32),
        ids=ids,
        is_condensed=np.repeat([False, True], [len(at), len(clusters)]),
        reduction=(len(at) + len(clusters)) / split.retained,
    )

"""Deleting samples from a condensed bank: the result is that of a bank without them."""

from __future__ import annotations

import dataclasses

import numpy as np
from jax.sharding import Mesh

from dcmu_jax.condensation.bank import CondensedBank
from dcmu_jax.condensation.features import FeatureMap, extract
from dcmu_jax.condensation.statistics import feature_sums, means
from dcmu_jax.data.dataset import Dataset
from dcmu_jax.errors import InputError
from dcmu_jax.fast.matching import MatchingConfig, match_clusters
from dcmu_jax.training.classifier import Classifier


def recondense(
    bank: CondensedBank,
    dataset: Dataset,
    classifier: Classifier,
    forget_ids: np.ndarray,
    config: MatchingConfig,
    *,
    warm: bool = True,
    mesh: Mesh | None = None,
) -> CondensedBank:
    """The bank after a deletion: every touched cluster is condensed again from its survivors.

    The survivors of touched clusters pass through the network once more for their mean features;
    the forgotten samples do not. The survivors' weights are scaled to sum to one; then all touched
    clusters are optimised together for ``config.steps``. Untouched clusters stay as they are, bit
    for bit. A cluster without survivors disappears and the ones after it move up. Images of an
    inverted bank that were touched are matched from then on.

    Guarantee: given the network and the clusters, and with ``warm=False``, the clusters that were
    touched are the same bits whatever the pixels of the forgotten samples were, when the bank was
    built and now: nothing of them is left but which cluster they lay in. With ``warm`` the
    survivors' weights are kept, too, which were chosen while the forgotten samples were there.
    Network and k-means clusters themselves have seen them; only a bank of lineage ``clean`` owes
    them nothing at all.

    Args:
        bank: of ``dataset``.
        dataset: the training set the bank was made from.
        classifier: the network the bank was made with.
        forget_ids: ids to forget, distinct, not all.
        config: a few steps do from a warm start.
        warm: start from the survivors' weights; else from ``1/n``.
        mesh: devices that share the clusters; see ``match_clusters``.

    Returns:
        A bank of ``dataset.without(forget_ids)``.

    Raises:
        InputError: the bank is of other data or another network, unknown ids, or nothing would be
            left.
    """
    bank.check(dataset, classifier)
    gone = np.zeros(len(dataset), bool)
    gone[dataset.positions(forget_ids)] = True
    if gone.all():
        raise InputError(
            "A request for every sample", "a request that leaves at least one", "Forget fewer"
        )
    layer = bank.layer or None
    survivors = dataset.take(~gone)
    cluster, weights = bank.cluster[~gone], bank.weights[~gone].copy()
    sizes = np.bincount(cluster, minlength=len(bank.sizes)).astype(np.int32)
    images, before, after = bank.images.copy(), bank.initial_loss.copy(), bank.final_loss.copy()
    sums = bank.feature_sums.copy()

    touched = np.flatnonzero((sizes < bank.sizes) & (sizes > 0))
    at = np.flatnonzero(np.isin(cluster, touched))
    if len(at):
        local = np.searchsorted(touched, cluster[at])
        # Subtracting what the forgotten samples give now would leave a trace of what they gave
        # then: the last bits of a sample's features depend on its place in the batch.
        features = np.asarray(extract(classifier, survivors.images[at], layer), np.float32)
        sums[touched] = feature_sums(features, local, len(touched))
        matched = match_clusters(
            FeatureMap(classifier.model, layer),
            classifier.variables,
            survivors.images[at],
            means(sums[touched], sizes[touched]),
            local,
            classifier.normalisation,
            config,
            weights=_restart(weights[at], local, sizes[touched], warm),
            mesh=mesh,
        )
        weights[at], images[touched] = matched.weights, matched.images
        before[touched], after[touched] = matched.initial_loss, matched.final_loss

    stays = sizes > 0
    return dataclasses.replace(
        bank,
        ids=survivors.ids.astype(np.int64),
        cluster=(np.cumsum(stays) - 1)[cluster].astype(np.int32),
        weights=weights,
        images=images[stays],
        labels=bank.labels[stays],
        sizes=sizes[stays],
        initial_loss=before[stays],
        final_loss=after[stays],
        feature_sums=sums[stays],
        data_fingerprint=survivors.fingerprint(),
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

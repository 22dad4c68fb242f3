"""Building a condensed bank: cluster each class, condense each cluster to one image."""

from __future__ import annotations

import contextlib
import os
from typing import Any

import flax.linen as nn
import numpy as np
from jax.sharding import Mesh

from dcmu_jax.condensation.bank import CondensedBank
from dcmu_jax.condensation.clustering import Clusters, cluster_classes
from dcmu_jax.condensation.features import FeatureMap, extract, features_for
from dcmu_jax.condensation.inversion import InversionConfig, invert_clusters
from dcmu_jax.condensation.lineage import clean_network, clusters_by_id, clusters_by_reference
from dcmu_jax.condensation.own import condensed_by
from dcmu_jax.condensation.statistics import feature_sums, means
from dcmu_jax.data.copies import same_images
from dcmu_jax.data.dataset import Dataset
from dcmu_jax.errors import InputError, check_seed
from dcmu_jax.fast.matching import MatchingConfig, match_clusters
from dcmu_jax.training.classifier import Classifier
from dcmu_jax.training.keys import named_seed

CLEAN = "clean bank"
"""Under this name a run derives the seed of a clean bank, and of the network of its features."""


def feature_network(bank: CondensedBank, original: Classifier, seed: int) -> Classifier:
    """The network whose features a run's bank was made of: the original, or a clean one again.

    Args:
        bank: of that run.
        original: the run's trained network.
        seed: of the unlearning.
    """
    seed = check_seed("seed", seed)
    if bank.lineage == "trained":
        return original
    return clean_network(original.model, original.image_shape, named_seed(seed, CLEAN))


def build_bank(
    dataset: Dataset,
    classifier: Classifier,
    *,
    clusters_per_class: int,
    method: str = "kmeans",
    matching: MatchingConfig | None = None,
    inversion: InversionConfig | None = None,
    own: Any = None,
    layer: str | None = None,
    seed: int = 0,
    mesh: Mesh | None = None,
    scratch: str | os.PathLike[str] | None = None,
) -> CondensedBank:
    """Cluster a training set by class and condense every cluster to one image.

    Guarantee: neither ``scratch`` nor where the images lie changes a bit of the bank. With images
    in a ``numpy.memmap``, ``scratch`` and the method ``minibatch``, memory holds the bank and what
    is worked on (a batch, the clusters of a chunk), never all images or all features.

    Args:
        dataset: the training set, forget candidates and all.
        classifier: the trained network whose features are used, in evaluation mode.
        clusters_per_class: ``K``; a class of fewer samples keeps each sample by itself.
        method: of clustering; see ``cluster_classes``.
        matching: condense by fast distribution matching like this; the paper's when not given.
        inversion: condense by model inversion like this instead.
        own: condense by this condenser of one's own instead, which has all images in
            memory; see ``own_condenser``.
        layer: whose output the features are; see ``FeatureMap``.
        seed: of the clustering, and of inversion. Matching has no randomness.
        mesh: devices that share the clusters; see ``cluster_classes`` and ``match_clusters``.
        scratch: a folder for the features, on disk; see ``features_for``.

    Raises:
        InputError: see ``cluster_classes``; an unknown layer; two condensers given; a folder
            without room for the features.
    """
    seed = check_seed("seed", seed)
    with features_for(classifier, dataset.images, layer, scratch) as features:
        clusters = cluster_classes(
            features, dataset.labels, clusters_per_class, method=method, seed=seed, mesh=mesh
        )
        return condense(
            dataset,
            classifier,
            clusters,
            features,
            matching=matching,
            inversion=inversion,
            own=own,
            layer=layer,
            seed=seed,
            mesh=mesh,
        )


def build_clean_bank(
    dataset: Dataset,
    network: nn.Module | Classifier,
    *,
    clusters_per_class: int,
    reference: Dataset | None = None,
    matching: MatchingConfig | None = None,
    layer: str | None = None,
    seed: int = 0,
    mesh: Mesh | None = None,
    scratch: str | os.PathLike[str] | None = None,
) -> CondensedBank:
    """A bank of lineage ``clean``: see ``dcmu_jax.condensation.lineage``.

    Guarantee: the image, weights and statistics of a cluster are, bit for bit, what they are with
    any other pixels in the samples of other clusters. With a ``reference``, other pixels may take a
    sample to another cluster; the clusters that it neither leaves nor enters keep their members
    and statistics to the bit, and their images up to the rounding of another chunk.

    Args:
        dataset: the training set.
        network: a module, which is initialised at random and normalises by fixed numbers; or a
            network that has never seen a sample of ``dataset``, for which the caller answers.
        clusters_per_class: ``K``.
        reference: images from elsewhere whose centroids make the clusters
            (``clusters_by_reference``); without them ids do (``clusters_by_id``).
        matching: the paper's when not given.
        layer: whose output the features are; see ``FeatureMap``.
        seed: of the network and the clusters.
        mesh: devices that share the clusters; see ``match_clusters``.
        scratch: see ``build_bank``.

    Raises:
        InputError: images in ``reference`` that are also in ``dataset``; see the functions named.
    """
    seed = check_seed("seed", seed)
    if isinstance(network, nn.Module):
        height, width, channels = dataset.images.shape[1:]
        network = clean_network(network, (height, width, channels), seed)
    with contextlib.ExitStack() as held:
        features = held.enter_context(features_for(network, dataset.images, layer, scratch))
        if reference is None:
            clusters = clusters_by_id(dataset.labels, dataset.ids, clusters_per_class, seed=seed)
        else:
            _check_apart(dataset, reference)
            clusters = clusters_by_reference(
                features,
                dataset.labels,
                held.enter_context(features_for(network, reference.images, layer, scratch)),
                reference.labels,
                clusters_per_class,
                seed=seed,
            )
        return condense(
            dataset,
            network,
            clusters,
            features,
            matching=matching,
            layer=layer,
            lineage="clean",
            seed=seed,
            mesh=mesh,
        )


def _check_apart(dataset: Dataset, reference: Dataset) -> None:
    """Raise if an image of the reference is one of the training set, too."""
    shared = int(same_images(reference.images, dataset.images).sum())
    if shared:
        raise InputError(
            f"{shared} of {len(reference)} reference images are in the training set",
            "reference images from elsewhere",
            "Leave them out of the reference",
        )


def condense(
    dataset: Dataset,
    classifier: Classifier,
    clusters: Clusters,
    features: np.ndarray,
    *,
    matching: MatchingConfig | None = None,
    inversion: InversionConfig | None = None,
    own: Any = None,
    layer: str | None = None,
    lineage: str = "trained",
    seed: int = 0,
    mesh: Mesh | None = None,
) -> CondensedBank:
    """The bank of clusters that are known; ``build_bank`` without its first half.

    Args:
        dataset: the training set.
        classifier: gave the features.
        clusters: of ``dataset``, classes apart.
        features: float32 ``(N, D)`` of every sample; read in chunks, may be a ``numpy.memmap``.
        matching: see ``build_bank``.
        inversion: likewise.
        own: likewise.
        layer: likewise.
        lineage: see ``CondensedBank``.
        seed: of inversion.
        mesh: see ``build_bank``.

    Raises:
        InputError: two condensers given; features that are not finite; see ``condensed_by``.
    """
    seed = check_seed("seed", seed)
    if sum(each is not None for each in (matching, inversion, own)) > 1:
        raise InputError("Settings of two condensers", "one of them", "Leave the other out")
    sums = feature_sums(features, clusters.assignment, len(clusters.sizes))
    targets = means(sums, clusters.sizes)
    feature_map = FeatureMap(classifier.model, layer)
    given = feature_map, classifier.variables, dataset.images, targets, clusters.assignment
    # Without steps, matching gives the plain means, and says what they lack.
    start = matching or MatchingConfig(steps=100 if inversion is None and own is None else 0)
    matched = match_clusters(*given, classifier.normalisation, start, mesh=mesh)
    images, final_loss = matched.images, matched.final_loss
    if inversion is not None:
        images = invert_clusters(
            classifier, matched.images, clusters.labels, clusters.sizes, inversion, seed=seed
        ).images
    if own is not None:
        images = condensed_by(own, classifier, dataset, clusters)
    if inversion is not None or own is not None:
        lacking = extract(classifier, images, layer) - targets
        final_loss = np.sum(lacking**2, axis=1).astype(np.float32)
    return CondensedBank(
        ids=dataset.ids.astype(np.int64),
        cluster=clusters.assignment,
        weights=matched.weights,
        images=images,
        labels=clusters.labels,
        sizes=clusters.sizes,
        initial_loss=matched.initial_loss,
        final_loss=final_loss,
        feature_sums=sums,
        layer=layer or "",
        lineage=lineage,
        data_fingerprint=dataset.fingerprint(),
        model_fingerprint=classifier.fingerprint(),
    )

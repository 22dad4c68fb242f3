"""The paper's two condensers as baselines: cluster each class, condense each cluster."""

from __future__ import annotations

import dataclasses
from typing import Any

from dcmu_jax.condensation.building import build_bank
from dcmu_jax.condensation.clustering import ClusterMethod
from dcmu_jax.condensation.condenser import (
    CondensedImages,
    Condenser,
    Given,
    network_or_convnet,
)
from dcmu_jax.condensation.inversion import InversionConfig
from dcmu_jax.errors import InputError
from dcmu_jax.fast.matching import MatchingConfig
from dcmu_jax.training.classifier import Classifier


@dataclasses.dataclass(frozen=True)
class FastDistributionMatching(Condenser):
    """One weighted image per cluster (paper, Algorithm 2), in the features of ``classifier``.

    Without a classifier, in those of an untrained ``convnet``.

    Attributes:
        method: of clustering; see ``cluster_classes``.
        matching: the paper's Adam by default.
    """

    method: ClusterMethod = "kmeans"
    matching: MatchingConfig = MatchingConfig()

    def _condense(self, given: Given) -> CondensedImages:
        network = network_or_convnet(given.dataset, given.classifier, given.seed)
        return _images(given, network, method=self.method, matching=self.matching)


@dataclasses.dataclass(frozen=True)
class ModelInversion(Condenser):
    """One image per cluster drawn by an InverterNet (paper, Algorithm 3) for ``classifier``.

    The classifier must be given, and be trained: its judgement is half of the loss.

    Attributes:
        method: of clustering; see ``cluster_classes``.
        inversion: the settings.
    """

    method: ClusterMethod = "kmeans"
    inversion: InversionConfig = InversionConfig()

    def _condense(self, given: Given) -> CondensedImages:
        if given.classifier is None:
            raise InputError(
                "Model inversion without a model", "a trained classifier", "Pass classifier="
            )
        return _images(given, given.classifier, method=self.method, inversion=self.inversion)


def _images(given: Given, network: Classifier, **settings: Any) -> CondensedImages:
    """Those of a bank with as many clusters of each class as images are wanted."""
    count = given.images_per_class
    bank = build_bank(given.dataset, network, clusters_per_class=count, seed=given.seed, **settings)
    return CondensedImages(bank.images, bank.labels)

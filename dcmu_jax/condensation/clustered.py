"""The paper's two condensers as baselines: cluster each class, condense each cluster."""

from __future__ import annotations

import dataclasses

from dcmu_jax.condensation.building import build_bank
from dcmu_jax.condensation.clustering import ClusterMethod
from dcmu_jax.condensation.condenser import (
    CondensedImages,
    classes_to_condense,
    network_or_convnet,
)
from dcmu_jax.condensation.inversion import InversionConfig
from dcmu_jax.condensation.matching import MatchingConfig
from dcmu_jax.data.dataset import Dataset
from dcmu_jax.errors import InputError, check_seed
from dcmu_jax.training.classifier import Classifier


@dataclasses.dataclass(frozen=True)
class FastDistributionMatching:
    """One weighted image per cluster (paper, Algorithm 2), in the features of ``classifier``.

    Without a classifier, in those of an untrained ``convnet``.

    Attributes:
        method: of clustering; see ``cluster_classes``.
        matching: the paper's Adam by default.
    """

    method: ClusterMethod = "kmeans"
    matching: MatchingConfig = MatchingConfig()

    def __call__(
        self,
        dataset: Dataset,
        images_per_class: int,
        *,
        classifier: Classifier | None = None,
        seed: int = 0,
    ) -> CondensedImages:
        """See ``Condenser``."""
        seed = check_seed("seed", seed)
        classes_to_condense(dataset, images_per_class)
        bank = build_bank(
            dataset,
            network_or_convnet(dataset, classifier, seed),
            clusters_per_class=images_per_class,
            method=self.method,
            matching=self.matching,
            seed=seed,
        )
        return CondensedImages(bank.images, bank.labels)


@dataclasses.dataclass(frozen=True)
class ModelInversion:
    """One image per cluster drawn by an InverterNet (paper, Algorithm 3) for ``classifier``.

    The classifier must be given, and be trained: its judgement is half of the loss.

    Attributes:
        method: of clustering; see ``cluster_classes``.
        inversion: the settings.
    """

    method: ClusterMethod = "kmeans"
    inversion: InversionConfig = InversionConfig()

    def __call__(
        self,
        dataset: Dataset,
        images_per_class: int,
        *,
        classifier: Classifier | None = None,
        seed: int = 0,
    ) -> CondensedImages:
        """See ``Condenser``."""
        seed = check_seed("seed", seed)
        classes_to_condense(dataset, images_per_class)
        if classifier is None:
            raise InputError(
                "Model inversion without a model", "a trained classifier", "Pass classifier="
            )
        bank = build_bank(
            dataset,
            classifier,
            clusters_per_class=images_per_class,
            method=self.method,
            inversion=self.inversion,
            seed=seed,
        )
        return CondensedImages(bank.images, bank.labels)

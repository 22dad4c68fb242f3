"""Dataset condensation: clusters of each class, one condensed image per cluster, the bank."""

from dcmu_jax.condensation.bank import CondensedBank
from dcmu_jax.condensation.building import build_bank, build_clean_bank, condense
from dcmu_jax.condensation.clustering import ClusterMethod, Clusters, cluster_classes
from dcmu_jax.condensation.deletion import recondense
from dcmu_jax.condensation.features import FeatureMap, extract, layer_names
from dcmu_jax.condensation.statistics import cluster_means
from dcmu_jax.fast.matching import (
    Matched,
    MatchingConfig,
    match_clusters,
)

__all__ = [
    "ClusterMethod",
    "Clusters",
    "CondensedBank",
    "FeatureMap",
    "Matched",
    "MatchingConfig",
    "build_bank",
    "build_clean_bank",
    "cluster_classes",
    "cluster_means",
    "condense",
    "extract",
    "layer_names",
    "match_clusters",
    "recondense",
]

"""Dataset condensation: clusters of each class, one condensed image per cluster, the bank."""

from dcmu_jax.condensation.bank import CondensedBank, FeatureMap, build_bank, recondense
from dcmu_jax.condensation.clustering import ClusterMethod, Clusters, cluster_classes
from dcmu_jax.condensation.matching import (
    Matched,
    MatchingConfig,
    combine,
    match_clusters,
    match_one_cluster,
)

__all__ = [
    "ClusterMethod",
    "Clusters",
    "CondensedBank",
    "FeatureMap",
    "Matched",
    "MatchingConfig",
    "build_bank",
    "cluster_classes",
    "combine",
    "match_clusters",
    "match_one_cluster",
    "recondense",
]

"""What can be computed before anything is trained: expected sizes and the best cluster count."""

from dcmu_jax.theory.reduction import (
    best_cluster_size,
    best_clusters_per_class,
    class_reduction,
    expected_reduced_size,
    expected_reduction,
    expected_reduction_equal,
    untouched_probability,
)

__all__ = [
    "best_cluster_size",
    "best_clusters_per_class",
    "class_reduction",
    "expected_reduced_size",
    "expected_reduction",
    "expected_reduction_equal",
    "untouched_probability",
]

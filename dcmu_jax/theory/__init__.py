"""What can be computed before anything is trained: expected sizes and the best cluster count."""

from dcmu_jax.theory.break_even import (
    cluster_counts_below,
    largest_fraction,
    most_forgotten,
    saves_in_expectation,
)
from dcmu_jax.theory.coverage import expected_draws_equal, expected_draws_until_touched
from dcmu_jax.theory.reduction import (
    best_cluster_size,
    best_clusters_per_class,
    class_reduction,
    expected_reduced_size,
    expected_reduction,
    expected_reduction_equal,
    reduced_size_variance,
    reduced_size_variance_equal,
    untouched_probability,
)
from dcmu_jax.theory.simulation import draw_forgotten, simulate_reduced_size, unequal_sizes

__all__ = [
    "best_cluster_size",
    "best_clusters_per_class",
    "class_reduction",
    "cluster_counts_below",
    "draw_forgotten",
    "expected_draws_equal",
    "expected_draws_until_touched",
    "expected_reduced_size",
    "expected_reduction",
    "expected_reduction_equal",
    "largest_fraction",
    "most_forgotten",
    "reduced_size_variance",
    "reduced_size_variance_equal",
    "saves_in_expectation",
    "simulate_reduced_size",
    "unequal_sizes",
    "untouched_probability",
]

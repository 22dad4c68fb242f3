"""What is kept of each cluster's features: sums in whole numbers, so that subtracting is exact."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from dcmu_jax.errors import InputError

UNIT = 2.0**-24
"""Features are rounded to whole multiples of this before they are added up."""

_LARGEST = 2.0**62 * UNIT
_BLOCK = 2048


def feature_sums(
    features: Float[np.ndarray, "samples dim"],
    cluster: Int[np.ndarray, " samples"],
    num_clusters: int,
) -> Int[np.ndarray, "clusters dim"]:
    """The sum of the features of each cluster, int64, in units of ``UNIT``.

    Guarantee: what is added can be subtracted again without a trace, whatever it was, which sums
    in floating point do not allow. Rounding costs at most 3e-8 for each feature.

    Args:
        features: finite.
        cluster: numbers within ``0..num_clusters-1``; clusters without samples sum to 0.
        num_clusters: ``B``.

    Raises:
        InputError: features that are not finite, or so large that the sums could overflow.
    """
    sums = np.zeros((num_clusters, features.shape[1]), np.int64)
    if len(features) == 0:
        return sums
    bound = float(np.abs(features).max()) * len(features)
    if not bound < _LARGEST:  # NaN fails this, too
        raise InputError(
            f"Features as large as {np.abs(features).max()} of {len(features)} samples",
            f"finite numbers whose sum stays below {_LARGEST:.0e}",
            "Check that the model's training did not diverge",
        )
    order = np.argsort(cluster, kind="stable")
    for low in range(0, len(order), _BLOCK):
        at = order[low : low + _BLOCK]
        numbers, first = np.unique(cluster[at], return_index=True)
        whole = np.rint(features[at].astype(np.float64) / UNIT).astype(np.int64)
        sums[numbers] += np.add.reduceat(whole, first, axis=0)
    return sums


def means(
    sums: Int[np.ndarray, "clusters dim"], sizes: Int[np.ndarray, " clusters"]
) -> Float[np.ndarray, "clusters dim"]:
    """Mean features float32 of clusters of ``sizes`` samples; none may be empty."""
    return (sums * (UNIT / sizes[:, None])).astype(np.float32)


def cluster_means(
    features: Float[np.ndarray, "samples dim"], cluster: Int[np.ndarray, " samples"]
) -> Float[np.ndarray, "clusters dim"]:
    """Mean features float32 of each of the clusters ``0..B-1``, none of them empty."""
    sizes = np.bincount(cluster)
    return means(feature_sums(features, cluster, len(sizes)), sizes)

r"""Expected size of the reduced retain set, and the number of clusters that makes it smallest.

``B`` clusters of sizes :math:`m_j`, :math:`\sum_j m_j = N`; of the ``N`` samples, ``N_F`` are
forgotten, drawn uniformly without replacement; :math:`N_R = N - N_F`. A touched cluster puts its
:math:`m_j - F_j` survivors into the reduced set, an untouched one a single image instead of
:math:`m_j`, so on every draw, with :math:`I_j` = [cluster ``j`` is untouched],

.. math:: N_r = N_R - \sum_j I_j (m_j - 1).

Its mean follows from the hypergeometric probability of being untouched. (The paper's equations
(34) to (44) treat the same quantity; those here are derived independently of them.)
"""

from __future__ import annotations

import math

import numpy as np
from scipy.special import gammaln

from dcmu_jax.errors import InputError, check_at_least, check_fraction


def untouched_probability(
    sizes: np.ndarray | int, num_samples: int, num_forgotten: int
) -> np.ndarray:
    r"""Probability that none of a cluster's samples is forgotten.

    :math:`p(m) = \binom{N-m}{N_F} / \binom{N}{N_F}`, exact for uniform draws without replacement.

    Args:
        sizes: cluster sizes ``m``, each within ``0..num_samples``; any shape.
        num_samples: ``N``.
        num_forgotten: ``N_F``, within ``0..N``.

    Returns:
        float64 of the shape of ``sizes``.
    """
    m = np.asarray(sizes, np.float64)
    room = num_samples - m - num_forgotten  # below 0: the forgotten cannot all lie elsewhere
    safe = np.maximum(room, 0)
    log_p = (
        gammaln(num_samples - m + 1)
        - gammaln(safe + 1)
        - gammaln(num_samples + 1)
        + gammaln(num_samples - num_forgotten + 1)
    )
    return np.where(room < 0, 0.0, np.exp(np.minimum(log_p, 0.0)))


def expected_reduced_size(sizes: np.ndarray, num_forgotten: int) -> float:
    r"""Exact :math:`E[N_r] = N_R - \sum_j (m_j - 1)\,p(m_j)` for given cluster sizes.

    Args:
        sizes: integers ``(B,)``, at least 1 each; they sum to ``N``.
        num_forgotten: ``N_F``, within ``1..N-1``.

    Raises:
        InputError: an empty cluster, or a number of forgotten samples that leaves no retain set.

    >>> round(expected_reduced_size(np.full(5000, 10), 5000) / 45000, 4)
    0.6514
    """
    sizes = np.asarray(sizes)
    if sizes.size == 0 or sizes.min() < 1:
        raise InputError(
            f"Cluster sizes {sizes.tolist()[:10]}",
            "one or more clusters of at least one sample",
            "Drop the empty clusters",
        )
    total = int(sizes.sum())
    if not 1 <= num_forgotten < total:
        raise InputError(
            f"num_forgotten = {num_forgotten!r} of {total} samples",
            f"1 to {total - 1}",
            "Forget at least one sample and keep at least one",
        )
    p = untouched_probability(sizes, total, num_forgotten)
    return float(total - num_forgotten - np.sum((sizes - 1) * p))


def expected_reduction(sizes: np.ndarray, num_forgotten: int) -> float:
    r"""Exact :math:`E[\eta] = E[N_r] / N_R` for given cluster sizes; see there."""
    retained = int(np.sum(sizes)) - num_forgotten
    return expected_reduced_size(sizes, num_forgotten) / retained


def expected_reduction_equal(num_samples: int, num_clusters: int, num_forgotten: int) -> float:
    r"""Expected reduction for clusters of one size ``m = N / B``, which need not be whole.

    :math:`\eta = 1 - (N - B)\,p(m) / N_R`.

    Args:
        num_samples: ``N``.
        num_clusters: ``B``, within ``1..N``.
        num_forgotten: ``N_F``, within ``1..N-1``.

    >>> round(expected_reduction_equal(50_000, 10_000, 5_000), 3)
    0.475
    """
    check_at_least("num_clusters", num_clusters, 1)
    check_at_least("num_samples", num_samples, num_clusters)
    check_at_least("num_forgotten", num_forgotten, 1)
    check_at_least("num_samples", num_samples, num_forgotten + 1)
    p = untouched_probability(np.asarray(num_samples / num_clusters), num_samples, num_forgotten)
    return float(1 - (num_samples - num_clusters) * p / (num_samples - num_forgotten))


def class_reduction(clusters_per_class: int, samples_per_class: int) -> float:
    """Reduction when one class is forgotten whole: exactly ``K / n``.

    All its clusters are emptied and every other one is untouched, so the reduced set holds
    nothing but condensed images. (For classes of equal size.)
    """
    check_at_least("clusters_per_class", clusters_per_class, 1)
    check_at_least("samples_per_class", samples_per_class, clusters_per_class)
    return clusters_per_class / samples_per_class


def best_cluster_size(fraction: float) -> float:
    r"""Cluster size with the smallest expected reduction when ``fraction`` is forgotten at random.

    Maximises :math:`(1 - 1/m)(1-f)^m`, the saving for ``m`` much smaller than ``N_R``:
    :math:`m^* = \tfrac12 (1 + \sqrt{1 + 4/\lambda})`, :math:`\lambda = -\ln(1-f)`.

    Raises:
        InputError: ``fraction`` is not strictly between 0 and 1.

    >>> round(best_cluster_size(0.1), 1)
    3.6
    """
    check_fraction("fraction", fraction)
    return 0.5 * (1 + math.sqrt(1 - 4 / math.log1p(-fraction)))


def best_clusters_per_class(samples_per_class: int, fraction: float) -> int:
    """Number of clusters per class with the smallest expected reduction.

    Args:
        samples_per_class: ``n``, at least 1.
        fraction: share of the training set to be forgotten at random, in (0, 1).

    Returns:
        ``n / best_cluster_size(fraction)``, rounded, within ``1..n``.

    >>> [best_clusters_per_class(5000, f) for f in (0.001, 0.01, 0.1)]
    [156, 477, 1381]
    """
    check_at_least("samples_per_class", samples_per_class, 1)
    clusters = round(samples_per_class / best_cluster_size(fraction))
    return min(max(clusters, 1), samples_per_class)

r"""Size of the reduced retain set: mean, variance, and the number of clusters that minimises it.

``B`` clusters of sizes :math:`m_j`, :math:`\sum_j m_j = N`; of the ``N`` samples, ``N_F`` are
forgotten, drawn uniformly without replacement; :math:`N_R = N - N_F`. A touched cluster puts its
:math:`m_j - F_j` survivors into the reduced set, an untouched one a single image instead of
:math:`m_j`, so on every draw, with :math:`I_j` = [cluster ``j`` is untouched],

.. math:: N_r = N_R - \sum_j I_j (m_j - 1).

Mean and variance follow from the hypergeometric probability :math:`p(m)` that a cluster is
untouched, for two clusters are both untouched with probability :math:`p(m_j + m_k)`. (The paper's
equations (34) to (44) treat the same quantity; those here are derived independently of them, and
``core.reduction`` sets one beside the other.)
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
    log_p = _log_untouched(np.asarray(sizes, np.float64), num_samples, num_forgotten)
    return np.asarray(np.exp(log_p))


def _log_untouched(m: np.ndarray, num_samples: int, num_forgotten: int) -> np.ndarray:
    room = num_samples - m - num_forgotten  # below 0: the forgotten cannot all lie elsewhere
    log_p = (
        gammaln(np.maximum(num_samples - m, 0) + 1)
        - gammaln(np.maximum(room, 0) + 1)
        - gammaln(num_samples + 1)
        + gammaln(num_samples - num_forgotten + 1)
    )
    return np.where(room < 0, -np.inf, np.minimum(log_p, 0.0))


def checked_sizes(sizes: np.ndarray, num_forgotten: int) -> tuple[np.ndarray, int]:
    """The sizes as int64 and their sum ``N``, or the error for what cannot be divided so."""
    sizes, total = _whole(sizes)
    if not 1 <= num_forgotten < total:
        raise InputError(
            f"num_forgotten = {num_forgotten!r} of {total} samples",
            f"1 to {total - 1}",
            "Forget at least one sample and keep at least one",
        )
    return sizes, total


def _whole(sizes: np.ndarray) -> tuple[np.ndarray, int]:
    """Cluster sizes as int64, in which the sum of two does not wrap as in uint8, and their sum."""
    try:
        array = np.asarray(sizes)
    except (ValueError, TypeError, OverflowError):  # rows of several lengths, for one
        array = np.empty(0)
    whole = array.ndim == 1 and array.size > 0 and array.dtype.kind in "iu"
    if not whole or array.min() < 1 or array.sum(dtype=np.float64) >= 2**53:
        shown = array.tolist() if array.size else sizes
        raise InputError(
            f"Cluster sizes {str(shown)[:60]}",
            "one row of integers, at least one sample in each and fewer than 2**53 in all",
            "Drop the empty clusters; pass sizes.astype(int) if they are whole numbers",
        )
    array = array.astype(np.int64)
    return array, int(array.sum())


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
    sizes, total = checked_sizes(sizes, num_forgotten)
    p = untouched_probability(sizes, total, num_forgotten)
    return float(total - num_forgotten - np.sum((sizes - 1) * p))


def expected_reduction(sizes: np.ndarray, num_forgotten: int) -> float:
    r"""Exact :math:`E[\eta] = E[N_r] / N_R` for given cluster sizes; see there."""
    sizes, total = checked_sizes(sizes, num_forgotten)
    return expected_reduced_size(sizes, num_forgotten) / (total - num_forgotten)


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
    _check_equal(num_samples, num_clusters, num_forgotten)
    p = untouched_probability(np.asarray(num_samples / num_clusters), num_samples, num_forgotten)
    return float(1 - (num_samples - num_clusters) * p / (num_samples - num_forgotten))


def reduced_size_variance(sizes: np.ndarray, num_forgotten: int) -> float:
    r"""Exact :math:`\mathrm{Var}[N_r]` for given cluster sizes.

    :math:`\sum_j (m_j-1)^2 p_j (1-p_j) + \sum_{j \ne k} (m_j-1)(m_k-1) [p(m_j+m_k) - p_j p_k]`,
    summed over pairs of distinct sizes: time and memory grow with the square of their number,
    which is at most :math:`\sqrt{2N}`.

    Args:
        sizes: integers ``(B,)``, at least 1 each; they sum to ``N``.
        num_forgotten: ``N_F``, within ``1..N-1``.

    Raises:
        InputError: as ``expected_reduced_size``.

    >>> round(reduced_size_variance(np.full(5000, 10), 5000) ** 0.5)
    193
    """
    sizes, total = checked_sizes(sizes, num_forgotten)
    m, count = np.unique(sizes, return_counts=True)
    # log p as a sum of logarithms: each is exact, where a difference of log-gammas of N is not.
    steps = np.arange(min(2 * int(m[-1]), total - num_forgotten))
    table = np.log1p(-num_forgotten / (total - steps))
    log_p = np.concatenate([[0.0], np.cumsum(table)])

    def log_untouched(n):
        return np.where(n < len(log_p), log_p[np.minimum(n, len(log_p) - 1)], -np.inf)

    possible = m <= total - num_forgotten  # the others are always touched
    m, count = m[possible], count[possible].astype(np.float64)
    return _variance(
        m.astype(np.float64), count, log_untouched(m), log_untouched(m[:, None] + m[None])
    )


def _variance(m: np.ndarray, count: np.ndarray, log_p: np.ndarray, log_both: np.ndarray) -> float:
    """The variance from distinct sizes, their numbers, log p of each and of each pair."""
    saved = (m - 1) * np.exp(log_p)
    # p(a + b) - p(a) p(b), without the loss of digits of a difference of near numbers.
    covariance = np.expm1(log_both - log_p[:, None] - log_p[None]) * saved[:, None] * saved[None]
    pairs = count[:, None] * count[None] - np.diag(count)
    own = count * (m - 1) * saved * -np.expm1(log_p)
    return float(max(np.sum(own) + np.sum(pairs * covariance), 0.0))


def reduced_size_variance_equal(num_samples: int, num_clusters: int, num_forgotten: int) -> float:
    r"""The same for clusters of one size ``m = N / B``, which need not be whole.

    :math:`(m-1)^2 [B\,p(m)(1-p(m)) + B(B-1)(p(2m) - p(m)^2)]`; arguments and errors as
    ``expected_reduction_equal``.

    >>> round(reduced_size_variance_equal(50_000, 5000, 5000) ** 0.5)
    193
    """
    _check_equal(num_samples, num_clusters, num_forgotten)
    m = np.array([num_samples / num_clusters])
    if m[0] > num_samples - num_forgotten:  # always touched
        return 0.0
    log_p = _log_untouched(m, num_samples, num_forgotten)
    log_both = _log_untouched(2 * m, num_samples, num_forgotten)[None]
    return _variance(m, np.array([float(num_clusters)]), log_p, log_both)


def _check_equal(num_samples: int, num_clusters: int, num_forgotten: int) -> None:
    check_at_least("num_clusters", num_clusters, 1)
    check_at_least("num_samples", num_samples, num_clusters)
    check_at_least("num_forgotten", num_forgotten, 1)
    check_at_least("num_samples", num_samples, num_forgotten + 1)


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

"""How many samples must be forgotten, one after another, until every cluster is touched."""

from __future__ import annotations

import numpy as np
from jaxtyping import Integer
from scipy.integrate import quad

from dcmu_jax.errors import check_at_least
from dcmu_jax.theory.reduction import checked_sizes


def expected_draws_equal(num_samples: int, num_clusters: int) -> float:
    r"""The same for clusters of one size ``m = N / B``, which need not be whole.

    :math:`(N + 1) (1 - \prod_{j=1}^{B} jm / (jm + 1))`.

    Raises:
        InputError: no cluster, or more clusters than samples.

    >>> round(expected_draws_equal(50_000, 5000))
    29705
    """
    check_at_least("num_clusters", num_clusters, 1)
    check_at_least("num_samples", num_samples, num_clusters)
    ratio = num_clusters / num_samples
    log_product = -np.sum(np.log1p(ratio / np.arange(1, num_clusters + 1)))
    return float((num_samples + 1) * -np.expm1(log_product))


def expected_draws_until_touched(sizes: Integer[np.ndarray, " clusters"]) -> float:
    r"""Exact expected number of draws without replacement until every cluster is touched.

    Give every sample an independent uniform number and draw in their order. A cluster's least
    number exceeds ``u`` with probability :math:`(1-u)^{m_j}`, and the ``k``-th of ``N`` uniform
    numbers is :math:`k / (N+1)` on average, so the expectation is

    .. math:: (N + 1) \int_0^1 1 - \prod_j (1 - v^{m_j}) \, dv.

    (The paper's (42) draws with replacement.)

    Args:
        sizes: of the clusters, at least 1 each; two samples or more in all.

    Returns:
        Within ``B..N``; the integral is taken to a relative error of 1e-9.

    Raises:
        InputError: an empty cluster, or fewer than two samples.

    >>> round(expected_draws_until_touched(np.array([1, 9])), 1)
    5.6
    """
    sizes, total = checked_sizes(sizes, 1)
    m, count = np.unique(sizes, return_counts=True)
    if len(m) == 1:
        return expected_draws_equal(total, len(sizes))
    # v = exp(-t / least size): the integrand falls off where t exceeds log(B), whatever the sizes.
    least = int(m[0])
    share = m / least

    def missed(t):
        with np.errstate(divide="ignore"):  # at t = 0 some cluster is surely missed
            log_all = np.sum(count * np.log1p(-np.exp(-t * share)))
        return -np.expm1(log_all) * np.exp(-t / least) / least

    end = np.log(len(sizes)) + 40
    middle = min(np.log(len(sizes)), 39.0)
    parts = [
        quad(missed, *ends, epsrel=1e-10, epsabs=0, limit=500)[0]
        for ends in ((0, middle), (middle, end))
        if ends[1] > ends[0]
    ]
    return float((total + 1) * sum(parts))

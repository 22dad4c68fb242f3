r"""When reduction pays: how much may be forgotten, and with which clusters, below a cost ratio.

The online phase costs in proportion to the reduced retain set. If it made as many steps per
sample as its baseline it would pay at any :math:`\eta < 1`; if it needs ``k`` times as many, it
pays below the ratio ``1/k``. On a draw, :math:`\eta < 1` if and only if some untouched cluster has
two members or more; so :math:`E[\eta] < 1` if and only if such a cluster can stay untouched.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Integer
from scipy.optimize import root_scalar

from dcmu_jax.errors import check_at_least, check_fraction
from dcmu_jax.theory.reduction import (
    best_cluster_size,
    checked_sizes,
    expected_reduction,
    untouched_probability,
)


def saves_in_expectation(sizes: Integer[np.ndarray, " clusters"], num_forgotten: int) -> bool:
    """Whether the expected reduction is below 1 at all, without rounding.

    Args:
        sizes: of the clusters, at least 1 each; they sum to ``N``.
        num_forgotten: ``N_F``, within ``1..N-1``.

    >>> saves_in_expectation(np.array([1, 1, 5]), 3), saves_in_expectation(np.array([1, 1, 5]), 2)
    (False, True)
    """
    sizes, total = checked_sizes(sizes, num_forgotten)
    return bool(np.any((sizes >= 2) & (sizes <= total - num_forgotten)))


def most_forgotten(sizes: Integer[np.ndarray, " clusters"], cost_ratio: float) -> int:
    """The largest number of forgotten samples whose expected reduction is below ``cost_ratio``.

    The expected reduction grows with that number, so every smaller one pays too.

    Args:
        sizes: of the clusters, at least 1 each.
        cost_ratio: reduction at which the online phase costs as much as its baseline, in (0, 1).

    Returns:
        0 if not even one sample can be forgotten below that ratio.

    Raises:
        InputError: a ratio outside (0, 1), an empty cluster, or fewer than two samples.

    >>> most_forgotten(np.full(4500, 11), 0.7)  # of 49,500 samples
    5194
    """
    check_fraction("cost_ratio", cost_ratio)
    sizes, high = checked_sizes(sizes, 1)  # `high` does not pay
    low = 0  # pays, or is 0
    while high - low > 1:
        middle = (low + high) // 2
        if expected_reduction(sizes, middle) < cost_ratio:
            low = middle
        else:
            high = middle
    return low


def cluster_counts_below(
    num_samples: int, num_forgotten: int, cost_ratio: float
) -> tuple[int, int] | None:
    """The numbers of equal clusters whose expected reduction is below ``cost_ratio``.

    They are an interval, since the logarithm of what is saved is concave in the cluster size.

    Args:
        num_samples: ``N``.
        num_forgotten: ``N_F``, within ``1..N-1``.
        cost_ratio: as for ``most_forgotten``.

    Returns:
        The fewest and the most clusters (of all classes together), ``None`` where none will do.

    Raises:
        InputError: a ratio outside (0, 1), or nothing forgotten or retained.

    >>> cluster_counts_below(50_000, 5000, 0.7)
    (4323, 34255)
    """
    check_fraction("cost_ratio", cost_ratio)
    check_at_least("num_forgotten", num_forgotten, 1)
    check_at_least("num_samples", num_samples, num_forgotten + 1)
    clusters = np.arange(1, num_samples + 1)
    p = untouched_probability(num_samples / clusters, num_samples, num_forgotten)
    reduction = 1 - (num_samples - clusters) * p / (num_samples - num_forgotten)
    below = clusters[reduction < cost_ratio]
    return (int(below[0]), int(below[-1])) if len(below) else None


def largest_fraction(cost_ratio: float) -> float:
    r"""Share of a large training set above which no cluster size gets below ``cost_ratio``.

    Solves :math:`1 - (1 - 1/m^*)(1-f)^{m^*-1} = r` for ``f``, with :math:`m^*` the best size.

    Raises:
        InputError: ``cost_ratio`` is not strictly between 0 and 1.

    >>> round(largest_fraction(0.745), 2)
    0.5
    """
    check_fraction("cost_ratio", cost_ratio)

    def excess(fraction):
        m = best_cluster_size(fraction)
        return 1 - (1 - 1 / m) * (1 - fraction) ** (m - 1) - cost_ratio

    tiny = 1e-12
    if excess(tiny) > 0:
        return 0.0
    if excess(1 - tiny) < 0:
        return 1.0
    return root_scalar(excess, bracket=(tiny, 1 - tiny), xtol=tiny).root

r"""The paper's equations (1), (2) and (33) to (44) as printed, each beside the corrected one.

They assume clusters of one size ``m = N_D / cK`` and a forget set drawn uniformly. Nothing else in
the package uses the printed ones: they are here so that what differs can be computed. Where the
text prints an order term, its argument is returned, so that it can be compared at all. References
between the printed equations are one too high throughout ("equation (35)" is (34)); ``j`` in an
exponent of (39) and (40) is read as ``m``, the index of the sum it stands in.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np

from dcmu_jax.errors import check_at_least
from dcmu_jax.theory.coverage import expected_draws_equal
from dcmu_jax.theory.reduction import expected_reduction_equal, untouched_probability


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
    """What the equations speak of.

    Attributes:
        num_samples: ``N_D``.
        num_classes: ``c``.
        clusters_per_class: ``K``.
        num_forgotten: ``N_F``, within ``1..N_D - 1``.
    """

    num_samples: int
    num_classes: int
    clusters_per_class: int
    num_forgotten: int

    def __post_init__(self):
        check_at_least("clusters_per_class", self.clusters_per_class, 1)
        check_at_least("num_classes", self.num_classes, 1)
        check_at_least("num_samples", self.num_samples, self.clusters)
        check_at_least("num_forgotten", self.num_forgotten, 1)
        check_at_least("num_samples", self.num_samples, self.num_forgotten + 1)

    @property
    def clusters(self) -> int:
        """``cK``."""
        return self.num_classes * self.clusters_per_class

    @property
    def size(self) -> float:
        """``m = N_D / cK``, which need not be whole."""
        return self.num_samples / self.clusters

    @property
    def num_retained(self) -> int:
        """``N_R``."""
        return self.num_samples - self.num_forgotten


# The corrected quantities.


def _missed(s: Setting) -> float:
    """Probability that a cluster is untouched, without replacement."""
    return float(untouched_probability(np.asarray(s.size), s.num_samples, s.num_forgotten))


def untouched_clusters(s: Setting) -> float:
    r"""Exact :math:`E[T_1] = cK\,p(m)`: the clusters without a forgotten sample."""
    return s.clusters * _missed(s)


def touched_retained(s: Setting) -> float:
    r"""Exact :math:`E[T_2] = N_R - N_D\,p(m)`: the retained samples of touched clusters."""
    return s.num_retained - s.num_samples * _missed(s)


def touched_retained_bound(s: Setting) -> float:
    r"""What holds of (36): :math:`T_2 \le N_F (m - 1)` on every draw.

    Every touched cluster has a forgotten sample, and at most ``m - 1`` retained ones. It says
    nothing once it exceeds ``N_R``.
    """
    return s.num_forgotten * (s.size - 1)


def reduced_size(s: Setting) -> float:
    r"""Exact :math:`E[N_r] = N_R - (N_D - cK)\,p(m)`."""
    return s.num_retained * reduction(s)


def reduction(s: Setting) -> float:
    r"""Exact :math:`E[\eta] = 1 - (N_D - cK)\,p(m) / N_R`."""
    return expected_reduction_equal(s.num_samples, s.clusters, s.num_forgotten)


def draws_until_touched(s: Setting) -> float:
    """Exact expected number of forgotten samples that first touches every cluster."""
    return expected_draws_equal(s.num_samples, s.clusters)


def saves(s: Setting) -> bool:
    r"""Whether :math:`E[\eta] < 1`: clusters of two or more, that can stay untouched."""
    return s.clusters < s.num_samples and s.size <= s.num_retained


# The printed ones.


def _others(s: Setting, forgotten_in_cluster: float) -> float:
    r"""The inner sum of (34): the mean of :math:`m - 1 - \mathrm{Bin}(|\phi| - 1, 1/cK)`."""
    return s.size - 1 - (forgotten_in_cluster - 1) / s.clusters


def equation_33(s: Setting) -> float:
    r""":math:`N_r = T_1 + T_2`. Right; here with the exact means of both."""
    return untouched_clusters(s) + touched_retained(s)


def equation_34(s: Setting) -> float:
    r"""``T_2`` as a sum over forgotten samples. Wrong in two ways.

    The number of further forgotten samples in the cluster of a given one is hypergeometric
    (``N_F - 1`` draws, ``m - 1`` of ``N_D - 1``), not binomial with ``|φ| - 1`` trials of
    probability ``1/cK``; and a cluster with several forgotten samples is counted once for each.
    Returned is the exact mean of the printed sum over draws: it is linear in ``|φ|``, whose mean,
    seen from a forgotten sample, is ``1 + (N_F - 1)(m - 1) / (N_D - 1)``.
    """
    seen = 1 + (s.num_forgotten - 1) * (s.size - 1) / (s.num_samples - 1)
    return s.num_forgotten * _others(s, seen)


def equation_35(s: Setting) -> float:
    """(34) with ``|φ|`` replaced by ``m``: the order term of (36), whose outer sum is ``N_F``."""
    return equation_36(s)


def equation_36(s: Setting) -> float:
    r"""Order term of ``T_2``: by the binomial mean :math:`N_F (m-1)(1 - 1/cK)`. No bound, quite.

    It stands in for the bound :math:`T_2 \le N_F (m-1)`, which holds without the last factor: with
    one forgotten sample ``T_2`` is exactly ``m - 1``, more than printed. It exceeds ``N_R``, and so
    says nothing, once ``f m`` is near 1, as in the paper's own setting.
    """
    return s.num_forgotten * _others(s, s.size)


def equation_37(s: Setting) -> float:
    r""":math:`T_1 = p_{\mathrm{miss}} K`, here with the exact probability: ``c`` is missing."""
    return s.clusters_per_class * _missed(s)


def equation_38(s: Setting) -> float:
    r""":math:`T_1 = (1 - 1/cK)^{N_F} K`. Wrong in two ways.

    The factor ``c`` is missing, and the probability is that of draws with replacement, too large
    by 5 % at ``f = 0.1`` and several times at ``f = 0.5``.
    """
    return s.clusters_per_class * (1 - 1 / s.clusters) ** s.num_forgotten


def equation_39(s: Setting) -> float:
    r""":math:`N_r` as (38) + (36). Inherits the faults of both."""
    return equation_38(s) + equation_36(s)


def equation_40(s: Setting) -> float:
    r""":math:`\eta` with :math:`(1 - 1/cK)^{N_D - K} K / N_R`. Wrong in four ways.

    Besides those of (38): the exponent must be ``N_F = N_D - N_R``, for as printed the term does
    not depend on the forget set but through the divisor; and the order term is not divided by
    ``N_R`` (in (41) it is).
    """
    exponent = s.num_samples - s.clusters_per_class
    first = (1 - 1 / s.clusters) ** exponent * s.clusters_per_class / s.num_retained
    return first + equation_36(s)


def terms_41(s: Setting) -> tuple[float, float]:
    """The first term of (41) and the argument of its order term."""
    first = (1 - 1 / s.clusters) ** (s.num_samples - s.clusters) * s.clusters / s.num_retained
    order = (s.num_samples / s.num_retained - 1) * (1 - 1 / s.clusters) * (s.size - 1)
    return first, order


def equation_41(s: Setting) -> float:
    r""":math:`\eta` with :math:`(1 - 1/cK)^{N_D - cK} cK / N_R`. Wrong, though ``c`` is there now.

    ``K`` became ``cK`` also in the exponent, which must be ``N_F``; the order term is (36) over
    ``N_R``, above 1 in the paper's own setting.
    """
    return sum(terms_41(s))


def equation_42(s: Setting) -> float:
    r""":math:`N_F = cK \sum_{i \le cK} 1/i` until all clusters are touched. With replacement.

    A sample cannot be forgotten twice; as printed the number can exceed ``N_D``.
    """
    return s.clusters * float(np.sum(1 / np.arange(1, s.clusters + 1)))


def equation_43(s: Setting) -> float:
    r""":math:`N_F = cK \log(cK) + 1`. True of (42) as a lower bound, printed as an equality."""
    return s.clusters * math.log(s.clusters) + 1


def equation_44(s: Setting) -> bool:
    r""":math:`N_R > N_D - cK \log(cK) + 1`, said to be necessary for :math:`\eta < 1`. It is not.

    From (43) the last sign would be ``-``. Nor does the mean number of draws decide: below it some
    clusters may all be touched, above it some untouched. With many clusters the right side is
    negative, so that nothing is excluded; with few, requests are that reduce.
    """
    return s.num_retained > s.num_samples - s.clusters * math.log(s.clusters) + 1


def equation_1(s: Setting) -> float:
    """The same as (41), in the paper's text."""
    return equation_41(s)


def equation_2(s: Setting) -> bool:
    """The same as (44), in the paper's text."""
    return equation_44(s)


@dataclasses.dataclass(frozen=True)
class Equation:
    """A printed equation beside the corrected one.

    Attributes:
        number: as printed.
        quantity: what it gives: ``reduced_size``, ``untouched_clusters``, ``touched_retained``,
            ``reduction``, ``draws_until_touched`` or ``saves``.
        right: whether the printed one holds.
        printed: as printed.
        corrected: exact.
    """

    number: int
    quantity: str
    right: bool
    printed: Callable[[Setting], float]
    corrected: Callable[[Setting], float]


EQUATIONS: tuple[Equation, ...] = tuple(
    Equation(number, exact.__name__, number == 33, printed, exact)
    for number, printed, exact in (
        (1, equation_1, reduction),
        (2, equation_2, saves),
        (33, equation_33, reduced_size),
        (34, equation_34, touched_retained),
        (35, equation_35, touched_retained),
        (36, equation_36, touched_retained),
        (37, equation_37, untouched_clusters),
        (38, equation_38, untouched_clusters),
        (39, equation_39, reduced_size),
        (40, equation_40, reduction),
        (41, equation_41, reduction),
        (42, equation_42, draws_until_touched),
        (43, equation_43, draws_until_touched),
        (44, equation_44, saves),
    )
)
"""All of them, by number."""

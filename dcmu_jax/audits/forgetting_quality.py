"""The forgetting quality of the NeurIPS 2023 unlearning challenge.

Triantafillou et al. (2024), "Are we making progress in unlearning? Findings from the first NeurIPS
unlearning competition", section 3, as its scoring computed it. The margins of each example in N
unlearned and in N retrained models are two samples; epsilon says how far they can be told apart.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float, Float64

from dcmu_jax.audits.checks import check_models, check_same_shape, two_kinds
from dcmu_jax.data.numbers import as_numbers
from dcmu_jax.errors import InputError, check_fraction, check_positive

_BIN = 0.5
_SLACK = 2.0  # of the two thresholds about the narrower sample, in logits
_NARROW = 0.01


def epsilon_of(
    fpr: Float[np.ndarray, "*tests"],
    fnr: Float[np.ndarray, "*tests"],
    *,
    delta: float = 1e-5,
) -> Float64[np.ndarray, "*tests"]:
    r"""Epsilon that a test with these error rates proves.

    .. math:: \max\{\ln(1 - \delta - FPR) - \ln FNR,\; \ln(1 - \delta - FNR) - \ln FPR\}

    Infinite where both rates are 0. NaN where only one of them is: the challenge discards such a
    test, since with finitely many models a rate of 0 is a lack of samples. A term whose first
    logarithm is undefined (a rate above 1 - delta) is skipped. Never below 0.

    Args:
        fpr: false-positive rates, in 0..1.
        fnr: false-negative rates, in 0..1.

    Other Args:
        delta: of (epsilon, delta).

    Raises:
        InputError: a delta or a rate outside 0..1, or rates of different shapes.
    """
    check_fraction("delta", delta)
    fpr, fnr = as_numbers("False-positive rates", fpr), as_numbers("False-negative rates", fnr)
    check_same_shape("False-positive rates", fpr, "false-negative rates", fnr)
    if min(fpr.min(), fnr.min()) < 0 or max(fpr.max(), fnr.max()) > 1:
        raise InputError("A rate outside 0..1", "fractions in 0..1", "Divide percentages by 100")
    found = np.zeros(fpr.shape)
    for one, other in ((fpr, fnr), (fnr, fpr)):
        usable = (1 - delta - one > 0) & (other > 0)
        ratio = (1 - delta - one)[usable] / other[usable]
        found[usable] = np.maximum(found[usable], np.log(ratio))
    found[(fpr == 0) != (fnr == 0)] = np.nan
    found[(fpr == 0) & (fnr == 0)] = np.inf
    return found


def epsilons(
    unlearned: Float[np.ndarray, "unlearned examples"],
    oracles: Float[np.ndarray, "oracles _"],
    *,
    delta: float = 1e-5,
    cap: float = 50.0,
) -> Float64[np.ndarray, " examples"]:
    """The largest ``epsilon_of`` any of the challenge's tests, for each example.

    Two families of tests, tried at every threshold that gives another outcome (the challenge takes
    a grid of 0.01): with one threshold, what lies at or above it is said to be of the sample with
    the larger median; with two, what lies between is said to be of the sample with the smaller
    range, the upper threshold within 2 of its largest value and the distance of the two within 2
    of its range. 0 where every test is discarded. If one range is below 1 % of the other, or the
    two samples lie fully apart, the cap is given; 0 if all values are equal.

    It is a largest value over many tests and thus biased upward: equal populations give about 1,
    not 0, whatever the number of models. Show it beside the same number between two halves of the
    oracles.

    Args:
        unlearned: logit margins in the unlearned models.
        oracles: logit margins in the retrained models; about as many.

    Other Args:
        delta: of (epsilon, delta).
        cap: largest value given.

    Raises:
        InputError: fewer than 3 models of a kind, other examples in one than in the other, margins
            that are not finite, settings out of range.
    """
    check_positive("cap", cap)
    unlearned, oracles = two_kinds(unlearned, oracles, 3, "Forgetting quality")
    ours, theirs = len(unlearned), len(oracles)
    tables = _table(ours, theirs, delta), _table(theirs, ours, delta)
    pair = [np.sort(part, axis=0).T for part in (unlearned, oracles)]
    return np.array([min(_largest(u, o, *tables), cap) for u, o in zip(*pair, strict=True)])


def example_quality(
    found: Float[np.ndarray, " examples"], models: int
) -> Float64[np.ndarray, " examples"]:
    r"""H of each example: :math:`2^{-\lfloor \epsilon / 0.5 \rfloor}`, 0 beyond the last bin.

    The last bin ends at :math:`\lceil \ln(n - 1) \rceil`, about the largest epsilon that n models
    can show: 7 for 512 of them, so that there are 14 bins.

    Args:
        found: of ``epsilons``.
        models: number of models of each kind.

    Raises:
        InputError: fewer than 3 models, or epsilons that are NaN.
    """
    check_models("unlearned", models, 3, "Forgetting quality")
    found = as_numbers("Epsilons", found, "examples", infinite=True)
    last = math.ceil(math.log(models - 1))
    return np.where(found < last, 2.0 ** -np.floor(found / _BIN), 0.0)


def _table(positives: int, negatives: int, delta: float) -> np.ndarray:
    """Epsilon by numbers of true and of false positives; -inf for a test that is discarded."""
    fnr, fpr = np.meshgrid(
        1 - np.arange(positives + 1) / positives,
        np.arange(negatives + 1) / negatives,
        indexing="ij",
    )
    found = epsilon_of(fpr, fnr, delta=delta)
    return np.where(np.isnan(found), -np.inf, found)


def _largest(u: np.ndarray, o: np.ndarray, u_table: np.ndarray, o_table: np.ndarray) -> float:
    """Of one example, from its sorted margins; the tables are for either as the positive one."""
    ranges = np.ptp(u), np.ptp(o)
    values = np.unique(np.concatenate([u, o]))
    if len(values) == 1:
        return 0.0
    if min(ranges) < _NARROW * max(ranges):
        return math.inf
    below = [np.searchsorted(part, values) for part in (u, o)]
    upto = [np.searchsorted(part, values, "right") for part in (u, o)]

    above = len(u) - below[0], len(o) - below[1]
    higher = np.median(u) >= np.median(o)
    single = u_table[above] if higher else o_table[above[::-1]]

    narrow, width = (u, ranges[0]) if ranges[0] < ranges[1] else (o, ranges[1])
    before = np.append(-np.inf, values[:-1])  # thresholds lie in (before, value] ...
    after = np.append(values[1:], np.inf)  # ... and in [value, after)
    near = np.flatnonzero((values <= narrow[-1] + _SLACK) & (after > narrow[-1] - _SLACK))
    fits = (values[near, None] - values <= width + _SLACK) & (
        after[near, None] - before > width - _SLACK
    )
    right, left = np.nonzero(fits & (values <= values[near, None]))
    inside = [upto[k][near[right]] - below[k][left] for k in (0, 1)]
    double = u_table[tuple(inside)] if narrow is u else o_table[tuple(inside[::-1])]
    return float(max(0.0, single.max(), double.max(initial=0.0)))

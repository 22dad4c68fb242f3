"""How well scores tell members from non-members: the ROC curve and its numbers with intervals."""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Float, Float64

from dcmu_jax.data.numbers import Numbers, as_numbers
from dcmu_jax.data.selections import Mask, as_mask
from dcmu_jax.errors import InputError, check_at_least, check_seed

Interval = tuple[float, float, float]
"""A value and the two ends of its 95 % interval."""


@dataclasses.dataclass(frozen=True)
class Separation:
    """The outcome of ``separation``: fractions in 0..1, each ``(value, low, high)``.

    Attributes:
        auc: area under the ROC curve, 0.5 is chance.
        balanced_accuracy: the largest (TPR + 1 - FPR) / 2 of any threshold; never under 0.5, and
            above it by chance when there are few scores.
        tpr_at_1_percent: true-positive rate at a false-positive rate of at most 0.01.
        tpr_at_01_percent: the same at 0.001.
    """

    auc: Interval
    balanced_accuracy: Interval
    tpr_at_1_percent: Interval
    tpr_at_01_percent: Interval


def roc_curve(
    scores: Float[np.ndarray, "..."], member: Mask
) -> tuple[Float64[np.ndarray, " thresholds"], Float64[np.ndarray, " thresholds"]]:
    """False- and true-positive rates of "member if the score is at least t", for falling t.

    One point for every distinct score, after (0, 0); the last is (1, 1). Tied scores make one step
    together.

    Args:
        scores: of any shape; higher is more likely a member. Infinities are allowed.
        member: what is true, booleans of the same shape.

    Raises:
        InputError: scores that are NaN, a mask that is not boolean, shapes that differ, no member
            or no non-member.
    """
    scores, member = _checked(scores, member)
    order, last = _ranked(scores)
    false_positives, true_positives = _counts(member.ravel()[order], np.ones(order.size), last)
    return false_positives / false_positives[-1], true_positives / true_positives[-1]


def tpr_at_fpr(scores: Float[np.ndarray, "..."], member: Mask, fpr: float) -> float:
    """The largest true-positive rate of a threshold whose false-positive rate is at most ``fpr``.

    Nothing is interpolated, so tied scores are taken together or not at all. With fewer than
    1 / fpr non-members this is the rate at no false positive.

    Args:
        scores: as of ``roc_curve``.
        member: as of ``roc_curve``.
        fpr: a fraction in 0..1.

    Raises:
        InputError: as ``roc_curve``, and a rate outside 0..1.
    """
    if not 0 <= fpr <= 1:
        raise InputError(f"fpr = {fpr!r}", "a number in 0..1", "Give a fraction, not a percentage")
    scores, member = _checked(scores, member)
    order, last = _ranked(scores)
    return _tpr(*_counts(member.ravel()[order], np.ones(order.size), last), fpr)


def separation(
    scores: Float[np.ndarray, "*models examples"],
    member: Mask,
    *,
    seed: int = 0,
    resamples: int = 200,
) -> Separation:
    """The four numbers an attack is judged by (Carlini et al. 2022, section III), with intervals.

    The intervals come from a bootstrap over examples, stratified by whether an example is a member
    always, never or in some models. An example is drawn with its scores in all models, because
    those are not independent; scores in one row are all taken for independent. The ends are the
    2.5th and 97.5th percentiles, widened to hold the value where resampling has moved the whole
    distribution, as it does to a maximum. How models vary is not in them.

    Args:
        scores: one row for each model, or one row only; higher is more likely a member.
        member: what is true, of the same shape.

    Other Args:
        seed: of the bootstrap.
        resamples: number of bootstrap draws; time is proportional to it.

    Raises:
        InputError: as ``roc_curve``, and no resamples.
    """
    seed = check_seed("seed", seed)
    check_at_least("resamples", resamples, 1)
    scores, member = _checked(scores, member)
    order, last = _ranked(scores)
    ordered = member.ravel()[order]
    columns = order % scores.shape[-1]
    truth = member.reshape(-1, scores.shape[-1])
    kind = truth.any(axis=0).astype(np.int8) + truth.all(axis=0)
    strata = [np.flatnonzero(kind == value) for value in np.unique(kind)]

    value = _numbers(*_counts(ordered, np.ones(order.size), last))
    rng = np.random.default_rng(seed)
    drawn = np.empty((resamples, len(value)))
    for row in drawn:
        chosen = np.concatenate([rng.choice(stratum, stratum.size) for stratum in strata])
        weight = np.bincount(chosen, minlength=scores.shape[-1]).astype(np.float64)
        row[:] = _numbers(*_counts(ordered, weight[columns], last))
    low, high = np.percentile(drawn, [2.5, 97.5], axis=0)
    ends = zip(value, np.minimum(low, value), np.maximum(high, value), strict=True)
    return Separation(*((float(v), float(lo), float(hi)) for v, lo, hi in ends))


def _checked(scores: Numbers, member: Mask) -> tuple[np.ndarray, np.ndarray]:
    """Both as arrays, the scores in float64: uint8 would wrap where they are negated."""
    scores = as_numbers("Scores", scores, infinite=True)
    member = as_mask("Membership", member, scores.shape, "scores")
    members = int(member.sum())
    if not 0 < members < member.size:
        raise InputError(
            f"A ROC curve of {members} members and {member.size - members} non-members",
            "at least one member and one non-member",
            "Bring examples of both kinds",
        )
    return scores, member


def _ranked(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Flat indices from the highest score down, and where in them each run of ties ends."""
    order = np.argsort(-scores, axis=None, kind="stable")
    falling = scores.ravel()[order]
    return order, np.flatnonzero(np.append(falling[1:] != falling[:-1], True))


def _counts(
    member: np.ndarray, weight: np.ndarray, last: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """False and true positives at every threshold, from none to all."""
    true = np.append(0.0, np.cumsum(weight * member)[last])
    false = np.append(0.0, np.cumsum(weight * ~member)[last])
    return false, true


def _tpr(false: np.ndarray, true: np.ndarray, fpr: float) -> float:
    allowed = false <= fpr * false[-1] * (1 + 1e-9)  # 0.29 of 100 is 29, not 28.999...
    return float(true[allowed][-1] / true[-1])


def _numbers(false: np.ndarray, true: np.ndarray) -> tuple[float, float, float, float]:
    """In the order of ``Separation``."""
    fpr, tpr = false / false[-1], true / true[-1]
    best = float((tpr - fpr).max() + 1) / 2
    return float(np.trapezoid(tpr, fpr)), best, _tpr(false, true, 0.01), _tpr(false, true, 0.001)

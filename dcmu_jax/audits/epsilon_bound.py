"""Lower bounds on epsilon from what an attack says: of many networks, or of one.

Were training, or unlearning, (epsilon, delta)-private for each sample, no attack could be right
more often than epsilon allows. What is seen turns into a bound.
"""

from __future__ import annotations

import importlib
import math
import numbers
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.optimize import brentq
from scipy.stats import binom

from dcmu_jax.data.numbers import as_numbers
from dcmu_jax.data.selections import Mask, as_mask
from dcmu_jax.errors import InputError, check_at_least


def epsilon_lower_bound(
    scores: Float[np.ndarray, "..."],
    member: Mask,
    *,
    confidence: float = 0.95,
    delta: float = 0.0,
) -> float:
    """The largest epsilon that the scores exclude smaller ones of; 0 where they exclude none.

    No threshold has a true-positive rate of more than exp(epsilon) times its false-positive rate,
    plus delta (Nasr et al., 2021, "Adversary instantiation", section IV). Clopper-Pearson intervals
    of both rates by jax_privacy (the extra ``audit``).

    The interval is wide enough for all thresholds together (Bonferroni), which costs much with few
    scores. It holds for independent scores: one from each of many networks. Scores of many samples
    under one network are not quite that, and the bound is then an indication.

    Args:
        scores: one row, of the forgotten samples and the controls, say; higher is more likely a
            member.
        member: what is true.

    Other Args:
        confidence: that epsilon is not below the bound, in (0.5, 1).
        delta: in 0..1.

    Raises:
        InputError: jax_privacy is not installed; a mask that is not boolean; scores that are not
            finite, of one kind only, or in more than one row; a setting out of range.
    """
    scores = as_numbers("Scores", scores)
    member = as_mask("Membership", member, scores.shape, "scores")
    if scores.ndim != 1 or not 0 < member.sum() < member.size:
        raise InputError(
            f"An epsilon of scores {scores.shape}, {int(member.sum())} of them members'",
            "one row with members and non-members",
            "Take one score of each sample or network, of both kinds",
        )
    _check_confidence(confidence)
    _check_delta(delta)
    auditor = _auditing().CanaryScoreAuditor(scores[member], scores[~member])
    return float(auditor.epsilon_clopper_pearson(1 - confidence, delta))


def epsilon_of_one_run(
    scores: Float[np.ndarray, "..."],
    member: Mask,
    *,
    guesses: int,
    confidence: float = 0.95,
    delta: float = 0.0,
) -> float:
    r"""Epsilon that one network proves was spent at least; 0 where it proves none.

    The attack says "member" of the highest scores, "not" of as many of the lowest, and nothing of
    the rest. Among equal scores it draws lots, so that their order tells nothing; a score that
    would be called both is called neither. Where a fair coin of its own decided on each canary's
    membership, the guesses that are right exceed a binomial of rate
    :math:`e^\epsilon / (1 + e^\epsilon)` with no greater probability than

    .. math::
        P[B \ge v] + 2 m \delta \max_{1 \le i \le v} \tfrac1i P[v - i \le B < v]

    of m canaries, v of them right (Steinke, Nasr, Jagielski, 2023, "Privacy auditing with one (1)
    training run", theorem 5.2). Canaries of one network need not be independent of each other in
    what the network does with them. A set of exactly half of the samples is not quite a coin for
    each: the bound is then an approximation.

    Args:
        scores: higher is more likely a member; from an attack that does not know ``member``.
        member: what is true.

    Other Args:
        guesses: how many canaries the attack speaks of, decided beforehand; even.
        confidence: that epsilon is not below the bound, in (0.5, 1).
        delta: in 0..1.

    Raises:
        InputError: a mask that is not boolean; scores that are not finite or in more than one row;
            a setting out of range.
    """
    scores = as_numbers("Scores", scores)
    member = as_mask("Membership", member, scores.shape, "scores")
    if scores.ndim != 1:
        raise InputError(f"Scores {scores.shape} of one network", "one row", "Take a single row")
    count = scores.size
    whole = isinstance(guesses, numbers.Integral) and not isinstance(guesses, bool)
    if not whole or guesses % 2 or not 2 <= guesses <= count:
        raise InputError(
            f"guesses = {guesses!r} of {count} canaries",
            f"an even number in 2..{count}",
            "Take a tenth of the canaries",
        )
    _check_confidence(confidence)
    _check_delta(delta)
    low, high = _spoken_of(scores, guesses // 2)
    guesses = len(low) + len(high)
    right = int(member[high].sum() + (~member[low]).sum())

    def excess(epsilon: float) -> float:
        rate = 1 / (1 + math.exp(-epsilon))
        tail = binom.sf(right - 1, guesses, rate)
        if right and delta:
            below = np.cumsum(binom.pmf(right - np.arange(1, right + 1), guesses, rate))
            tail += 2 * count * delta * np.max(below / np.arange(1, right + 1))
        return float(tail) - (1 - confidence)

    if excess(0.0) >= 0:
        return 0.0
    # Its probability rises with epsilon up to 1: at 50 the binomial's rate is 1 to 22 digits.
    root: Any = brentq(excess, 0.0, 50.0)  # its stub promises more than a number
    return float(root)


def _spoken_of(scores: np.ndarray, half: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the lowest and of the highest scores, by nothing but the scores.

    Scores tell the tied apart no more than a lot does, but their order may: often members come
    first. The bound holds for any choice that does not look at the truth.
    """
    lots = np.random.default_rng(0).permutation(len(scores))
    order = lots[np.argsort(scores[lots], kind="stable")]
    low, high = order[:half], order[-half:]
    if scores[low[-1]] == scores[high[0]]:
        both = scores[high[0]]
        low, high = low[scores[low] != both], high[scores[high] != both]
    return low, high


def _check_delta(delta: float) -> None:
    check_at_least("delta", delta, 0)
    if delta > 1:
        raise InputError(f"delta = {delta!r}", "a number in 0..1", "Take 1e-5")


def _check_confidence(confidence: Any) -> None:
    if not isinstance(confidence, numbers.Real) or not 0.5 < float(confidence) < 1:
        raise InputError(f"confidence = {confidence!r}", "a number in (0.5, 1)", "Take 0.95")


def _auditing() -> Any:
    """``jax_privacy.auditing``, or what to do where it is missing."""
    try:
        return importlib.import_module("jax_privacy.auditing")
    except ImportError as error:
        raise InputError(
            f"An epsilon bound without jax_privacy ({error})",
            "an installation with the extra 'audit'",
            "Install dcmu_jax[audit]",
        ) from error

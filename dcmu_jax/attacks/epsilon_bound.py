"""A lower bound on epsilon from an attack's scores, by jax_privacy (the extra ``audit``).

Nasr et al. (2021), "Adversary instantiation", section IV: were training, or unlearning,
(epsilon, delta)-private for each sample, no threshold could have a true-positive rate of more than
exp(epsilon) times its false-positive rate, plus delta. Clopper-Pearson intervals of both rates turn
what is seen into a bound.
"""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from dcmu_jax.attacks.checks import check_finite, check_same_shape
from dcmu_jax.errors import InputError, check_at_least


def epsilon_lower_bound(
    scores: Float[np.ndarray, "..."],
    member: Bool[np.ndarray, "..."],
    *,
    confidence: float = 0.95,
    delta: float = 0.0,
) -> float:
    """The largest epsilon that the scores exclude smaller ones of; 0 where they exclude none.

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
        InputError: jax_privacy is not installed; scores that are not finite, of one kind only, or
            in more than one row; a setting out of range.
    """
    check_finite("Scores", scores)
    check_same_shape("Membership", member, "scores", scores)
    if scores.ndim != 1 or not 0 < member.sum() < member.size:
        raise InputError(
            f"An epsilon of scores {scores.shape}, {int(member.sum())} of them members'",
            "one row with members and non-members",
            "Take one score of each sample or network, of both kinds",
        )
    if not 0.5 < confidence < 1:
        raise InputError(f"confidence = {confidence!r}", "a number in (0.5, 1)", "Take 0.95")
    check_at_least("delta", delta, 0)
    if delta > 1:
        raise InputError(f"delta = {delta!r}", "a number in 0..1", "Take 1e-5")
    auditor = _auditing().CanaryScoreAuditor(scores[member], scores[~member])
    return float(auditor.epsilon_clopper_pearson(1 - confidence, delta))


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

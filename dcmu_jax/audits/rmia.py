"""RMIA, the pairwise likelihood-ratio attack of Zarifzadeh, Liu and Shokri (2024).

"Low-cost high-power membership inference attacks", section 3; it works with very few shadow models.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float, Float64
from scipy.special import logsumexp

from dcmu_jax.audits.checks import check_same_examples
from dcmu_jax.audits.margins import losses_of
from dcmu_jax.data.numbers import Numbers, as_numbers
from dcmu_jax.data.selections import Mask, as_mask
from dcmu_jax.errors import InputError, check_at_least


def rmia_scores(
    target: Float[np.ndarray, "*targets examples"],
    shadows: Float[np.ndarray, "models _"],
    member: Mask,
    population_target: Float[np.ndarray, "..."],
    population_shadows: Float[np.ndarray, "models population"],
    population_member: Mask | None = None,
    *,
    gamma: float = 2.0,
    online: bool = True,
    a: float = 0.3,
) -> Float64[np.ndarray, "*targets examples"]:
    r"""The share of the population that each example beats by a factor :math:`\gamma`.

    .. math:: LR(x, z) = \frac{p(x \mid \theta) / p(x)}{p(z \mid \theta) / p(z)}, \qquad
              score(x) = \Pr_z \{ LR(x, z) \ge \gamma \}

    with the confidence :math:`p(x \mid \theta)` of the true label (the logistic function of the
    margin) and :math:`p(x) = \tfrac12 (p_{in} + p_{out})` over the shadow models. Where no model
    trained on the example is used, :math:`p_{in} = a\, p_{out} + 1 - a`: offline, and for a
    population that no shadow has seen. Everything is worked out in logarithms, and the population
    is sorted once for each target. Scores are multiples of 1 / population, so ties are usual.

    Args:
        target: logit margins of one or more attacked models.
        shadows: logit margins of the same examples in the shadow models.
        member: whether a shadow model was trained on an example, as ``shadows``.
        population_target: logit margins of examples that no target was trained on, as ``target``
            but for the number of examples.
        population_shadows: the same in the shadow models.
        population_member: as ``member`` for the population; none of it is seen if left out.

    Other Args:
        gamma: the factor; 1 or more.
        online: use the shadow models that were trained on the example.
        a: of the offline approximation, in 0..1; 1 takes in for out.

    Raises:
        InputError: a mask that is not boolean, shapes that do not match, margins that are not
            finite, an example without a shadow model out (or, online, in), settings out of range.
    """
    check_at_least("gamma", gamma, 1)
    if not 0 <= a <= 1:
        raise InputError(f"a = {a!r}", "a number in 0..1", "Set a within 0..1")
    target = as_numbers("Margins of the examples in the target", target)
    population_target = as_numbers("Margins of the population in the target", population_target)
    population_shadows = as_numbers(
        "Margins of the population in the shadow models", population_shadows, "models population"
    )
    if population_target.shape[:-1] != target.shape[:-1]:
        raise InputError(
            f"Population of shape {population_target.shape} for targets of shape {target.shape}",
            "the same targets in both",
            "Take both from the same models",
        )
    seen = online and population_member is not None
    if population_member is None:
        population_member = np.zeros(population_shadows.shape, bool)
    own = _log_ratios("examples", target, shadows, member, online, a)
    others = _log_ratios(
        "population", population_target, population_shadows, population_member, seen, a
    )
    scores = np.empty(own.shape)
    for index in np.ndindex(own.shape[:-1]):
        beaten = np.searchsorted(np.sort(others[index]), own[index] - math.log(gamma), "right")
        scores[index] = beaten / others.shape[-1]
    return scores


def _log_ratios(
    name: str, target: np.ndarray, shadows: Numbers, member: Mask, online: bool, a: float
) -> np.ndarray:
    """Log p(x | target) - log p(x), as ``target``."""
    shadows = as_numbers(f"Margins of the {name} in the shadow models", shadows, "models examples")
    check_same_examples(
        f"Target margins of the {name}", target, "those of the shadow models", shadows
    )
    member = as_mask(f"Membership of the {name}", member, shadows.shape, "margins")
    inside, outside = member.sum(axis=0), (~member).sum(axis=0)
    if outside.min() < 1 or (online and inside.min() < 1):
        raise InputError(
            f"{'Online' if online else 'Offline'} RMIA of {name} with as few as {inside.min()} "
            f"shadow models in and {outside.min()} out",
            f"1 or more {'in and out' if online else 'out'} for each",
            "Train more shadow models, or leave out those that lack them"
            + (", or use the offline attack" if online else ""),
        )
    log_p = -losses_of(shadows)
    log_out = logsumexp(log_p, axis=0, b=~member) - np.log(outside)
    if online:
        log_in = logsumexp(log_p, axis=0, b=member) - np.log(inside)
    else:
        rest = math.log1p(-a) if a < 1 else -math.inf
        log_in = np.logaddexp(log_out + (math.log(a) if a > 0 else -math.inf), rest)
    return -losses_of(target) - (np.logaddexp(log_in, log_out) - math.log(2))

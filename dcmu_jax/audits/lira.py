"""LiRA, the likelihood-ratio attack of Carlini et al. (2022), online and offline.

"Membership inference attacks from first principles", algorithm 1 and section VI. For every example
the margins of the shadow models that were trained on it, and of those that were not, are each taken
for normal.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float64

from dcmu_jax.audits.checks import check_same_examples
from dcmu_jax.audits.gaussian import Sums, Variance, check_variance, enough, log_density
from dcmu_jax.data.numbers import Numbers, as_numbers
from dcmu_jax.data.selections import Mask, as_mask
from dcmu_jax.errors import InputError


def lira_scores(
    target: Float[np.ndarray, "*targets _"],
    shadows: Float[np.ndarray, "models examples"],
    member: Mask,
    *,
    online: bool = True,
    variance: Variance = "fixed",
) -> Float64[np.ndarray, "*targets examples"]:
    r"""How likely each example was in the training set of the target.

    Online, :math:`\log N(m; \mu_{in}, \sigma_{in}^2) - \log N(m; \mu_{out}, \sigma_{out}^2)`.
    Offline only models without the example are used, and the score is
    :math:`z = (m - \mu_{out}) / \sigma_{out}`: the paper's one-sided :math:`\Phi(z)` orders the
    examples in the same way but rounds to 1 in many of them.

    A fixed variance is pooled within examples, from the residuals of each example's own mean, for
    in and out apart. It needs far fewer models, and is the better one unless there are many.

    Args:
        target: logit margins of one or more attacked models.
        shadows: logit margins of the shadow models; the targets are not among them.
        member: whether a shadow model was trained on an example, as ``shadows``.

    Other Args:
        online: use the models trained on the example too.
        variance: ``"fixed"`` or ``"per_example"``.

    Raises:
        InputError: a mask that is not boolean, shapes that do not match, margins that are not
            finite, or too few models in or out: each example wants 1 (and some example 2) of each
            with a fixed variance, 2 of each with one of its own. Offline, the models in are not
            asked for.
    """
    shadows, member = _checked(shadows, member, variance)
    target = as_numbers("Margins of the target", target)
    check_same_examples("Margins of the target", target, "margins of the shadow models", shadows)
    counts = member.sum(axis=0), (~member).sum(axis=0)
    _check_counts(*counts, online=online, variance=variance, left_out=0)
    shadows, centre = _centred(shadows)
    inside = Sums.over(shadows, member) if online else None
    return _scores(target - centre, inside, Sums.over(shadows, ~member), variance)


def leave_one_out_lira(
    margins: Float[np.ndarray, "models examples"],
    member: Mask,
    *,
    online: bool = True,
    variance: Variance = "fixed",
) -> Float64[np.ndarray, "models examples"]:
    """``lira_scores`` of each model in turn, with the others as its shadow models.

    The target takes one model from the side of each example that it is on itself. So that this
    does not give it away (it would: the fit on its own side is the poorer one, and a memory of
    nothing would score below 0.5), the next model that is on the other side is left out as well.
    Both sides then never depend on the target, and equal populations have an AUC of 0.5.

    Args:
        margins: logit margins of all models.
        member: whether a model was trained on an example, of the same shape.

    Other Args:
        online: as of ``lira_scores``.
        variance: as of ``lira_scores``.

    Raises:
        InputError: as ``lira_scores``; each example wants one model more of each kind.
    """
    margins, member = _checked(margins, member, variance)
    counts = member.sum(axis=0), (~member).sum(axis=0)
    _check_counts(*counts, online=online, variance=variance, left_out=1)
    margins, _ = _centred(margins)
    everywhere = Sums.over(margins, member), Sums.over(margins, ~member)
    opposite = _next_opposite(member)
    scores = np.empty_like(margins)
    for model, own in enumerate(margins):
        partner = np.take_along_axis(margins, opposite[model][None], axis=0)[0]
        inside = everywhere[0].without(np.where(member[model], own, partner)) if online else None
        outside = everywhere[1].without(np.where(member[model], partner, own))
        scores[model] = _scores(own, inside, outside, variance)
    return scores


def _scores(target: np.ndarray, inside: Sums | None, outside: Sums, variance: Variance):
    mean, spread = outside.fit(variance)
    if inside is None:
        return (target - mean) / np.sqrt(spread)
    return log_density(target, *inside.fit(variance)) - log_density(target, mean, spread)


def _centred(margins: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    centre = margins.mean(axis=0)
    return margins - centre, centre


def _next_opposite(member: np.ndarray) -> np.ndarray:
    """For each model and example the next model, cyclically, that differs in membership."""
    models = len(member)
    following = np.zeros(member.shape, np.int32)
    for model in [*range(models - 1, -1, -1)] * 2:  # the second round closes the circle
        after = (model + 1) % models
        differs = member[after] != member[model]
        following[model] = np.where(differs, after, following[after])
    return following


def _checked(margins: Numbers, member: Mask, variance: str) -> tuple[np.ndarray, np.ndarray]:
    """The margins in float64, and the membership as a mask."""
    check_variance(variance)
    margins = as_numbers("Margins", margins, "models examples")
    return margins, as_mask("Membership", member, margins.shape, "margins")


def _check_counts(
    inside: np.ndarray, outside: np.ndarray, *, online: bool, variance: Variance, left_out: int
) -> None:
    counts = (inside, outside) if online else (outside,)
    if all(enough(count - left_out, variance) for count in counts):
        return
    kinds = "in and out" if online else "out"
    least = f"{2 + left_out} models {kinds} for each example"
    if variance == "fixed":
        least = f"{1 + left_out} models {kinds} for each example, {2 + left_out} for some example"
    raise InputError(
        f"{'Online' if online else 'Offline'} LiRA{' leaving one out' if left_out else ''}, "
        f"{variance} variance, of examples with as few as {inside.min()} models in and "
        f"{outside.min()} out",
        least,
        "Train more shadow models, or leave out the examples that lack them"
        + (", or use the offline attack" if online else ""),
    )

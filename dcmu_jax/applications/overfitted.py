"""The overfitted subset of a training set: which samples lie at or below a threshold."""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Float, Int
from skimage.filters import threshold_otsu

from dcmu_jax.data.selections import as_mask
from dcmu_jax.errors import InputError, check_fraction, unknown_name

RULES: tuple[str, ...] = ("otsu", "otsu_per_class", "quantile")


@dataclasses.dataclass(frozen=True, eq=False)
class Overfitted:
    """The samples that were chosen, and how.

    Attributes:
        rule: see ``overfitted_subset``.
        values: float ``(N,)``, the metric; small is overfitted.
        thresholds: float ``(classes,)``, of each class; all the same unless the rule is by class,
            NaN for a class without samples.
        chosen: bool ``(N,)``, whether ``values <= thresholds[labels]``: the overfitted side.
    """

    rule: str
    values: np.ndarray
    thresholds: np.ndarray
    chosen: np.ndarray

    def __post_init__(self):
        as_mask("chosen", self.chosen, self.values.shape)

    @property
    def share(self) -> float:
        """Chosen samples over all."""
        return float(self.chosen.mean())

    def sentence(self) -> str:
        """Which side was chosen, how many, and how the two sides differ."""
        inside, outside = self.values[self.chosen].mean(), self.values[~self.chosen].mean()
        return (
            f"{int(self.chosen.sum())} of {len(self.chosen)} samples ({100 * self.share:.1f} %) "
            f"lie at or below the threshold, the overfitted side (rule {self.rule}); the metric is "
            f"{inside:.4g} there on average, {outside:.4g} above."
        )


def overfitted_subset(
    values: Float[np.ndarray, " samples"],
    labels: Int[np.ndarray, " samples"],
    *,
    rule: str = "otsu",
    share: float = 0.2,
) -> Overfitted:
    """The samples whose metric lies at or below a threshold (section IV-E.1).

    Otsu's threshold (scikit-image) parts a histogram of 256 bins into the two groups with the
    largest variance between them. The metric of a network that has memorised its training set is
    next to zero for nearly all of it, with a long tail, so that Otsu calls nearly all overfitted
    (98.96 % in the authors' record). A quantile says how many instead. Otsu's threshold is the
    centre of a bin: samples of that bin lie on either side.

    Args:
        values: of each sample, small where it is overfitted: OM as ``metrics.overfitting`` has it,
            or a LiRA score with its sign changed.
        labels: classes.

    Other Args:
        rule: ``otsu`` on all values, ``otsu_per_class`` on those of each class, or ``quantile``.
        share: of the samples, for ``quantile``; ties at the threshold are taken together.

    Raises:
        InputError: an unknown rule, values that are not finite, a share outside (0, 1), or a
            threshold that leaves no sample on one of its sides.
    """
    if rule not in RULES:
        raise unknown_name("rule of the overfitted subset", rule, RULES)
    if not len(values) or not np.isfinite(values).all() or len(values) != len(labels):
        raise InputError(
            f"{len(values)} values, {int((~np.isfinite(values)).sum())} of them not finite, for "
            f"{len(labels)} samples",
            "one finite value for each sample, and some samples",
            "Measure every sample; a NaN comes from a network that has diverged",
        )
    classes = int(labels.max()) + 1
    if rule == "quantile":
        check_fraction("share", share)
        # The value of a sample, never one between two of them: no rounding decides.
        one = np.quantile(values, share, method="inverted_cdf")
        thresholds = np.full(classes, one)
    elif rule == "otsu":
        thresholds = np.full(classes, threshold_otsu(values))
    else:
        groups = [values[labels == label] for label in range(classes)]
        thresholds = np.array([threshold_otsu(g) if len(g) else np.nan for g in groups])
    chosen = values <= thresholds[labels]
    if chosen.all() or not chosen.any():
        raise InputError(
            f"The rule {rule!r} takes {int(chosen.sum())} of {len(values)} samples for overfitted",
            "a threshold with samples on both of its sides",
            "Take the rule quantile, with a share",
        )
    return Overfitted(rule, values, thresholds, chosen)

"""Ranks of methods over many comparisons, and which differences of ranks mean something."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from jaxtyping import Float

from dcmu_jax.data.numbers import as_numbers
from dcmu_jax.errors import InputError, check_fraction


@dataclasses.dataclass(frozen=True)
class Ranking:
    """The outcome of ``rank_methods``.

    Attributes:
        mean_ranks: float64 ``(methods,)``, 1 is best.
        critical_difference: two methods whose mean ranks lie closer than this cannot be told
            apart at the level asked for (Nemenyi's test).
        p_value: of Friedman's test that all methods are alike.
        cells: number of comparisons.
    """

    mean_ranks: np.ndarray
    critical_difference: float
    p_value: float
    cells: int


def rank_methods(
    scores: Float[np.ndarray, "cells methods"], *, lower_is_better: bool = True, level: float = 0.05
) -> Ranking:
    r"""Rank the methods within every cell and average (Demsar 2006).

    Ties share the mean of their ranks. The critical difference is
    :math:`q_\alpha \sqrt{k (k + 1) / 6 N}` for k methods and N cells, with the studentised range
    over :math:`\sqrt 2` as :math:`q`.

    Args:
        scores: one row for each cell: a data set, network, request and seed.
        lower_is_better: for a gap; not for tug of war.
        level: of the tests.

    Raises:
        InputError: fewer than 2 cells or methods, scores that are not finite, a level outside 0..1.
    """
    scores = as_numbers("Scores", scores, "cells methods", remedy="Leave out what lacks a score")
    cells, methods = scores.shape
    if cells < 2 or methods < 2:
        raise InputError(
            f"Ranks of {methods} methods in {cells} cells", "2 or more of each", "Compare more"
        )
    check_fraction("level", level)
    from scipy import stats  # a second's import

    ranks = stats.rankdata(scores if lower_is_better else -scores, axis=1)
    quantile = stats.studentized_range.ppf(1 - level, methods, np.inf) / math.sqrt(2)
    # Friedman's test in its form with ties; scipy's own wants three methods.
    spread = ((ranks - ranks.mean()) ** 2).sum()
    between = cells * ((ranks.mean(axis=0) - ranks.mean()) ** 2).sum()
    statistic = cells * (methods - 1) * between / spread if spread else 0.0
    return Ranking(
        ranks.mean(axis=0),
        float(quantile * math.sqrt(methods * (methods + 1) / (6 * cells))),
        float(stats.chi2.sf(statistic, methods - 1)),
        cells,
    )

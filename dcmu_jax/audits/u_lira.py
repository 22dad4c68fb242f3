"""U-LiRA: can unlearned models be told from models that never saw the forgotten examples.

Hayes, Shumailov, Triantafillou, Khalifa, Papernot (2024), arXiv 2403.01218, section 4. The members
are models that were trained with the example and then unlearned it, the others are oracles.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float64

from dcmu_jax.audits.checks import two_kinds
from dcmu_jax.audits.gaussian import Variance
from dcmu_jax.audits.lira import leave_one_out_lira
from dcmu_jax.audits.roc import Separation, separation
from dcmu_jax.errors import check_seed


def u_lira_scores(
    unlearned: Float[np.ndarray, "unlearned examples"],
    oracles: Float[np.ndarray, "oracles _"],
    *,
    variance: Variance = "fixed",
) -> tuple[Float64[np.ndarray, "unlearned examples"], Float64[np.ndarray, "oracles examples"]]:
    r"""Scores of each model in turn against the others; higher is more likely an unlearned one.

    :math:`\log N(m; \text{unlearned}) - \log N(m; \text{oracles})`, fitted without the target and,
    so that both kinds of target meet equal fits, without one model of the other kind
    (see ``leave_one_out_lira``). Exact unlearning then has an expected AUC of 0.5.

    Args:
        unlearned: logit margins of the forgotten examples in the unlearned models.
        oracles: the same in models trained without them.

    Other Args:
        variance: pooled over examples (``"fixed"``) or one for each (``"per_example"``).

    Raises:
        InputError: fewer than 3 models of a kind, so that 2 are left to fit; other examples in one
            than in the other; margins that are not finite.
    """
    unlearned, oracles = two_kinds(unlearned, oracles, 3, "U-LiRA")
    margins = np.concatenate([unlearned, oracles])
    member = np.zeros(margins.shape, bool)
    member[: len(unlearned)] = True
    scores = leave_one_out_lira(margins, member, variance=variance)
    return scores[: len(unlearned)], scores[len(unlearned) :]


def u_lira(
    unlearned: Float[np.ndarray, "unlearned examples"],
    oracles: Float[np.ndarray, "oracles _"],
    *,
    variance: Variance = "fixed",
    seed: int = 0,
    resamples: int = 200,
) -> Separation:
    """``separation`` of the two kinds of models by ``u_lira_scores``, all examples together.

    The intervals resample forgotten examples, not models: to judge them, show the same number
    between two halves of the oracles beside it (``null_band``).

    Args:
        unlearned: as of ``u_lira_scores``.
        oracles: as of ``u_lira_scores``.

    Other Args:
        variance: as of ``u_lira_scores``.
        seed: of the bootstrap.
        resamples: of the bootstrap.

    Raises:
        InputError: as ``u_lira_scores``.
    """
    seed = check_seed("seed", seed)
    scores = np.concatenate(u_lira_scores(unlearned, oracles, variance=variance))
    member = np.zeros(scores.shape, bool)
    member[: len(unlearned)] = True
    return separation(scores, member, seed=seed, resamples=resamples)

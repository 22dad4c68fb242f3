"""What membership attacks find of the networks of a defence, whose shadows had the same defence."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64

from dcmu_jax.audits.lira import leave_one_out_lira, lira_scores
from dcmu_jax.audits.margins import losses_of
from dcmu_jax.audits.population import Population
from dcmu_jax.audits.shadow import shadow_attack
from dcmu_jax.errors import InputError

ATTACKS = {
    "lira": "LiRA, shadows with the same defence",
    "lira_plain": "LiRA, shadows without a defence",
    "shadow": "shadow models, logistic (the paper's)",
    "threshold": "loss threshold",
}
"""Attack -> what it is; the first knows most."""


def membership_scores(
    defended: Population, plain: Population
) -> dict[str, Float64[np.ndarray, "models examples"]]:
    """Scores of every attack on every network of a population, on the training examples.

    All attackers know the training procedure, the samples that shadow models may be trained on
    (the whole pool, of which each network saw a half), and the output on the samples in question.
    ``lira`` and ``shadow`` also know the defence: each network in turn is the target, and others
    that were defended in the same way its shadows. ``lira_plain`` does not: its shadows are the
    undefended networks.

    Whoever holds a pair of networks on complementary halves learns from the absence of one of them
    from the shadows; so both leave together, and every sample keeps as many shadows in as out.

    Args:
        defended: networks in pairs of complementary halves.
        plain: the undefended networks of the same halves, in the same order.

    Raises:
        InputError: other halves in one population than in the other, or no pairs of them.
    """
    inside = ~defended.test
    margins, member = defended.margins[:, inside], defended.member[:, inside]
    undefended = plain.margins[:, inside]
    paired = len(member) % 2 == 0 and not (member[0::2] & member[1::2]).any()
    if not paired or not np.array_equal(member, plain.member[:, inside]):
        raise InputError(
            "Populations that are not pairs of complementary halves, the same in both",
            "networks 2i and 2i + 1 on complementary halves, as random_halves draws them",
            "Train both on the masks of random_halves",
        )
    labels = defended.labels[inside]
    by_plain, by_shadow = [], []
    for number, own in enumerate(margins):
        rest = np.arange(len(margins)) // 2 != number // 2
        by_plain.append(lira_scores(own, undefended[rest], member[rest]))
        by_shadow.append(
            shadow_attack(own, margins[rest], member[rest], labels=labels, shadow_labels=labels)
        )
    return {
        "lira": leave_one_out_lira(margins, member),
        "lira_plain": np.stack(by_plain),
        "shadow": np.stack(by_shadow),
        "threshold": -losses_of(margins),
    }

"""The audit of a method: are the networks it makes told from ones that never saw the samples.

Example by example, over a population of networks that the method made and one of oracles.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from dcmu_jax.audits.audit import audited_sets, check_alike
from dcmu_jax.audits.checks import check_models
from dcmu_jax.audits.forgetting_quality import epsilons, example_quality
from dcmu_jax.audits.klom import klom
from dcmu_jax.audits.null_band import NullBand
from dcmu_jax.audits.population import Population
from dcmu_jax.audits.roc import Separation
from dcmu_jax.audits.u_lira import u_lira
from dcmu_jax.errors import check_seed
from dcmu_jax.training.keys import named_seed


@dataclasses.dataclass(frozen=True)
class MethodAudit:
    """The audit of a method by a population of networks that it made.

    Attributes:
        kind: the method.
        u_lira: of telling its networks from oracles, on the forgotten samples.
        u_lira_null: AUC of telling some oracles from others, by halves.
        klom: 95th percentile over examples by set (``forget``, ``retain``, ``test``).
        klom_null: the same between halves of the oracles.
        quality: the forgetting quality F of the NeurIPS 2023 challenge, 0..1.
        quality_null: the same between halves of the oracles.
        networks: models of the method.
        oracles: models that never saw the forgotten samples.
    """

    kind: str
    u_lira: Separation
    u_lira_null: NullBand
    klom: Mapping[str, float]
    klom_null: Mapping[str, NullBand]
    quality: float
    quality_null: NullBand
    networks: int
    oracles: int


def audit_method(
    unlearned: Population,
    oracles: Population,
    forget_ids: np.ndarray,
    *,
    usable_test_ids: np.ndarray | None = None,
    repeats: int = 20,
    seed: int = 0,
) -> MethodAudit:
    """Hold what a method makes of many originals against oracles, example by example.

    The nulls split the oracles into random halves, and so have half as many models on each side
    as there are oracles; for the networks as many are drawn of either kind, over and over, and the
    mean is what is stated: what depends on the number of models then depends on it alike.

    Args:
        unlearned: models that a method made, one kind.
        oracles: models that never saw the forgotten samples.
        forget_ids: the forgotten samples.

    Other Args:
        usable_test_ids: see ``audit_networks``.
        repeats: draws of either.
        seed: of the draws.

    Raises:
        InputError: fewer than 6 oracles or 3 networks of the method, which U-LiRA needs; oracles
            that saw the forgotten samples; other examples in one population than in the other.
    """
    seed = check_seed("seed", seed)
    check_models("oracle", len(oracles), 6, "The audit of a method")
    check_models(unlearned.kinds[0], len(unlearned), 3, "The audit of a method")
    check_alike(unlearned, oracles)
    sets = audited_sets(oracles, forget_ids, usable_test_ids, "same_class")
    rng = np.random.default_rng(named_seed(seed, "audit of a method"))
    half = min(len(oracles) // 2, len(unlearned))

    def once(first: np.ndarray, second: np.ndarray) -> dict[str, float]:
        found = {
            f"klom_{name}": float(
                np.percentile(klom(first[:, at], second[:, at]), 95, method="inverted_cdf")
            )
            for name, at in (("forget", sets.forget), ("retain", sets.retain), ("test", sets.test))
        }
        a, b = first[:, sets.forget], second[:, sets.forget]
        found["auc"] = u_lira(a, b, resamples=1).auc[0]
        found["quality"] = float(example_quality(epsilons(a, b), len(a)).mean())
        return found

    null, own = [], []
    for _ in range(repeats):
        order = rng.permutation(len(oracles))
        first, second = order[:half], order[half : 2 * half]
        null.append(once(oracles.margins[first], oracles.margins[second]))
        chosen = rng.choice(len(unlearned), half, replace=False)
        own.append(once(unlearned.margins[chosen], oracles.margins[second]))
    mean = {name: float(np.mean([draw[name] for draw in own])) for name in own[0]}
    # The draws share models and so spread too little for a prediction interval of their own: the
    # band is what they reach.
    bands = {name: _reach(np.array([draw[name] for draw in null])) for name in null[0]}
    names = ("forget", "retain", "test")
    return MethodAudit(
        unlearned.kinds[0],
        u_lira(unlearned.margins[:, sets.forget], oracles.margins[:, sets.forget], resamples=50),
        bands["auc"],
        {name: mean[f"klom_{name}"] for name in names},
        {name: bands[f"klom_{name}"] for name in names},
        mean["quality"],
        bands["quality"],
        len(unlearned),
        len(oracles),
    )


def _reach(values: np.ndarray) -> NullBand:
    low, high = np.percentile(values, [0.5, 99.5])
    return NullBand(
        float(low), float(high), float(values.mean()), float(values.std(ddof=1)), len(values), 0.99
    )

"""The audit of a version: its network compared with ones that never saw what it forgot."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from dcmu_jax.audits.audit import FEWEST_ORACLES, audit_networks
from dcmu_jax.audits.building import Rearing, measured, oracle_population
from dcmu_jax.audits.checks import check_models
from dcmu_jax.data.requests import request_for_ids
from dcmu_jax.errors import InputError
from dcmu_jax.files import json_text
from dcmu_jax.runs import stages
from dcmu_jax.runs.auditing import plain_audit
from dcmu_jax.service.contents import Fixed, Version
from dcmu_jax.training.keys import named_seed


def audit_version(
    fixed: Fixed,
    version: Version,
    *,
    oracles: int = 16,
    notify: Callable[[int, int], None] = lambda done, of: None,
) -> bytes:
    """Train oracles on the retain set, and compare the network with them on all forgotten samples.

    Args:
        fixed: see ``Fixed``.
        version: the current one, whose forgotten images are not purged yet.
        oracles: how many, 4 or more.
        notify: told the number of trained oracles and of all.

    Returns:
        The audit as JSON.

    Raises:
        InputError: too few oracles; nothing forgotten whose images are still there; or too few
            samples for an attack.
    """
    check_models("oracle", oracles, FEWEST_ORACLES, "The audit")
    forgotten = np.setdiff1d(version.held.ids, version.train.ids)
    if not len(forgotten):
        raise InputError(
            "An audit of a version none of whose forgotten images are in the workspace",
            "a version that forgot something since the last purge",
            "Audit before dcmu purge; afterwards there is nothing to ask the network about",
        )
    config, splits = fixed.config, fixed.splits(version.held)
    usable = stages.usable_tests(config, splits, (config.preset,))
    request = request_for_ids(forgotten, version.held)
    stages.check_comparable(config, splits, request, usable)
    given = config.data.mean is not None or config.data.statistics == "given"
    rearing = Rearing(
        model=fixed.model,
        splits=splits,
        training=config.training,
        seed=named_seed(config.unlearning_seed, "audit"),
        normalisation=version.network.normalisation if given else None,
        group=min(oracles, 16),
        notify=notify,
    )
    population = oracle_population(rearing, forgotten, oracles)
    targets = measured([version.network], [config.preset], splits, forgotten)
    (audit,) = audit_networks(
        targets,
        population,
        forgotten,
        usable_test_ids=splits.test.ids[usable],
        control=config.method.control,
    )
    found: dict[str, Any] = plain_audit(audit) | {"forgotten": len(forgotten)}
    return (json_text(found, indent=1) + "\n").encode()

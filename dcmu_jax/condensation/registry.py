"""The condensers by name. A new one is a class like those here and a line in ``CONDENSERS``."""

from __future__ import annotations

import functools
from collections.abc import Callable

from dcmu_jax.condensation.clustered import FastDistributionMatching, ModelInversion
from dcmu_jax.condensation.condenser import Condenser
from dcmu_jax.condensation.coresets import (
    ClusterMean,
    Herding,
    KCenter,
    KMedoids,
    RandomCoreset,
)
from dcmu_jax.condensation.distribution_matching import DistributionMatching
from dcmu_jax.condensation.gradient_matching import GradientMatching
from dcmu_jax.condensation.siamese import SiameseAugmentation
from dcmu_jax.errors import unknown_name

CONDENSERS: dict[str, Callable[..., Condenser]] = {
    "random": RandomCoreset,
    "k_center": KCenter,
    "herding": Herding,
    "k_medoids": KMedoids,
    "cluster_mean": ClusterMean,
    "fdm": FastDistributionMatching,
    "inversion": ModelInversion,
    "dm": DistributionMatching,
    "dc": GradientMatching,
    "dsa": functools.partial(GradientMatching, augmentation=SiameseAugmentation(), start="real"),
}
"""Name -> what makes a condenser from settings; without any, as published."""


def condenser(name: str) -> Callable[..., Condenser]:
    """What is registered under ``name``; raises ``InputError`` with the nearest name.

    >>> condenser("dm")(iterations=100).iterations
    100
    """
    if name not in CONDENSERS:
        raise unknown_name("condenser", name, CONDENSERS)
    return CONDENSERS[name]

"""The settings of a run by subject: data, network, remembrance samples, condensation, method."""

from __future__ import annotations

import dataclasses
import math
from typing import Literal, TypeAlias

from dcmu_jax.condensation.inversion import InversionConfig
from dcmu_jax.fast.matching import MatchingConfig
from dcmu_jax.theory import best_clusters_per_class
from dcmu_jax.unlearning.modular import ModularUnlearning, Offline

Dtype: TypeAlias = Literal["float32", "bfloat16"]
"""What a network computes in."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataOptions:
    """How the data is read and normalised.

    Attributes:
        download: fetch a tfds data set that is not there yet.
        directory: where tfds data sets lie; its own default if not given.
        test_fraction: share cut off as test split where the source has none.
        statistics: a retrained model takes its normalisation from the ``retain`` set, or,
            like every other, from ``given`` values (``mean`` and ``std``, else the training set's).
        mean: per channel, of pixels in [0, 1].
        std: per channel, likewise.
    """

    download: bool = False
    directory: str | None = None
    test_fraction: float = 0.2
    statistics: Literal["retain", "given"] = "retain"
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class NetworkOptions:
    """How the network is built.

    Attributes:
        init: initialisation as PyTorch's or Flax's defaults.
        dtype: of the computation; parameters and statistics stay float32.
        conv: convolution implementation; auto takes the matrix product on CPU, lax elsewhere.
        width: multiplies the width of every layer.
        norm: of the CNN; group where gradients of single images must mean something.
    """

    init: Literal["torch", "flax"] = "torch"
    dtype: Dtype = "float32"
    conv: Literal["auto", "lax", "dot"] = "auto"
    width: float = 1.0
    norm: Literal["batch", "group"] = "batch"


@dataclasses.dataclass(frozen=True, kw_only=True)
class RemembranceOptions:
    """The few test samples that ``final`` may be trained on; no evaluation uses them.

    Attributes:
        per_class: how many of each class (M in the paper).
        choice: the first of each class in the test split, or drawn by the unlearning seed.
    """

    per_class: int = 10
    choice: Literal["first", "random"] = "random"


@dataclasses.dataclass(frozen=True, kw_only=True)
class CondensationOptions:
    """The offline phase's condensation.

    Attributes:
        clusters_per_class: clusters of each class (K in the paper). If not given, it follows from
            the size of a cluster.
        cluster_size: mean samples per cluster. If neither is given, K is the one that makes the
            reduced retain set smallest at ``expected_fraction`` (``theory``).
        expected_fraction: share of the training set that requests are expected to name.
        clustering: scikit-learn's k-means, the compiled one, in mini-batches, or balanced clusters.
        condenser: matching, which is fast distribution matching; inversion, by a decoder; or one of
            your own, as file.py:attribute (``condensation.own.own_condenser``).
        matching: of the former, and of re-condensing.
        inversion: of the latter.
        layer: whose output the features are; the input of final if not given.
        lineage: clean takes features from an untrained network and clusters from the ids, neither
            of which has seen a sample (``clustering`` and ``inversion`` then have no meaning).
    """

    clusters_per_class: int | None = None
    cluster_size: float | None = None
    expected_fraction: float = 0.1
    clustering: Literal["kmeans", "compiled", "minibatch", "balanced"] = "kmeans"
    condenser: str = "matching"
    matching: MatchingConfig = MatchingConfig()
    inversion: InversionConfig = InversionConfig()
    layer: str | None = None
    lineage: Literal["trained", "clean"] = "trained"


@dataclasses.dataclass(frozen=True, kw_only=True)
class MethodOptions:
    """All settings of dataset-condensation-driven unlearning: what a preset fixes.

    Attributes:
        remembrance: the remembrance samples.
        condensation: clusters and condensed images.
        offline: offline modular training.
        online: collection and online modular training.
        online_classes: used instead where only whole classes are forgotten.
        control: test images that the membership attack compares with: all, or those of the
            classes that the forget set has.
    """

    remembrance: RemembranceOptions = RemembranceOptions()
    condensation: CondensationOptions = CondensationOptions()
    offline: Offline = Offline()
    online: ModularUnlearning = ModularUnlearning()
    online_classes: ModularUnlearning = ModularUnlearning()
    control: Literal["all", "same_class"] = "same_class"


def clusters_per_class(options: CondensationOptions, samples_per_class: float) -> int:
    """K for classes of ``samples_per_class``, by the first of the three ways that is set."""
    if options.clusters_per_class is not None:
        return options.clusters_per_class
    if options.cluster_size is not None:
        return max(1, round(samples_per_class / options.cluster_size))
    return best_clusters_per_class(math.floor(samples_per_class), options.expected_fraction)

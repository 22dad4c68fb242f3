"""What determines each stage of a run and identifies it: no code, no devices."""

from __future__ import annotations

import dataclasses
from typing import Any

import flax.linen as nn
import numpy as np

from dcmu_jax.condensation.own import OURS, own_condenser
from dcmu_jax.data.dataset import Splits
from dcmu_jax.data.requests import ForgetRequest
from dcmu_jax.networks.behaviour import model_text
from dcmu_jax.own_code import source_of
from dcmu_jax.runs import stages
from dcmu_jax.runs.config import RunConfig
from dcmu_jax.runs.store import digest
from dcmu_jax.training.classifier import Classifier
from dcmu_jax.unlearning.task import Prepared

Facts = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Data:
    """The identity of a run's data.

    Attributes:
        train: fingerprint of the training set.
        test: fingerprint of the test set.
    """

    train: str
    test: str

    @classmethod
    def of(cls, splits: Splits) -> Data:
        """That of ``splits``; reads all of it once."""
        return cls(splits.train.fingerprint(), splits.test.fingerprint())


def of_original(config: RunConfig, model: nn.Module, data: Data) -> Facts:
    """Of the network that is trained on all of the training set."""
    return {
        "model": model_text(model),
        "training": config.training,
        "seed": config.seed,
        "mean": config.data.mean,
        "std": config.data.std,
        "train": data.train,
    }


def of_prepared(
    config: RunConfig, name: str, splits: Splits, data: Data, original: Classifier
) -> Facts:
    """Of the offline phase of the preset ``name``."""
    options = config.options_of(name)
    found = {
        "preset": name,  # its keys are derived of its name
        "original": original.fingerprint(),
        "condensation": options.condensation,
        "clusters_per_class": stages.clusters_of(config, name, splits.train),
        "remembrance": options.remembrance,
        "offline": options.offline,
        "unlearning_seed": config.unlearning_seed,
        "data": data,
    }
    condenser = options.condensation.condenser
    if condenser in OURS:
        return found
    return found | {"source": source_of(condenser, own_condenser(condenser))}


def of_served(
    config: RunConfig,
    name: str,
    splits: Splits,
    data: Data,
    request: ForgetRequest,
    original: Classifier,
    prepared: Prepared | None,
    usable: np.ndarray,
) -> Facts:
    """Of a request served by the method ``name``, and of its trajectory."""
    method = stages.serving_method(name, config, splits, request)
    found = {
        "original": original.fingerprint(),
        "method": name,
        "settings": method,
        "seed": stages.seed_of(config, name),
        "training": config.training,
        "statistics": stages.statistics_of(config),
        "ids": digest(request.ids),
        "usable_tests": digest(usable),  # what the trajectory is measured on
        "data": data,
    }
    if prepared is None:
        return found
    return found | {
        "bank": prepared.bank.fingerprint(),
        "start": prepared.classifier.fingerprint(),
        "remembrance": digest(prepared.remembrance.ids),
    }

"""The stages of the main job as functions of values: train, prepare, unlearn, measure."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import flax.linen as nn
import numpy as np
from jax.sharding import Mesh

from dcmu_jax.baselines.registry import build_method
from dcmu_jax.condensation.bank import CondensedBank
from dcmu_jax.condensation.building import CLEAN, build_bank, build_clean_bank
from dcmu_jax.condensation.own import OURS, own_condenser
from dcmu_jax.data.copies import same_images
from dcmu_jax.data.dataset import Dataset, Splits
from dcmu_jax.data.remembrance import allowed_remembrance, remembrance_samples
from dcmu_jax.data.requests import ForgetRequest
from dcmu_jax.data.selections import Mask
from dcmu_jax.errors import InputError
from dcmu_jax.extensions import is_reference
from dcmu_jax.metrics.network import Measured, measure_classifier
from dcmu_jax.networks.catalogue import create
from dcmu_jax.runs.brought import given_normalisation, own_module
from dcmu_jax.runs.config import RunConfig
from dcmu_jax.runs.options import CondensationOptions, NetworkOptions, clusters_per_class
from dcmu_jax.runs.presets import PRESETS
from dcmu_jax.training.callbacks import reporting
from dcmu_jax.training.checkpoints import FitCheckpoint
from dcmu_jax.training.classifier import Classifier
from dcmu_jax.training.devices import device_mesh
from dcmu_jax.training.divergence import check_outputs, during
from dcmu_jax.training.keys import named_seed
from dcmu_jax.training.loop import Fitted
from dcmu_jax.training.timing import Stopwatch
from dcmu_jax.unlearning.modular import ModularUnlearning, train_offline
from dcmu_jax.unlearning.task import (
    Hooks,
    Method,
    Prepared,
    Unlearned,
    UnlearningTask,
    train_from_scratch,
)

TEST_STAYING = "test_of_classes_that_stay"
"""The accuracy that unlearning must not lose."""

_LOOKED_AT = 500
"""Test images on which a new network has to give numbers."""


def build_model(name: str, splits: Splits, options: NetworkOptions | None = None) -> nn.Module:
    """A network for the images and classes of ``splits``.

    Args:
        name: of the catalogue; or a reference (``file.py:attribute``) to a Flax module of one's
            own, or to what makes one: called with ``image_shape`` and ``num_classes``.
        splits: the data.
        options: of a network of the catalogue.

    Raises:
        InputError: an unknown name, or a reference to what is no module and makes none.
    """
    if is_reference(name):
        return own_module(name, splits)
    options = options or NetworkOptions()
    return create(
        name,
        image_shape=splits.image_shape,
        num_classes=splits.num_classes,
        init=options.init,
        dtype=options.dtype,
        conv=options.conv,
        width=options.width,
        norm=options.norm,
    )


def train_original(
    config: RunConfig,
    model: nn.Module,
    splits: Splits,
    *,
    hooks: Hooks | None = None,
    checkpoint: FitCheckpoint | None = None,
) -> Fitted:
    """Train the original model, on the whole training set."""
    hooks = hooks or Hooks()
    shown = hooks.progress("training the original", config.training.epochs)
    with during("Training the original", within="--training."), shown as progress:
        fitted = train_from_scratch(
            model,
            splits.train,
            config.training,
            config.seed,
            normalisation=given_normalisation(config, splits),
            mesh=device_mesh(config.devices),
            callbacks=(*reporting(progress), *((checkpoint,) if checkpoint else ())),
        )
        check_outputs(fitted.classifier, splits.test.images[:_LOOKED_AT])
    return fitted


def remembrance_of(config: RunConfig, name: str, splits: Splits) -> Dataset:
    """The remembrance samples of the preset ``name``.

    Presets that draw them draw the same ones: none of them is evaluated on, for any method.
    """
    options = config.options_of(name).remembrance
    return remembrance_samples(
        splits.test,
        options.per_class,
        method=options.choice,
        seed=named_seed(config.unlearning_seed, "remembrance"),
        setting="--method.remembrance.per-class"
        if name == config.preset
        else f"remembrance.per_class of {name} (RunConfig.settings; on a command line leave {name} "
        "out of --baselines)",
    )


def clusters_of(config: RunConfig, name: str, train: Dataset) -> int:
    """K of the preset ``name``, see ``CondensationOptions``."""
    condensation = config.options_of(name).condensation
    return clusters_per_class(condensation, train.samples_per_class)


def prepare(
    config: RunConfig,
    original: Classifier,
    splits: Splits,
    *,
    name: str | None = None,
    hooks: Hooks | None = None,
) -> Prepared:
    """The offline phase: cluster, condense, train by part. No request is known yet.

    Args:
        config: the run's settings.
        original: trained on ``splits.train``.
        splits: the data.
        name: a preset, if not the run's own.
        hooks: see ``Hooks``.
    """
    name = name or config.preset
    options = config.options_of(name)
    condensation = options.condensation
    train = splits.train
    seed = named_seed(config.unlearning_seed, name)
    mesh = device_mesh(config.devices)
    watch = Stopwatch()
    within = settings_of(config, name)
    with watch.running():
        with during("Condensing", within=f"{within}condensation."):
            bank = _build_bank(
                condensation,
                train,
                original,
                clusters_of(config, name, train),
                # The features of a clean bank are found again by the seed of the unlearning alone.
                config.unlearning_seed if condensation.lineage == "clean" else seed,
                mesh,
            )
        remembrance = remembrance_of(config, name, splits)
        with during("Offline training", within=f"{within}offline."):
            classifier = train_offline(
                original,
                train,
                remembrance,
                options.offline,
                seed=seed,
                mesh=mesh,
                hooks=hooks,
            )
    return Prepared(bank, classifier, remembrance, watch.run_s, watch.compile_s)


def _build_bank(
    options: CondensationOptions,
    train: Dataset,
    original: Classifier,
    clusters_per_class: int,
    seed: int,
    mesh: Mesh | None,
) -> CondensedBank:
    if options.lineage == "clean":
        return build_clean_bank(
            train,
            original.model,
            clusters_per_class=clusters_per_class,
            matching=options.matching,
            layer=options.layer,
            seed=named_seed(seed, CLEAN),
            mesh=mesh,
        )
    inverts, own = options.condenser == "inversion", options.condenser not in OURS
    return build_bank(
        train,
        original,
        clusters_per_class=clusters_per_class,
        method=options.clustering,
        matching=None if inverts or own else options.matching,
        inversion=options.inversion if inverts else None,
        own=own_condenser(options.condenser) if own else None,
        layer=options.layer,
        seed=named_seed(seed, "clusters"),
        mesh=mesh,
    )


def serving_method(name: str, config: RunConfig, splits: Splits, request: ForgetRequest) -> Method:
    """The method ``name`` with the settings it serves ``request`` with.

    Args:
        name: a preset, or a registered method.
        config: the run's settings.
        splits: the data.
        request: where only whole classes are forgotten, a preset has a schedule of its own.
    """
    if name not in PRESETS:
        return build_method(name, config.settings.get(name))
    options = config.options_of(name)
    return options.online_classes if of_whole_classes(splits, request) else options.online


def of_whole_classes(splits: Splits, request: ForgetRequest) -> bool:
    """Whether only whole classes are forgotten."""
    forgotten = splits.train.labels[splits.train.positions(request.ids)]
    return bool(np.isin(forgotten, request.forgotten_classes).all())


def statistics_of(config: RunConfig) -> Literal["retain", "given"]:
    """Where a retrained model takes its normalisation from, see ``DataOptions``."""
    return "given" if config.data.mean is not None else config.data.statistics


def unlearn(
    name: str,
    config: RunConfig,
    original: Classifier,
    splits: Splits,
    request: ForgetRequest,
    *,
    prepared: Prepared | None = None,
    features: Classifier | None = None,
    hooks: Hooks | None = None,
) -> Unlearned:
    """Serve a request with one method: the online phase.

    Args:
        name: a preset, which needs ``prepared``; or a registered method.
        config: the run's settings.
        original: the network that must forget.
        splits: the data.
        request: what to forget.
        prepared: the offline phase's result for that preset.
        features: see ``UnlearningTask``.
        hooks: see ``Hooks``.
    """
    method = serving_method(name, config, splits, request)
    if name in PRESETS:
        whole = "online_classes" if of_whole_classes(splits, request) else "online"
        naming = during(f"Forgetting by {name}", within=f"{settings_of(config, name)}{whole}.")
    else:
        naming = during(
            f"Forgetting by {name}",
            within="--training." if name == "retrain" else f"{name}.",
            place="" if name == "retrain" else " (RunConfig.settings), or leave this baseline out",
        )
    if prepared is not None and isinstance(method, ModularUnlearning):
        prepared = _without_copies(name, method, prepared, splits, request)
    task = UnlearningTask(
        original=original,
        train=splits.train,
        forget_ids=request.ids,
        seed=seed_of(config, name),
        training=config.training,
        prepared=prepared,
        statistics=statistics_of(config),
        mesh=device_mesh(config.devices),
        features=features,
        name=name if name in PRESETS else "",
    )
    with naming:
        unlearned = method(task, hooks or Hooks())
        check_outputs(unlearned.classifier, splits.test.images[:_LOOKED_AT])
    return unlearned


def _without_copies(
    name: str, schedule: ModularUnlearning, prepared: Prepared, splits: Splits, asked: ForgetRequest
) -> Prepared:
    """Without the remembrance samples that are images of the request under another id.

    Raises:
        InputError: none is left for a schedule that trains on them.
    """
    found = prepared.remembrance
    left = found.take(~same_images(found.images, splits.train.only(asked.ids).images))
    drops = schedule.collecting.drop_forgotten_classes
    taught = allowed_remembrance(left, asked) if drops else left
    if schedule.remembers and len(left) < len(found) and not len(taught):
        other = next(one for one in PRESETS if one != name)
        raise InputError(
            f"A request after which every remembrance sample of {name} is of a forgotten image, "
            "under another id, or of a forgotten class",
            "remembrance samples of which one or more are of others",
            f"Take the preset {other}, which trains on none of them, or more remembrance samples "
            f"per class (--method.remembrance.per-class), in a new run; or leave {name} out of the "
            "baselines",
        )
    return prepared if len(left) == len(found) else dataclasses.replace(prepared, remembrance=left)


def settings_of(config: RunConfig, name: str) -> str:
    """How the settings of the preset ``name`` begin: those of the run's own are options."""
    return "--method." if name == config.preset else f"{name}."


def seed_of(config: RunConfig, name: str) -> int:
    """The seed of a method; the retrained model never starts as the original did."""
    seed = config.unlearning_seed
    return named_seed(seed, name) if name == "retrain" and seed == config.seed else seed


def usable_tests(config: RunConfig, splits: Splits, names: tuple[str, ...]) -> np.ndarray:
    """Which test samples may be evaluated on: none that a method in ``names`` remembers.

    Raises:
        InputError: together they remember all test samples of a class.
    """
    usable = np.ones(len(splits.test), bool)
    for name in names:
        if name in PRESETS:
            usable &= ~np.isin(splits.test.ids, remembrance_of(config, name, splits).ids)
    gone = np.setdiff1d(splits.test.labels, splits.test.labels[usable])
    if len(gone):
        raise InputError(
            f"Remembrance samples of {' and '.join(names)} that are together all test samples of "
            f"class {gone[0]}",
            "remembrance samples that leave one of each class to evaluate on",
            f"Leave {' and '.join(names[1:])} out of --baselines, lower "
            "--method.remembrance.per-class, or add test samples",
        )
    return usable


def measure_network(
    name: str,
    config: RunConfig,
    classifier: Classifier,
    splits: Splits,
    request: ForgetRequest,
    usable: Mask,
    *,
    unlearned: Unlearned | None = None,
    prepared: Prepared | None = None,
    metrics: Mapping[str, Any] | None = None,
) -> Measured:
    """All measurements of one network after a request; scores are added later."""
    return measure_classifier(
        name,
        classifier,
        splits,
        np.isin(splits.train.ids, request.ids),
        usable,
        control=config.method.control,
        metrics=metrics,
        reduction=unlearned and unlearned.reduction,
        online_s=unlearned and unlearned.online_s,
        offline_s=prepared.offline_s if prepared else (unlearned and 0.0),
        compile_s=unlearned and unlearned.compile_s + (prepared.compile_s if prepared else 0.0),
        online_flops=unlearned and unlearned.flops,
        unsolved=None if unlearned is None or unlearned.solved else unlearned.residual,
    )

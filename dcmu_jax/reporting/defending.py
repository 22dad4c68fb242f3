"""The defence of a saved run: find what it is overfitted on, unlearn it, measure, write."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from dcmu_jax.applications.mia_defence import (
    DEFENCE_RULES,
    DefenceRule,
    defend,
    exposed_values,
    few_epochs,
)
from dcmu_jax.audits.building import Rearing, measured, shadow_population
from dcmu_jax.audits.roc import separation
from dcmu_jax.data.requests import ForgetRequest
from dcmu_jax.errors import InputError, check_at_least, check_fraction, unknown_name
from dcmu_jax.files import write_json
from dcmu_jax.reading import read_json_as
from dcmu_jax.reporting.defence import AFTER, BEFORE, defence_section
from dcmu_jax.reporting.html import about, write_page
from dcmu_jax.reporting.sections import save_section
from dcmu_jax.runs import facts, stages
from dcmu_jax.runs.config import RunConfig
from dcmu_jax.runs.presets import PRESETS
from dcmu_jax.runs.run import Run, one_at_a_time
from dcmu_jax.runs.store import digest, find_stage, hash_of, making, plain
from dcmu_jax.training.checkpoints import save_classifier
from dcmu_jax.training.classifier import Classifier
from dcmu_jax.training.environment import environment
from dcmu_jax.training.keys import named_seed

SHARED = ("quantile", "lira")
"""The rules that take a share."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class DefenceOptions:
    """How a run is defended.

    Attributes:
        rule: otsu or otsu_per_class (the threshold of the overfitting metric), quantile (its
            lowest), or lira (the samples that shadow models tell best).
        share: of the training set, for quantile and lira.
        epochs: of unlearning, at most; 2 or more.
        preset: whose online phase unlearns; the run's own if not given.
        shadows: shadow models to train for lira, an even number, 6 or more.
    """

    rule: DefenceRule = "otsu"
    share: float = 0.2
    epochs: int = 5
    preset: str | None = None
    shadows: int = 8

    def check(self) -> None:
        """Raise ``InputError`` for what makes no sense."""
        if self.rule not in DEFENCE_RULES:
            raise unknown_name("rule of the defence", self.rule, DEFENCE_RULES)
        check_fraction("share", self.share)
        check_at_least("epochs", self.epochs, 2)
        if self.preset is not None and self.preset not in PRESETS:
            raise unknown_name("preset", self.preset, PRESETS)
        if self.rule == "lira" and (self.shadows < 6 or self.shadows % 2):
            raise InputError(
                f"shadows = {self.shadows}", "an even number, 6 or more", "Set shadows to 8"
            )


@dataclasses.dataclass(frozen=True)
class DefendedRun:
    """What a defence found and where it lies.

    Attributes:
        sentences: the findings.
        directory: holds network/, the figures, section.json, defence.json and defence.html.
    """

    sentences: tuple[str, ...]
    directory: Path


@dataclasses.dataclass(frozen=True)
class _Note:
    sentences: tuple[str, ...]


@one_at_a_time
def defend_run(
    run: Run,
    options: DefenceOptions,
    *,
    notify: Callable[[int, int], None] = lambda done, of: None,
) -> DefendedRun:
    """Defend the original network of a run; what is there already is not made again.

    Args:
        run: the run.
        options: see ``DefenceOptions``.

    Other Args:
        notify: told the number of shadow models trained and of all.

    Raises:
        InputError: options that make no sense, or a rule that leaves no sample on one side.
    """
    options.check()
    preset = options.preset or run.config.preset
    name = f"{options.rule}-{options.share:g}-{options.epochs}-{preset}"
    if options.rule == "lira":
        name += f"-{options.shadows}"
    config = _config(run, options, preset)
    # Tests that no preset in question has trained on.
    usable = run.usable_tests() & stages.usable_tests(config, run.splits, (preset,))
    made_of = facts.of_prepared(run.config, preset, run.splits, run.data, run.train()) | {
        "options": dataclasses.replace(options, preset=preset),
        "settings": config.method,
        "training": config.training,  # of shadow models
        "statistics": stages.statistics_of(config),
        "usable_tests": digest(usable),
    }
    stage = find_stage(run.directory / "defence", name, made_of)
    if not stage.there:
        with making(stage, devices=config.devices) as folder:
            _defend(run, config, options, usable, folder, notify)
    done, remedy = stage.path / "defence.json", "Move its folder out of the run and defend it again"
    found = read_json_as(_Note, done, "the outcome of a defence", remedy)
    return DefendedRun(found.sentences, stage.path)


def _config(run: Run, options: DefenceOptions, preset: str) -> RunConfig:
    """The run's settings with a few epochs of the preset that unlearns."""
    method = run.config.options_of(preset)
    method = dataclasses.replace(
        method,
        online=few_epochs(method.online, options.epochs),
        online_classes=few_epochs(method.online_classes, options.epochs),
    )
    return dataclasses.replace(run.config, preset=preset, method=method)


def _defend(
    run: Run,
    config: RunConfig,
    options: DefenceOptions,
    usable: np.ndarray,
    directory: Path,
    notify: Any,
) -> None:
    train, original, preset = run.splits.train, run.train(), config.preset
    cost: dict[str, float] = {}

    def unlearn(ids: np.ndarray) -> Classifier:
        gone = np.setdiff1d(train.labels, train.without(ids).labels)
        request = ForgetRequest("overfitted", ids, tuple(gone.tolist()), "overfitted")
        own = preset in run.presets
        prepared = run.prepare(preset) if own else stages.prepare(config, original, run.splits)
        served = stages.unlearn(preset, config, original, run.splits, request, prepared=prepared)
        cost.update(online_s=served.online_s, offline_s=prepared.offline_s)
        return served.classifier

    given = _margins(run, original, options, notify) if options.rule == "lira" else {}
    values = exposed_values(original, train, options.rule, **given)
    defended = defend(
        original, train, unlearn, values=values, rule=options.rule, share=options.share
    )
    numbers, scores = {}, {}
    member = np.arange(len(train) + int(usable.sum())) < len(train)
    for name, network in ((BEFORE, original), (AFTER, defended.classifier)):
        numbers[name], scores[name] = _measure(run, network, usable, member)
    subset = defended.subset
    shown = f"{options.rule}, share {options.share:g}" if options.rule in SHARED else options.rule
    what = "Defence against membership inference:"
    title = f"{what} rule {shown}, {options.epochs} epochs, {preset}"
    section = defence_section(title, subset, scores, member, numbers, cost)
    sentences, settings = list(section.sentences), dataclasses.asdict(options) | {"preset": preset}
    save_classifier(directory / "network", defended.classifier)
    section = dataclasses.replace(save_section(section, directory), sentences=())
    sections = [section, *about(settings, environment())]
    write_page(directory / "defence.html", f"{what} {run.splits.name}", sections, sentences)
    write_json(
        directory / "defence.json",
        {
            "options": settings,
            "side": "at or below the threshold: small is overfitted",
            "thresholds": [None if np.isnan(t) else float(t) for t in subset.thresholds],
            "share": subset.share,
            "ids": defended.ids.tolist(),
            "before": numbers[BEFORE],
            "after": numbers[AFTER],
            "cost": cost,
            "sentences": sentences,
        },
    )
    run.log(stage=f"defend {options.rule}", share=subset.share, **cost)


def _measure(
    run: Run, network: Classifier, usable: np.ndarray, member: np.ndarray
) -> tuple[dict[str, Any], np.ndarray]:
    """Accuracies and the loss attack's numbers, and its scores of training and test samples."""
    on_train = network.evaluate(run.splits.train)
    on_test = network.evaluate(run.splits.test)
    scores = -np.concatenate([on_train.losses, on_test.losses[usable]]).astype(np.float64)
    found = separation(scores, member, resamples=100)
    numbers = {
        "train_accuracy": 100 * float(on_train.correct.mean()),
        "test_accuracy": 100 * float(on_test.correct[usable].mean()),
        "test_samples": int(usable.sum()),
        "threshold_auc": found.auc,
        "threshold_tpr_at_1_percent": found.tpr_at_1_percent,
    }
    return numbers, scores


def _margins(run: Run, original: Classifier, options: DefenceOptions, notify: Any) -> dict:
    """Margins of the original and of shadow models on random halves of its training set."""
    made_of = plain(
        {
            "model": repr(run.model),
            "training": run.config.training,
            "unlearning_seed": run.config.unlearning_seed,
            "data": run.data,
        }
    )
    name = f"shadows-{options.shadows}-{hash_of(made_of)[:16]}"
    rearing = Rearing(
        model=run.model,
        splits=run.splits,
        training=run.config.training,
        seed=named_seed(run.config.unlearning_seed, "defence"),
        group=options.shadows,
        folder=run.directory / "defence" / name,
        notify=notify,
    )
    shadows = shadow_population(rearing, options.shadows)
    own = measured([original], ["original"], run.splits, np.empty(0, np.int64))
    inside = ~shadows.test
    # Halves of an odd number leave samples out of two networks; every sample is out of some.
    return {
        "margins": own.margins[0, inside],
        "shadows": shadows.margins[:, inside],
        "member": shadows.member[:, inside],
    }

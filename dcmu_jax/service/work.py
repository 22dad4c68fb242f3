"""The work between two versions: forget a batch, or make the bank again from the retain set.

Whether a network is usable; and, where the current one is not, which version work starts from.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dcmu_jax.condensation.bank import CondensedBank
from dcmu_jax.condensation.deletion import recondense
from dcmu_jax.condensation.features import extract
from dcmu_jax.condensation.statistics import fits
from dcmu_jax.data.copies import copies_of, same_images
from dcmu_jax.data.dataset import Dataset
from dcmu_jax.data.requests import request_for_ids
from dcmu_jax.errors import InputError
from dcmu_jax.metrics.telltale import forgotten_beside_test
from dcmu_jax.runs import stages
from dcmu_jax.runs.config import RunConfig
from dcmu_jax.runs.presets import PRESETS
from dcmu_jax.service.contents import Fixed, Version, read_manifest, read_network, version_folder
from dcmu_jax.service.gate import BatchSettings
from dcmu_jax.service.history import History
from dcmu_jax.service.manifest import check_files
from dcmu_jax.training.classifier import Classifier
from dcmu_jax.training.divergence import Diverged, all_finite
from dcmu_jax.training.keys import named_seed
from dcmu_jax.training.timing import Stopwatch
from dcmu_jax.unlearning.modular import Offline
from dcmu_jax.unlearning.task import Hooks, Prepared


@dataclasses.dataclass(frozen=True, eq=False)
class Made:
    """The contents of the next version.

    Attributes:
        network: to serve with.
        bank: of the retain set.
        facts: for the record, JSON.
    """

    network: Classifier
    bank: CondensedBank
    facts: dict[str, Any]


def seed_of(config: RunConfig, version: int, digest: str) -> int:
    """The seed of a version, from its number and the ids requested so far, not from the time."""
    return named_seed(config.unlearning_seed, f"version {version} of {digest}")


def forget_batch(
    fixed: Fixed,
    before: Version,
    ids: np.ndarray,
    seed: int,
    hooks: Hooks | None = None,
    settings: BatchSettings | None = None,
    forgotten_tests: Sequence[int] = (),
) -> Made:
    """The online phase for a batch, from the network, images and bank of the version before.

    What earlier versions forgot is not in ``before.train`` and so cannot return. The bank of the
    result is condensed again from the survivors of every touched cluster, from equal weights: the
    pixels of the batch have no part in it (``condensation.deletion``).

    Args:
        fixed: see ``Fixed``.
        before: the current version.
        ids: of the batch.
        seed: of all that is random in it.
        hooks: see ``Hooks``.
        settings: in place of those of the workspace.
        forgotten_tests: test samples with images that earlier versions forgot under other ids.

    Raises:
        Diverged: the online phase came to no number, or to a network of no use.
        InputError: no remembrance sample is left for a schedule that trains on them.
    """
    config = settings.applied(fixed.config) if settings else fixed.config
    # Offline training was for the preset of the workspace.
    start = before.start if config.preset == fixed.config.preset else before.network
    config = dataclasses.replace(config, unlearning_seed=seed)
    request = request_for_ids(ids, before.train)
    splits = fixed.splits(before.train)
    method = config.method
    schedule = method.online_classes if stages.of_whole_classes(splits, request) else method.online
    remembrance = stages.remembrance_of(fixed.config, fixed.config.preset, splits)
    train = before.train.without(ids)
    taught = _taught(remembrance, fixed, before, train, forgotten_tests)
    if schedule.remembers and not len(taught):
        raise _nothing_to_remember(fixed.config.preset)
    unlearned = stages.unlearn(
        config.preset,
        config,
        before.network,
        splits,
        request,
        prepared=Prepared(before.bank, start, taught, 0.0, 0.0),
        features=before.features,
        hooks=hooks,
    )
    fault = fault_of(unlearned.classifier, fixed) or fault_of(unlearned.classifier, fixed, train)
    if fault:
        raise Diverged(f"it {fault}", stage="The new network")
    watch = Stopwatch()
    with watch.running():
        bank = recondense(
            before.bank,
            before.train,
            before.features,
            ids,
            method.condensation.matching,
            warm=False,
        )
    tests = fixed.test.without(remembrance.ids)
    sets = _sets(before, train, tests)
    beside = forgotten_beside_test(unlearned.classifier, sets["forgotten"], tests)
    facts = {
        "copies": copies_of(ids, before.train, fixed.test, remembrance.ids).plain(),
        "classes_forgotten_whole": [
            fixed.class_names[label] for label in request.forgotten_classes
        ],
        "looks_at_what_goes": schedule.sees_forget_set,
        "reduction": unlearned.reduction,
        "cost": {
            "online_s": unlearned.online_s,
            "bank_s": watch.run_s,
            "compile_s": unlearned.compile_s + watch.compile_s,
            "online_flops": unlearned.flops,
        },
        "accuracy_before": _accuracies(before.network, sets),
        "accuracy": _accuracies(unlearned.classifier, sets),
        "forgotten_beside_test": beside and beside._asdict(),
    }
    return Made(unlearned.classifier, bank, facts)


def _taught(
    remembrance: Dataset,
    fixed: Fixed,
    before: Version,
    train: Dataset,
    forgotten_tests: Sequence[int],
) -> Dataset:
    """The remembrance samples that a batch may train on: no image and no class that is forgotten.

    Whatever forgot it: this batch, or one of the versions before.
    """
    classes = np.setdiff1d(fixed.known.labels, train.labels)
    gone = same_images(remembrance.images, before.held.without(train.ids).images)
    gone |= np.isin(remembrance.ids, forgotten_tests) | np.isin(remembrance.labels, classes)
    return remembrance.take(~gone)


def _nothing_to_remember(preset: str) -> InputError:
    other = next(name for name in PRESETS if name != preset)
    return InputError(
        "A batch after which every remembrance sample is of a forgotten image or class",
        "remembrance samples of which one or more are of others",
        f"Give --preset {other}, which trains on none of them",
    )


def _sets(before: Version, train: Dataset, test: Dataset) -> dict[str, Dataset]:
    """The sets on which accuracies are measured before and after a batch."""
    return {
        "retained": train,
        "test": test,
        stages.TEST_STAYING: test.take(np.isin(test.labels, train.labels)),
        "forgotten": before.train.without(train.ids),
    }


def make_bank_again(fixed: Fixed, before: Version, seed: int, hooks: Hooks | None = None) -> Made:
    """A bank of the retained images, clustered and condensed again by the current network.

    Nothing of an earlier bank enters, and no network of an earlier version.
    """
    method = dataclasses.replace(fixed.config.method, offline=Offline(rounds=0))
    config = dataclasses.replace(fixed.config, unlearning_seed=seed, method=method)
    prepared = stages.prepare(config, before.network, fixed.splits(before.train), hooks=hooks)
    remembrance = stages.remembrance_of(fixed.config, config.preset, fixed.splits(before.train))
    facts = {
        "cost": {"bank_s": prepared.offline_s, "compile_s": prepared.compile_s},
        "accuracy": accuracies(before.network, before.train, fixed.test.without(remembrance.ids)),
    }
    return Made(before.network, prepared.bank, facts)


def accuracies(network: Classifier, train: Dataset, test: Dataset) -> dict[str, float | None]:
    """Accuracies (%) on the retain set and on test images other than remembrance samples."""
    return _accuracies(network, {"retained": train, "test": test})


def _accuracies(network: Classifier, sets: dict[str, Dataset]) -> dict[str, float | None]:
    """Accuracies in percent by name of the set; None where a set is empty."""
    return {name: _accuracy(network, dataset) for name, dataset in sets.items()}


def _accuracy(network: Classifier, dataset: Dataset) -> float | None:
    if not len(dataset):
        return None
    found = network.evaluate(dataset)
    if not np.isfinite(found.losses).all():
        raise Diverged("losses of single samples are not finite", stage="The new network")
    return round(100 * float(found.correct.mean()), 4)


_A_FEW = 16


def fault_of(network: Classifier, fixed: Fixed, train: Dataset | None = None) -> str:
    """Why a network is unusable, as the end of a sentence; empty where it is usable.

    Parameters and the logits of a few images have to be finite; and where the banks of the
    workspace are made of its own network's features, these have to be small enough to be added up,
    or no purge could make one.

    Args:
        network: of a version.
        fixed: see ``Fixed``.
        train: what its bank would be made of; the test images stand for it if not given.
    """
    logits = network.logits(fixed.test.images[:_A_FEW])
    if not (all_finite(network.variables) and all_finite(logits)):
        return "is not finite"
    condensation = fixed.config.method.condensation
    if condensation.lineage != "trained":
        return ""
    images = (fixed.test if train is None else train).images
    largest = np.abs(extract(network, images, condensation.layer)).max()
    if fits(largest, len(fixed.known)):
        return ""
    return f"gives features as large as {largest:.1e}, of which no bank can be made"


def newest_usable(directory: Path, fixed: Fixed, history: History) -> int:
    """The newest version with a usable network: the current one, in a sound workspace.

    Earlier versions of dcmu_jax published whatever came of a batch.

    Raises:
        InputError: there is none among those that were not purged; or a file has changed.
    """
    for number in range(history.current.version, history.purged_before - 1, -1):
        folder = version_folder(directory, number)
        check_files(folder, read_manifest(directory, history, number))
        if not fault_of(read_network(directory, fixed, number), fixed):
            return number
    raise InputError(
        f"No network in {str(directory)!r} is finite, with features of which a bank can be made",
        "a workspace of which one version that was not purged can still be served with",
        "Make another of the run that it came from (dcmu workspace RUN --out NEW), and ask there "
        "for all that was asked for here: ledger.jsonl names the ids, line by line",
    )


def of_no_use(number: int, fault: str) -> str:
    """The message for a version whose network has a ``fault_of``, with the remedy."""
    return (
        f"The network of version {number} {fault}: dcmu process makes a new one, of the newest "
        "version that is of use, and forgets again what was forgotten since"
    )

"""What happens when the current network is unusable: which version work starts from."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dcmu_jax.condensation.features import extract
from dcmu_jax.condensation.statistics import fits
from dcmu_jax.data.dataset import Dataset
from dcmu_jax.errors import InputError
from dcmu_jax.service.contents import (
    Fixed,
    read_manifest,
    read_network,
    version_folder,
)
from dcmu_jax.service.history import History
from dcmu_jax.service.manifest import check_files
from dcmu_jax.training.classifier import Classifier
from dcmu_jax.training.divergence import all_finite

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

"""A workspace whose current network is not finite, and the version that work starts from then."""

from __future__ import annotations

from pathlib import Path

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


def is_finite(network: Classifier, fixed: Fixed) -> bool:
    """Whether parameters and the logits of a few images are finite numbers."""
    return all_finite(network.variables) and all_finite(network.logits(fixed.test.images[:_A_FEW]))


def newest_finite(directory: Path, fixed: Fixed, history: History) -> int:
    """The newest version whose network is finite: the current one, in a sound workspace.

    Earlier versions of dcmu_jax published whatever came of a batch.

    Raises:
        InputError: there is none among those that were not purged; or a file has changed.
    """
    for number in range(history.current.version, history.purged_before - 1, -1):
        folder = version_folder(directory, number)
        check_files(folder, read_manifest(directory, history, number))
        if is_finite(read_network(directory, fixed, number), fixed):
            return number
    raise InputError(
        f"No network in {str(directory)!r} is finite",
        "a workspace of which one version that was not purged can still be served with",
        "Make another of the run that it came from (dcmu workspace RUN --out NEW), and ask there "
        "for all that was asked for here: ledger.jsonl names the ids, line by line",
    )


def not_finite(number: int) -> str:
    """What is said of a version whose network is not finite, and what to do."""
    return (
        f"The network of version {number} is not finite: dcmu process makes a new one, of the "
        "newest version that is, and forgets again what was forgotten since"
    )

"""The command line `dcmu`: which commands there are; `commands.py` carries them out."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import dcmu_jax
from dcmu_jax.errors import unknown_name
from dcmu_jax.outlets import WayOn, ended, quiet_imports

COMMANDS = {
    "run": "Train a model, prepare, forget, and compare with retraining: the whole main job.",
    "train": "Train the original model of a new run.",
    "prepare": "Run the offline phase of a saved run: clusters, condensed images, training.",
    "forget": "Serve a request on a saved run: the online phase.",
    "compare": "Compare every method of a saved run on a request, and write the report.",
    "audit": "Compare every network of a saved run with networks that never saw the forget set.",
    "defend": "Unlearn what the original of a run is overfitted on, against inference.",
    "condensed-model": "Unlearn a condensed model, and compare how a target in its place trains.",
    "workspace": "Make a workspace of a saved run: its network, its bank, a copy of its images.",
    "request": "Acknowledge a deletion request: once answered it is on disk.",
    "process": "Forget all that is pending as one batch, and publish the new network.",
    "gate": "Set how much test accuracy a batch may cost from here on; the ledger records it.",
    "status": "Say where a workspace stands.",
    "verify": "Check the ledger's chain, every file, and that nothing forgotten can be trained on.",
    "certificate": "Write what a version forgot, when, how and at what cost.",
    "purge": "Remove forgotten images and all that was made of them from the workspace.",
}
"""Name -> what it does: the first line of its handler's docstring, held by a test.

Written here, because importing the handlers takes seconds.
"""


def _usage() -> str:
    lines = [f"  {name:15} {summary}" for name, summary in COMMANDS.items()]
    return (
        "usage: dcmu COMMAND [options]\n\nDataset-condensation-driven machine unlearning.\n\n"
        + "\n".join(lines)
        + "\n\ndcmu COMMAND --help shows every option and its default."
    )


def _command(argv: Sequence[str], way_on: WayOn) -> int:
    if not argv or argv[0] in ("-h", "--help"):
        print(_usage())
        return 0 if argv else 2
    if argv[0] == "--version":
        print(dcmu_jax.__version__)
        return 0
    if argv[0] not in COMMANDS:
        raise unknown_name("command", argv[0], COMMANDS)
    with quiet_imports():  # which take seconds
        from dcmu_jax.cli import commands
    return commands.execute(argv, way_on)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        The exit status: 0; 2 for bad input; 1 where the machine failed; 141 where the reader of
        the output has gone; 130 and 143 after Ctrl-C and SIGTERM.

    Raises:
        SystemExit: 0 after ``dcmu COMMAND --help``, 2 for arguments that the parser refuses.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    way_on = WayOn(argv)
    return ended(lambda: _command(argv, way_on), way_on)

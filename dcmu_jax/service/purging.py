"""A purge: a version whose bank never saw what was forgotten, and the removal of all before it."""

from __future__ import annotations

import dataclasses

import numpy as np

from dcmu_jax.errors import InputError
from dcmu_jax.service import work
from dcmu_jax.service.contents import read_version
from dcmu_jax.service.creating import record_of
from dcmu_jax.service.given import check_kind
from dcmu_jax.service.ledger import LEDGER
from dcmu_jax.service.leftovers import tidy
from dcmu_jax.service.opened import Opened
from dcmu_jax.service.restarting import fault_of, of_no_use
from dcmu_jax.training.divergence import Diverged
from dcmu_jax.unlearning.task import Hooks


def purge(workspace: Opened, hooks: Hooks | None = None) -> int | None:
    """See ``Workspace.purge``."""
    check_kind("hooks", hooks, (Hooks, type(None)), "None, or Hooks")
    with workspace.working() as done:
        history = workspace.history()
        if done and history.current.change == "purge":
            return done[0]
        if history.open is not None:
            raise InputError(
                f"A purge while version {history.open.version} is unfinished",
                "a workspace whose last batch was published",
                "Run dcmu process first",
            )
        if len(history.forgotten) == len(history.forgotten_by(history.purged_before)):
            return None
        before = read_version(workspace.directory, workspace.fixed, history)
        fault = fault_of(before.network, workspace.fixed)
        if fault:
            raise InputError(
                of_no_use(history.current.version, fault),
                "a workspace whose current network is of use",
                "Run dcmu process first",
            )
        number = history.current.version + 1
        through = max(line for batch in history.batches.values() for line in batch.lines)
        seed = work.seed_of(workspace.fixed.config, number, history.digest(through))
        try:
            made = work.make_bank_again(workspace.fixed, before, seed, hooks)
        except Diverged as error:
            raise _no_bank(error) from error
        manifest = dataclasses.replace(
            before.manifest,
            version=number,
            change="purge",
            data=number,
            features=number,
            bank_seed=seed,
        )
        record = record_of(workspace.fixed.config, number, "purge", seed)
        removed = np.setdiff1d(before.held.ids, before.train.ids)
        record |= {"images_removed": len(removed), "retained": len(before.train)}
        workspace.publish(history, manifest, made, record, train=before.train)
        tidy(workspace.disk, workspace.directory, workspace.history())
        return number


def _no_bank(error: Diverged) -> InputError:
    """The error for a bank that cannot be made: a purge takes no settings but the workspace's."""
    option = error.option.replace("_", "-")
    lower = f"{option} below {error.value:g}" if option else "other settings of condensation"
    return InputError(
        f"Nothing was removed: {error.given}",
        error.allowed,
        "Purge again after the next batch, of whose network another bank is made. Or make another "
        f"workspace (dcmu workspace RUN --out NEW) of a run with {lower}, and ask there for all "
        f"that was asked for here: {LEDGER} names the ids, line by line",
    )

"""Work that publishes a version: a batch, begun, forgotten and let through or not; a purge."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np

from dcmu_jax.data.requests import request_for_ids
from dcmu_jax.errors import InputError
from dcmu_jax.runs import stages
from dcmu_jax.runs.config import RunConfig
from dcmu_jax.runs.cost import cost_warning
from dcmu_jax.service import contents, gate, work
from dcmu_jax.service.creating import record_of
from dcmu_jax.service.given import check_kind, check_points, listener
from dcmu_jax.service.history import Batch, History, batch_of, replay
from dcmu_jax.service.ledger import LEDGER, Begun, Left, Refused, read_ledger
from dcmu_jax.service.leftovers import tidy
from dcmu_jax.service.opened import Opened
from dcmu_jax.service.work import fault_of, newest_usable, of_no_use
from dcmu_jax.training.divergence import Diverged
from dcmu_jax.unlearning.task import Hooks

Notify = Callable[[str], None]
to_log: Notify = logging.getLogger("dcmu_jax").warning


def process(
    workspace: Opened,
    hooks: Hooks | None = None,
    *,
    settings: gate.BatchSettings | None = None,
    accept_accuracy_loss: float | int | None = None,
    notify: Notify = to_log,
) -> list[int]:
    """See ``Workspace.process``."""
    directory, fixed = workspace.directory, workspace.fixed
    check_kind("hooks", hooks, (Hooks, type(None)), "None, or Hooks")
    check_kind(
        "settings",
        settings,
        (gate.BatchSettings, type(None)),
        "None, or BatchSettings, such as service.gate.settings_of(workspace.fixed.config, PRESET)",
    )
    notify = listener(notify)
    if accept_accuracy_loss is not None:
        check_points("accept_accuracy_loss", accept_accuracy_loss)
    given = settings is not None or accept_accuracy_loss is not None
    if settings is not None:
        settings.applied(fixed.config)  # checks them
        settings = None if settings == gate.settings_of(fixed.config) else settings
    chosen = None if settings is None else settings.to_json()
    accepted = None if accept_accuracy_loss is None else float(accept_accuracy_loss)
    with workspace.working() as done:
        with workspace.writing("The batch was not begun"):
            history = replay(read_ledger(directory))
        last, opened = max(history.pending, default=-1), history.open
        base, refused = newest_usable(directory, fixed, history), ""
        if opened is not None or last >= 0 or base != history.current.version:
            contents.read_samples(directory, fixed, history, base)  # or nothing is begun
        if opened is not None:
            last = max(last, opened.through)
            said = f"the batch of version {opened.version}, begun with "
            said += gate.described(fixed.config, opened)
            if given and (chosen, accepted) != (opened.settings, opened.accepted_loss):
                workspace.add(Left(version=opened.version), "The batch was not left")
                notify(f"Begun again with what is given now: {said}.")
            else:
                notify(
                    f"Going on with {said}. To begin it again with others, give dcmu process a "
                    "--preset, --method options or --accept-accuracy-loss."
                )
                try:
                    done.append(_serve(workspace, opened, hooks, notify))
                    base = done[-1]
                except gate.NotPublished as error:
                    refused = f"{error.given}. "
        opened = _begin(workspace, last, base, chosen, accepted, tuple(done))
        if opened is not None:
            if refused:
                notify(f"{refused}Restarted with {gate.described(fixed.config, opened)}.")
            done.append(_serve(workspace, opened, hooks, notify, tuple(done)))
        return done


def _begin(
    workspace: Opened,
    last: int,
    base: int,
    chosen: dict[str, Any] | None,
    accepted: float | None,
    done: tuple[int, ...],
) -> Batch | None:
    """Close the batch of all pending requests up to line ``last``; None where there are none.

    Where the current network is of no use, ``base`` is an earlier version, and there is one though
    nothing be pending.
    """
    with workspace.adding("The batch was not begun") as history:
        current = history.current.version
        lines = tuple(line for line in history.pending if line <= last)
        if not lines and base == current:
            return None
        before = [line for batch in history.batches.values() for line in batch.lines]
        begun = Begun(
            version=current + 1,
            through=max(lines or before),
            settings=chosen,
            accepted_loss=accepted,
            base=None if base == current else base,
        )
        if gate.refused_again(history, batch_of(begun, lines)):
            raise gate.not_published(workspace.directory, workspace.fixed.config, history, done)
        return workspace.append(history, begun).open


def _refuse(
    workspace: Opened,
    batch: Batch,
    reason: str,
    before: float | None,
    after: float | None,
    done: tuple[int, ...],
) -> NoReturn:
    """Record that a batch is not published, and raise the error for it."""
    with workspace.adding("The refusal was not recorded", "Make room and start again") as history:
        entry = Refused(
            version=batch.version,
            reason=reason,
            before=before,
            after=after,
            limit=gate.limit_of(history, batch),
        )
        history = workspace.append(history, entry)
    raise gate.not_published(workspace.directory, workspace.fixed.config, history, done)


def _forgotten_tests(
    workspace: Opened, history: History, before: contents.Version, config: RunConfig
) -> list[int]:
    """Test samples with images that a version, or one before it, forgot under other ids.

    The records of the batches tell, also after a purge. None where no schedule would train on them.
    """
    method, found = config.method, set[int]()
    if method.online.remembers or method.online_classes.remembers:
        for number in history.batches:
            if number <= before.manifest.version:
                manifest = contents.read_manifest(workspace.directory, history, number)
                copies = contents.read_record(workspace.directory, manifest).get("copies") or {}
                found.update(copies.get("test", ()))
    return sorted(found)


def _serve(
    workspace: Opened,
    batch: Batch,
    hooks: Hooks | None,
    notify: Notify,
    done: tuple[int, ...] = (),
) -> int:
    history, fixed = workspace.history(), workspace.fixed
    before = contents.read_version(workspace.directory, fixed, history, batch.base)
    seed = work.seed_of(fixed.config, batch.version, history.digest(batch.through))
    ids = history.ids_of(batch.lines)
    again = np.setdiff1d(history.forgotten, history.forgotten_by(before.manifest.version))
    if batch.base is not None:
        number = history.current.version
        fault = fault_of(contents.read_network(workspace.directory, fixed, number), fixed)
        notify(
            f"The network of version {number} {fault}: this batch starts from version "
            f"{batch.base}, and forgets again the {len(again)} samples that were "
            "forgotten since."
        )
    every = np.union1d(ids, again)
    settings = None if batch.settings is None else gate.read_settings(batch.settings)
    config = settings.applied(fixed.config) if settings else fixed.config
    request = request_for_ids(every, before.train)
    warning = cost_warning(
        config, fixed.splits(before.train), request, " for this batch", model=fixed.model
    )
    if warning:
        notify(warning)
    try:
        tests = _forgotten_tests(workspace, history, before, config)
        made = work.forget_batch(fixed, before, every, seed, hooks, settings, tests)
    except Diverged as error:
        _refuse(workspace, batch, error.given, None, None, done)
    except InputError as error:
        raise InputError(
            error.given,
            error.allowed,
            f"{error.remedy}. dcmu process with other settings begins this batch again with them",
        ) from error
    history = workspace.history()  # the limit may have been changed meanwhile
    measured = {
        "before": made.facts["accuracy_before"][stages.TEST_STAYING],
        "after": made.facts["accuracy"][stages.TEST_STAYING],
    }
    limit = gate.limit_of(history, batch)
    reason = gate.too_much(**measured, limit=limit)
    if reason is not None:
        _refuse(workspace, batch, reason, **measured, done=done)
    record = record_of(config, batch.version, "batch", seed)
    record |= {
        "gate": measured | {"limit": limit, "accepted_for_this_batch": batch.accepted_loss},
        "other_settings": settings is not None,
        "refused": gate.told(history.refusals),
        "forgotten": ids.tolist(),
        "retained": len(before.train) - len(every),
        "requests": [
            {
                "line": line + 1,
                "receipt": history.ledger.hashes[line],
                "text": history.requests[line].text,
                "reference": history.requests[line].reference,
                "acknowledged": history.requests[line].time,
                "samples": len(history.requests[line].ids),
                "copies_added": history.requests[line].copies,
            }
            for line in batch.lines
        ],
    }
    if batch.base is not None:
        record |= {"base": batch.base, "forgotten_again": again.tolist()}
    manifest = dataclasses.replace(before.manifest, version=batch.version, change="batch")
    workspace.publish(history, manifest, made, record)
    return batch.version


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
        before = contents.read_version(workspace.directory, workspace.fixed, history)
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

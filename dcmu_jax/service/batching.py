"""A batch: begun in the ledger, forgotten, and published or refused by the gate."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import NoReturn

from dcmu_jax.pipeline import stages
from dcmu_jax.service import work
from dcmu_jax.service.contents import read_samples, read_version
from dcmu_jax.service.creating import record_of
from dcmu_jax.service.gate import (
    BatchSettings,
    NotPublished,
    check_points,
    limit_of,
    not_published,
    read_settings,
    refused_again,
    settings_of,
    told,
    too_much,
)
from dcmu_jax.service.history import Batch, replay
from dcmu_jax.service.ledger import Begun, Refused, now, read_ledger
from dcmu_jax.service.opened import Opened
from dcmu_jax.training.divergence import Diverged
from dcmu_jax.unlearning.task import Hooks


def process(
    workspace: Opened,
    hooks: Hooks | None = None,
    *,
    settings: BatchSettings | None = None,
    accept_accuracy_loss: float | int | None = None,
) -> list[int]:
    """See ``Workspace.process``."""
    if accept_accuracy_loss is not None:
        check_points("accept_accuracy_loss", accept_accuracy_loss)
    if settings is not None:
        settings.applied(workspace.fixed.config)  # checks them
        settings = None if settings == settings_of(workspace.fixed.config) else settings
    chosen = None if settings is None else settings.to_json()
    accepted = None if accept_accuracy_loss is None else float(accept_accuracy_loss)
    with workspace.working() as done:
        with workspace.writing("The batch was not begun"):
            history = replay(read_ledger(workspace.directory))
            last = max(history.pending, default=-1)
        if history.open is not None or last >= 0:
            read_samples(workspace.directory, workspace.fixed, history)  # or nothing is begun
        if history.open is not None:
            last = max(last, history.open.through)
            with contextlib.suppress(NotPublished):  # and then it is begun anew
                done.append(_serve(workspace, history.open, hooks))
        with workspace.writing("The batch was not begun"):
            history = replay(read_ledger(workspace.directory))
            lines = tuple(line for line in history.pending if line <= last)
            if lines:
                batch = Batch(history.current.version + 1, lines[-1], lines, chosen, accepted)
                if refused_again(history, batch):
                    raise not_published(
                        workspace.directory, workspace.fixed.config, history, tuple(done)
                    )
                begun = Begun(
                    version=batch.version,
                    through=batch.through,
                    settings=chosen,
                    accepted_loss=accepted,
                    previous="",
                    time=now(),
                )
                history = workspace.append(history, begun)
        if history.open is not None:
            done.append(_serve(workspace, history.open, hooks, tuple(done)))
        return done


def _refuse(
    workspace: Opened,
    batch: Batch,
    reason: str,
    before: float | None,
    after: float | None,
    done: tuple[int, ...],
) -> NoReturn:
    """Record that a batch is not published, and raise the error for it."""
    with workspace.writing("The refusal was not recorded", "Make room and start again"):
        history = replay(workspace.settled())
        entry = Refused(
            version=batch.version,
            reason=reason,
            before=before,
            after=after,
            limit=limit_of(history, batch),
            previous="",
            time=now(),
        )
        history = workspace.append(history, entry)
    raise not_published(workspace.directory, workspace.fixed.config, history, done)


def _serve(workspace: Opened, batch: Batch, hooks: Hooks | None, done: tuple[int, ...] = ()) -> int:
    history = workspace.history()
    before = read_version(workspace.directory, workspace.fixed, history)
    seed = work.seed_of(workspace.fixed.config, batch.version, history.digest(batch.through))
    ids = history.ids_of(batch.lines)
    settings = None if batch.settings is None else read_settings(batch.settings)
    try:
        made = work.forget_batch(workspace.fixed, before, ids, seed, hooks, settings)
    except Diverged as error:
        _refuse(workspace, batch, error.given, None, None, done)
    history = workspace.history()  # the limit may have been changed meanwhile
    gate = {
        "before": made.facts["accuracy_before"][stages.TEST_STAYING],
        "after": made.facts["accuracy"][stages.TEST_STAYING],
    }
    limit = limit_of(history, batch)
    reason = too_much(**gate, limit=limit)
    if reason is not None:
        _refuse(workspace, batch, reason, **gate, done=done)
    config = settings.applied(workspace.fixed.config) if settings else workspace.fixed.config
    record = record_of(config, batch.version, "batch", seed)
    record |= {
        "gate": gate | {"limit": limit, "accepted_for_this_batch": batch.accepted_loss},
        "other_settings": settings is not None,
        "refused": told(history.refusals),
        "forgotten": ids.tolist(),
        "retained": len(before.train) - len(ids),
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
    manifest = dataclasses.replace(before.manifest, version=batch.version, change="batch")
    workspace.publish(history, manifest, made, record)
    return batch.version

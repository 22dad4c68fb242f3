"""A workspace: requests are acknowledged, batches are forgotten, versions are published."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import flax.linen as nn
import numpy as np

from dcmu_jax.data.copies import Copies, copies_of
from dcmu_jax.errors import InputError
from dcmu_jax.files import FilePath
from dcmu_jax.locks import locked
from dcmu_jax.pipeline import stages
from dcmu_jax.pipeline.run import Run
from dcmu_jax.service import work
from dcmu_jax.service.auditing import audit_version
from dcmu_jax.service.certificate import audit_path, certificate
from dcmu_jax.service.contents import (
    Fixed,
    Version,
    current_network,
    read_fixed,
    read_held,
    read_samples,
    read_version,
    write_version,
)
from dcmu_jax.service.creating import (
    LEDGER_LOCK,
    WORK_LOCK,
    create,
    publication,
    record_of,
)
from dcmu_jax.service.disk import Disk, storage_errors
from dcmu_jax.service.entries import check_plain
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
from dcmu_jax.service.history import Batch, History, replay
from dcmu_jax.service.ledger import (
    LEDGER,
    MAX_ACCURACY_LOSS,
    Audited,
    Begun,
    Entry,
    Ledger,
    Limited,
    Refused,
    Requested,
    append,
    now,
    read_ledger,
    settle,
    sha256,
)
from dcmu_jax.service.leftovers import finished, tidy, unpublished
from dcmu_jax.service.looking import Found, looked_at
from dcmu_jax.service.manifest import Manifest
from dcmu_jax.service.remains import Remains, remains
from dcmu_jax.service.requesting import (
    Answer,
    answer_of,
    check_reference,
    ids_digest,
    line_of,
    nothing_left,
    read_request,
    read_terms,
    without_folders,
)
from dcmu_jax.service.status import Status, status
from dcmu_jax.service.verification import Verification, verify
from dcmu_jax.training.classifier import Classifier
from dcmu_jax.training.divergence import Diverged
from dcmu_jax.unlearning.task import Hooks

_ASK_AGAIN = "Make room and ask again: the answer says what is known by then"


class Workspace:
    """A network that is in use, and the deletions that it has to serve.

    Guarantees, on a file system that keeps what was synced and renames at once:

    - A request that was answered is in the ledger whatever happens later.
    - A version is published by one line of the ledger, after all of its files are on disk.
    - Work that was interrupted at any point is done again to the same bits: a batch is closed
      before it is worked on, and its seed comes of its number and of the ids requested.
    - What a version forgot is in no set that a later version trains on.
    - Nothing is unpickled, and no path in a manifest leads out of its folder.

    Args:
        directory: where it lies.
        model: the module, where the run's was not of the catalogue.
        disk: see ``Disk``.

    >>> Workspace("nowhere")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    dcmu_jax.errors.InputError: 'nowhere' is no workspace. Allowed: a directory made by ...
    """

    def __init__(
        self, directory: FilePath, *, model: nn.Module | None = None, disk: Disk | None = None
    ):
        self.directory, self._disk = Path(directory), disk or Disk()
        if not os.path.lexists(self.directory / LEDGER):
            raise InputError(
                f"{str(directory)!r} is no workspace",
                "a directory made by dcmu workspace",
                "Check the path, or make one of a run that dcmu train left",
            )
        with self._reading():
            history = replay(read_ledger(self.directory))
            self.fixed: Fixed = read_fixed(self.directory, history.created.files, model)

    @classmethod
    def create(
        cls,
        run: Run,
        directory: FilePath,
        *,
        max_accuracy_loss: float | int = MAX_ACCURACY_LOSS,
        disk: Disk | None = None,
    ) -> Workspace:
        """A workspace of a run: its original network, its bank, and copies of its images.

        What the run has not done yet (training, the offline phase) is done first.

        Args:
            run: the run.
            directory: of the workspace, not there yet.
            max_accuracy_loss: points of test accuracy, on the classes that stay, that a batch may
                cost; one that costs more is not published. See ``set_max_accuracy_loss``.
            disk: see ``Disk``.

        Raises:
            InputError: the directory exists, or cannot be written.
        """
        disk = disk or Disk()
        create(run, Path(directory), disk, max_accuracy_loss)
        return cls(directory, model=run.model, disk=disk)

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        with storage_errors("The workspace cannot be read", "Check its permissions"):
            check_plain(self.directory)
            yield

    def _look(self, look: Callable[[History], Found]) -> Found:
        """What ``look`` finds while no work changes the workspace (``looking.looked_at``)."""
        with self._reading():
            return looked_at(self.directory, look)

    @contextlib.contextmanager
    def _writing(self, what: str, remedy: str = _ASK_AGAIN) -> Iterator[None]:
        with storage_errors(what, remedy):
            check_plain(self.directory)
            with locked(self.directory / LEDGER_LOCK, wait_s=30.0):
                yield

    @contextlib.contextmanager
    def _working(self) -> Iterator[list[int]]:
        """Hold the lock of long work, during which requests are acknowledged nevertheless.

        Gives the version that interrupted work had finished, if it had, and that was published now.
        """
        with storage_errors("The work was not finished", "Make room and start it again"):
            check_plain(self.directory)
            with locked(self.directory / WORK_LOCK, wait_s=0.0):
                with self._writing("The ledger cannot be written"):
                    found = finished(self.directory, replay(read_ledger(self.directory)))
                    history = replay(self._settled())
                    if found is not None:
                        history = self._append(history, found)
                tidy(self._disk, self.directory, history)
                yield [found.version] if found else []

    def _settled(self) -> Ledger:
        """The ledger, to be added to; or nothing is changed, if the versions are not its own."""
        ledger = read_ledger(self.directory)
        unpublished(self.directory, replay(ledger))
        return settle(self._disk, self.directory, ledger)

    def history(self) -> History:
        """What the ledger amounts to now."""
        with self._reading():
            return replay(read_ledger(self.directory))

    def _append(self, history: History, entry: Entry) -> History:
        entries = (*history.ledger.entries, entry)
        replay(dataclasses.replace(history.ledger, entries=entries))  # or nothing is written
        return replay(append(self._disk, self.directory, history.ledger, entry))

    def request(
        self, text: str, *, reference: str | None = None, with_copies: bool = False
    ) -> Answer:
        """Acknowledge a request: when this returns it is on disk.

        Args:
            text: see ``data.requests.parse_request``; ids may have been requested before.
            reference: the client's own name for the request. Asked again under the same one,
                which is safe after an error or a crash, it is the same request, whatever a
                ``random`` would draw by then.
            with_copies: ask as well for the training samples that have the same images under
                other ids.

        Raises:
            InputError: it names what the workspace never had, or leaves nothing to train on, or
                its reference stands for other ids, or the images cannot be read to look for
                copies that were asked for, and then nothing is acknowledged; or the disk failed,
                and then it may have been.
        """
        check_reference(reference)
        with self._writing("The request was not acknowledged"):
            history = replay(self._settled())
            terms = read_terms(text, self.fixed.known)
            line = line_of(history, terms, reference)
            if line is not None:
                ids = np.union1d(history.requests[line].ids, terms.ids).astype(np.int64)
                return answer_of(history, ids, line)
            ids = read_request(terms, self.fixed.known, history, self.fixed.config.forget_seed)
            gone = np.concatenate([history.forgotten, history.waiting])
            new, asked, copies = np.setdiff1d(ids, gone), ids, None
            try:
                copies = self._copies(history, new, gone)
            except (InputError, OSError):
                if with_copies:  # else a request is acknowledged whatever became of the images
                    raise
            if with_copies and copies is not None:
                ids, new = np.union1d(ids, copies.train), np.union1d(new, copies.train)
                if len(np.union1d(gone, ids)) == len(self.fixed.known):
                    raise nothing_left(text)
            if not len(new) and reference is None:
                return answer_of(history, ids, None)
            entry = Requested(
                text=without_folders(text),
                reference=reference,
                ids=tuple(new.tolist()),
                copies=len(new) - len(np.setdiff1d(asked, gone)),
                asked=ids_digest(asked),
                drawn=terms.digest() if terms.draws else None,
                previous="",
                time=now(),
            )
            after = self._append(history, entry)
            line = len(after.ledger.entries) - 1
            answer = answer_of(after, np.setdiff1d(ids, new), line)
            return dataclasses.replace(answer, accepted=new, copies=copies, added=entry.copies)

    def _copies(self, history: History, new: np.ndarray, gone: np.ndarray) -> Copies:
        """Samples with the same images as those of ``new``, none of which is in ``gone``."""
        held = read_held(self.directory, self.fixed, history)
        train = held.take(~np.isin(held.ids, gone))
        config = self.fixed.config
        remembrance = stages.remembrance_of(config, config.preset, self.fixed.splits(train))
        return copies_of(new, train, self.fixed.test, remembrance.ids)

    def set_max_accuracy_loss(self, points: float | int) -> None:
        """Set how much test accuracy a batch may cost from here on; the ledger records it."""
        check_points("max_accuracy_loss", points)
        with self._writing("The limit was not changed"):
            history = replay(self._settled())
            entry = Limited(max_accuracy_loss=float(points), previous="", time=now())
            if history.max_accuracy_loss != points:
                self._append(history, entry)

    def process(
        self,
        hooks: Hooks | None = None,
        *,
        settings: BatchSettings | None = None,
        accept_accuracy_loss: float | int | None = None,
    ) -> list[int]:
        """Forget what is pending, as one batch, and publish the network that has.

        A batch that was interrupted comes first, as it was closed then. Requests that come in
        meanwhile wait for the next call. A network that is not finite, or that loses more test
        accuracy on the classes that stay than is allowed, is not published: the ledger says so, and
        the samples of the batch are pending again.

        Args:
            hooks: see ``Hooks``.
            settings: for this batch, in place of the workspace's (``gate.settings_of``).
            accept_accuracy_loss: points that this batch may cost, in place of the workspace's.

        Returns:
            The versions that were published: none where nothing was pending.

        Raises:
            NotPublished: the gate did not let the batch through, or would not again.
        """
        if accept_accuracy_loss is not None:
            check_points("accept_accuracy_loss", accept_accuracy_loss)
        if settings is not None:
            settings.applied(self.fixed.config)  # checks them
            settings = None if settings == settings_of(self.fixed.config) else settings
        chosen = None if settings is None else settings.to_json()
        accepted = None if accept_accuracy_loss is None else float(accept_accuracy_loss)
        with self._working() as done:
            with self._writing("The batch was not begun"):
                history = replay(read_ledger(self.directory))
                last = max(history.pending, default=-1)
            if history.open is not None or last >= 0:
                read_samples(self.directory, self.fixed, history)  # or nothing is begun
            if history.open is not None:
                last = max(last, history.open.through)
                with contextlib.suppress(NotPublished):  # and then it is begun anew
                    done.append(self._serve(history.open, hooks))
            with self._writing("The batch was not begun"):
                history = replay(read_ledger(self.directory))
                lines = tuple(line for line in history.pending if line <= last)
                if lines:
                    batch = Batch(history.current.version + 1, lines[-1], lines, chosen, accepted)
                    if refused_again(history, batch):
                        raise not_published(self.directory, self.fixed.config, history, tuple(done))
                    begun = Begun(
                        version=batch.version,
                        through=batch.through,
                        settings=chosen,
                        accepted_loss=accepted,
                        previous="",
                        time=now(),
                    )
                    history = self._append(history, begun)
            if history.open is not None:
                done.append(self._serve(history.open, hooks, tuple(done)))
            return done

    def _refuse(
        self,
        batch: Batch,
        reason: str,
        before: float | None,
        after: float | None,
        done: tuple[int, ...],
    ) -> NoReturn:
        """Record that a batch is not published, and raise the error for it."""
        with self._writing("The refusal was not recorded", "Make room and start again"):
            history = replay(self._settled())
            entry = Refused(
                version=batch.version,
                reason=reason,
                before=before,
                after=after,
                limit=limit_of(history, batch),
                previous="",
                time=now(),
            )
            history = self._append(history, entry)
        raise not_published(self.directory, self.fixed.config, history, done)

    def _serve(self, batch: Batch, hooks: Hooks | None, done: tuple[int, ...] = ()) -> int:
        history = self.history()
        before = read_version(self.directory, self.fixed, history)
        seed = work.seed_of(self.fixed.config, batch.version, history.digest(batch.through))
        ids = history.ids_of(batch.lines)
        settings = None if batch.settings is None else read_settings(batch.settings)
        try:
            made = work.forget_batch(self.fixed, before, ids, seed, hooks, settings)
        except Diverged as error:
            self._refuse(batch, error.given, None, None, done)
        history = self.history()  # the limit may have been changed meanwhile
        gate = {
            "before": made.facts["accuracy_before"][stages.TEST_STAYING],
            "after": made.facts["accuracy"][stages.TEST_STAYING],
        }
        limit = limit_of(history, batch)
        reason = too_much(**gate, limit=limit)
        if reason is not None:
            self._refuse(batch, reason, **gate, done=done)
        config = settings.applied(self.fixed.config) if settings else self.fixed.config
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
        self._publish(history, manifest, made, record)
        return batch.version

    def _publish(
        self,
        history: History,
        manifest: Manifest,
        made: work.Made,
        record: dict[str, Any],
        **rest: Any,
    ) -> None:
        previous = history.current.manifest
        hashed = write_version(
            self._disk,
            self.directory,
            dataclasses.replace(manifest, previous=previous),
            network=made.network,
            bank=made.bank,
            record=record | made.facts,
            **rest,
        )
        line = publication(manifest.version, manifest.change, hashed)
        with self._writing("The version was not published", "Make room and start again"):
            self._append(replay(self._settled()), line)

    def purge(self, hooks: Hooks | None = None) -> int | None:
        """Remove the images of forgotten samples and all that was made of them.

        Publishes a version with the same network, a bank made anew by it, and the images that are
        left; then removes images, banks and networks of all earlier versions. What it does not
        reach is in ``docs/guides/deletion_service.md``.

        Returns:
            The version, or None where there was nothing to remove.

        Raises:
            InputError: a batch was interrupted, whose images are still needed.
        """
        with self._working() as done:
            history = self.history()
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
            before = read_version(self.directory, self.fixed, history)
            number = history.current.version + 1
            through = max(line for batch in history.batches.values() for line in batch.lines)
            seed = work.seed_of(self.fixed.config, number, history.digest(through))
            made = work.make_bank_again(self.fixed, before, seed, hooks)
            manifest = dataclasses.replace(
                before.manifest,
                version=number,
                change="purge",
                data=number,
                features=number,
                bank_seed=seed,
            )
            record = record_of(self.fixed.config, number, "purge", seed)
            removed = np.setdiff1d(before.held.ids, before.train.ids)
            record |= {"images_removed": len(removed), "retained": len(before.train)}
            self._publish(history, manifest, made, record, train=before.train)
            tidy(self._disk, self.directory, self.history())
            return number

    def remains(self) -> Remains:
        """What of all forgotten images lies in the workspace now; see ``remains.remains``."""
        return self._look(lambda history: remains(self.directory, history))

    def status(self) -> Status:
        """Where the workspace stands; changes nothing.

        Raises:
            InputError: the ledger and the versions do not belong together.
        """
        return self._look(lambda history: status(self.directory, self.fixed, history))

    def verify(self) -> Verification:
        """Look for anything that is not as it was written; see ``verification.verify``."""
        return verify(self.directory, model=self.fixed.model)

    def certificate(self, version: int) -> dict[str, Any]:
        """What a version forgot, when and how; see ``certificate.certificate``."""
        return self._look(lambda history: certificate(self.directory, history, version))

    def audit(
        self, *, oracles: int = 16, notify: Callable[[int, int], None] = lambda done, of: None
    ) -> int:
        """Audit the current version, if it was not yet; its certificate then has the numbers.

        Args:
            oracles: see ``auditing.audit_version``.
            notify: likewise.

        Returns:
            The version.

        Raises:
            InputError: see ``auditing.audit_version``.
        """
        with self._working():
            history = self.history()
            number = history.current.version
            if number in history.audits:
                return number
            version = read_version(self.directory, self.fixed, history)
            data = audit_version(self.fixed, version, oracles=oracles, notify=notify)
            path = audit_path(self.directory, number)
            if not path.parent.is_dir():
                self._disk.make_folder(path.parent)
            self._disk.replace(path, data)
            line = Audited(version=number, file=sha256(data), previous="", time=now())
            with self._writing("The audit was not kept"):
                self._append(replay(self._settled()), line)
            return number

    def network(self) -> Classifier:
        """The network of the current version.

        Raises:
            InputError: its files have changed.
        """
        return self._look(lambda history: current_network(self.directory, self.fixed, history))

    def version(self) -> Version:
        """The current version with its images and its bank, checked."""
        return self._look(lambda history: read_version(self.directory, self.fixed, history))

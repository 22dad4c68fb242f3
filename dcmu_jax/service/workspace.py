"""A workspace: requests are acknowledged, batches are forgotten, versions are published."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as nn

from dcmu_jax.files import FilePath
from dcmu_jax.runs.run import Run
from dcmu_jax.service import audits
from dcmu_jax.service.certificate import certificate
from dcmu_jax.service.contents import Fixed, Version, current_network, read_version
from dcmu_jax.service.creating import create
from dcmu_jax.service.disk import Disk
from dcmu_jax.service.gate import BatchSettings
from dcmu_jax.service.given import check_kind, check_oracles, check_points, folder_of, listener
from dcmu_jax.service.history import History
from dcmu_jax.service.ledger import MAX_ACCURACY_LOSS, Audited, Limited, sha256
from dcmu_jax.service.leftovers import check_known
from dcmu_jax.service.opened import Opened
from dcmu_jax.service.publishing import Notify, process, purge, to_log
from dcmu_jax.service.remains import Remains, remains
from dcmu_jax.service.requesting import Answer, ask
from dcmu_jax.service.verification import Status, Verification, status, verify
from dcmu_jax.training.classifier import Classifier, module_of
from dcmu_jax.unlearning.task import Hooks


class Workspace:
    """A network in use, and the deletion requests that it serves.

    Guarantees, on a file system that keeps what was synced and renames at once:

    - A request that was answered is in the ledger whatever happens later.
    - A version is published by one line of the ledger, after all of its files are on disk.
    - Work that was interrupted at any point is done again to the same bits: a batch is closed
      before it is worked on, and its seed comes from its number and the ids requested.
    - What a version forgot is in no set that a later version trains on.
    - Nothing is unpickled, and no path in a manifest leads out of its folder.

    Args:
        directory: where it lies.
        model: the module, where the run's was not of the catalogue; as for ``Run``.
        disk: see ``Disk``.

    >>> Workspace("nowhere")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    dcmu_jax.errors.InputError: 'nowhere' is no workspace. Allowed: a directory made by ...
    """

    def __init__(
        self,
        directory: FilePath,
        *,
        model: nn.Module | Classifier | None = None,
        disk: Disk | None = None,
    ):
        module = module_of(model)
        self.directory = folder_of(directory)
        check_kind("model", module, (nn.Module, type(None)), "None, or the Flax module of the run")
        check_kind("disk", disk, (Disk, type(None)), "None, or a Disk")
        self._opened = Opened(self.directory, module, disk or Disk())
        self.fixed: Fixed = self._opened.fixed

    @classmethod
    def create(
        cls,
        run: Run,
        directory: FilePath,
        *,
        max_accuracy_loss: float | int = MAX_ACCURACY_LOSS,
        disk: Disk | None = None,
    ) -> Workspace:
        """Make a workspace from a run: its original network, its bank, and copies of its images.

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
        check_kind("disk", disk, (Disk, type(None)), "None, or a Disk")
        disk, directory = disk or Disk(), folder_of(directory)
        create(run, directory, disk, max_accuracy_loss)
        return cls(directory, model=run.model, disk=disk)

    def history(self) -> History:
        """The state that the ledger describes now."""
        return self._opened.history()

    def request(
        self, text: str, *, reference: str | None = None, with_copies: bool = False
    ) -> Answer:
        """Acknowledge a request: it is on disk when this returns.

        Args:
            text: see ``data.requests.parse_request``; ids may have been requested before.
            reference: the client's own name for the request. Asked again under the same one,
                which is safe after an error or a crash, it is the same request, whatever a
                ``random`` would draw by then.
            with_copies: ask as well for the training samples that have the same images under
                other ids. What was asked for without them may be asked again with them, also
                under the same reference.

        Raises:
            InputError: it names what the workspace never had, or leaves nothing to train on, or
                its reference stands for other ids, or the images cannot be read to look for
                copies that were asked for, and then nothing is acknowledged; or the disk failed,
                and then it may have been.
        """
        check_kind("with_copies", with_copies, bool, "True or False")
        return ask(self._opened, text, reference=reference, with_copies=with_copies)

    def set_max_accuracy_loss(self, points: float | int) -> None:
        """Set how much test accuracy a batch may cost from here on; the ledger records it."""
        check_points("max_accuracy_loss", points)
        with self._opened.adding("The limit was not changed") as history:
            if history.max_accuracy_loss != points:
                self._opened.append(history, Limited(max_accuracy_loss=float(points)))

    def process(
        self,
        hooks: Hooks | None = None,
        *,
        settings: BatchSettings | None = None,
        accept_accuracy_loss: float | int | None = None,
        notify: Notify = to_log,
    ) -> list[int]:
        """Forget all pending samples as one batch, and publish the new network.

        A batch that was interrupted comes first, as it was closed then; or it is begun again with
        ``settings`` and ``accept_accuracy_loss`` where any of them is given and was another.
        Requests that come in meanwhile wait for the next call. A network that is not finite, of
        whose features no bank can be made, or that loses more test accuracy on the classes that
        stay than is allowed, is not published: the ledger says so, and the samples of the batch are
        pending again. Where the current network is of no use, as earlier versions of dcmu_jax could
        publish one, a new one is made of the newest version that is, and what was forgotten since
        is forgotten again.

        Args:
            hooks: see ``Hooks``.
            settings: for this batch, in place of the workspace's (``gate.settings_of``).
            accept_accuracy_loss: points that this batch may cost, in place of the workspace's.
            notify: told with which settings an interrupted batch goes on, why it was refused then
                and with which it is restarted, from which version a batch starts if not from the
                current one, and that it will cost more than retraining, each before it starts; the
                log is told if not given.

        Returns:
            The versions that were published: none where nothing was pending.

        Raises:
            NotPublished: the gate did not let the batch through, or would not again.
        """
        return process(
            self._opened,
            hooks,
            settings=settings,
            accept_accuracy_loss=accept_accuracy_loss,
            notify=notify,
        )

    def purge(self, hooks: Hooks | None = None) -> int | None:
        """Remove the images of forgotten samples and everything made from them.

        Publishes a version with the same network, a new bank made by it, and the images that are
        left; then removes images, banks and networks of all earlier versions. What it does not
        reach is in ``docs/guides/deletion_service.md``.

        Returns:
            The version, or None where there was nothing to remove.

        Raises:
            InputError: a batch was interrupted, whose images are still needed.
        """
        return purge(self._opened, hooks)

    def remains(self) -> Remains:
        """Which forgotten images are in the workspace now; see ``remains.remains``."""
        return self._opened.look(lambda history: remains(self.directory, history))

    def status(self) -> Status:
        """The status of the workspace; changes nothing.

        Raises:
            InputError: the ledger and the versions do not belong together.
        """
        return self._opened.look(lambda history: status(self.directory, self.fixed, history))

    def verify(self) -> Verification:
        """Check that everything is as it was written; see ``verification.verify``."""
        return verify(self.directory, model=self.fixed.model)

    def certificate(self, version: int) -> dict[str, Any]:
        """What a version forgot, when and how; see ``certificate.certificate``."""
        return self._opened.look(
            lambda history: certificate(self.directory, self.fixed, history, version)
        )

    def audit(
        self, *, oracles: int = 16, notify: Callable[[int, int], None] = lambda done, of: None
    ) -> int:
        """Audit the current version, unless done already; its certificate then has the numbers.

        Args:
            oracles: see ``audits.audit_version``.
            notify: likewise.

        Returns:
            The version.

        Raises:
            InputError: see ``audits.audit_version``; or an audit lies there that the ledger does
                not know.
        """
        check_oracles(oracles)
        notify = listener(notify)
        with self._opened.working():
            history = self.history()
            number = history.current.version
            if number in history.audits:
                return number
            audits.check_none_lies_there(self.directory, number)
            version = read_version(self.directory, self.fixed, history)
            data = audits.audit_version(self.fixed, version, oracles=oracles, notify=notify)
            audits.write_aside(self._opened.disk, self.directory, number, data)
            line = Audited(version=number, file=sha256(data))
            history = self._opened.add(line, "The audit was not kept")
            audits.settle_audits(self._opened.disk, self.directory, history)
            return number

    def network(self) -> Classifier:
        """The network of the current version.

        Raises:
            InputError: its files have changed, or an earlier ledger was put back.
        """
        return self._opened.look(self._network)

    def _network(self, history: History) -> Classifier:
        check_known(self.directory, history)
        return current_network(self.directory, self.fixed, history)

    def version(self) -> Version:
        """The current version with its images and its bank, checked."""
        return self._opened.look(self._version)

    def _version(self, history: History) -> Version:
        check_known(self.directory, history)
        return read_version(self.directory, self.fixed, history)

"""The commands of the deletion service."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import tyro

from dcmu_jax.cli.output import Output, progress
from dcmu_jax.errors import InputError
from dcmu_jax.files import write_json
from dcmu_jax.outlets import OutputFailed
from dcmu_jax.reporting.certificate import (
    accuracy_sentence,
    audit_sentence,
    certificate_sentences,
    telltale_sentence,
    write_certificate,
)
from dcmu_jax.runs.config import RunConfig
from dcmu_jax.runs.config_json import from_json
from dcmu_jax.runs.run import Run
from dcmu_jax.service.certificate import named
from dcmu_jax.service.contents import CONFIG
from dcmu_jax.service.entries import read_plain
from dcmu_jax.service.gate import BatchSettings, NotPublished, settings_of
from dcmu_jax.service.ledger import MAX_ACCURACY_LOSS
from dcmu_jax.service.remains import listed
from dcmu_jax.service.verification import verify
from dcmu_jax.service.workspace import Workspace
from dcmu_jax.unlearning.modular import ModularUnlearning
from dcmu_jax.unlearning.task import Hooks


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Create:
    """A saved run and the folder of the new workspace.

    Attributes:
        run: directory of a run, as `dcmu train` leaves it.
        out: directory of the workspace, not there yet.
        max_accuracy_loss: points of test accuracy, on the classes that stay, that a batch may
            cost; one that costs more is not published.
        devices: how many share the work; as the run was started with if not given.
        quiet: no progress bars.
    """

    run: tyro.conf.Positional[Path]
    out: Path
    devices: int | None = None
    max_accuracy_loss: float = MAX_ACCURACY_LOSS
    quiet: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Workspace:
    """A workspace.

    Attributes:
        directory: of the workspace.
    """

    directory: tyro.conf.Positional[Path]


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Work(_Workspace):
    """A workspace.

    Attributes:
        quiet: no progress bars.
    """

    quiet: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Schedules:
    """The settings of a batch.

    Attributes:
        online: where single samples go.
        online_classes: where only whole classes are forgotten.
    """

    online: ModularUnlearning
    online_classes: ModularUnlearning


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProcessCommand(_Work):
    """A workspace and the settings of this batch alone; the ledger records them.

    Attributes:
        preset: whose schedules this batch follows: those of the workspace if not given. The
            offline phase of another preset is not run.
        accept_accuracy_loss: points of test accuracy that this batch may cost, in place of the
            limit of the workspace.
        method: the schedules.
        given: whether any of these three is given.
    """

    preset: str
    accept_accuracy_loss: float | None = None
    method: _Schedules
    given: tyro.conf.Suppress[bool] = False


_OF_A_BATCH = ("--preset", "--method", "--accept-accuracy-loss")


def process_defaults(argv: Sequence[str], preset: str | None) -> ProcessCommand:
    """The defaults of ``dcmu process``: the settings of the workspace that ``argv`` names.

    Args:
        argv: the arguments; one of them is the workspace.
        preset: in place of the workspace's.
    """
    made = []
    for path in (Path(argument) for argument in argv if not argument.startswith("-")):
        with contextlib.suppress(OSError, InputError):  # Workspace says what is wrong with it
            raw = read_plain(path / CONFIG).decode(errors="replace")
            command = _defaults_of(from_json(raw, str(path)), argv, preset)
            made.append((path, command))
    if not made:
        return _defaults_of(RunConfig(), argv, preset)
    # A folder may be called as the value of an option is: which it is, the parser knows.
    of_it = (command for path, command in made if _directory(argv, command) == path)
    return made[0][1] if len(made) == 1 else next(of_it, made[0][1])


def _directory(argv: Sequence[str], defaults: ProcessCommand) -> Path | None:
    """The workspace that the parser takes from ``argv``; None where it refuses them."""
    try:
        parsed = tyro.cli(ProcessCommand, args=list(argv), default=defaults, console_outputs=False)
    except (SystemExit, InputError):
        return None
    return parsed.directory


def _defaults_of(config: RunConfig, argv: Sequence[str], preset: str | None) -> ProcessCommand:
    """The defaults of ``dcmu process`` on a workspace with these settings."""
    chosen = settings_of(config, preset)
    command = ProcessCommand(
        directory=Path(),
        preset=chosen.preset,
        method=_Schedules(online=chosen.online, online_classes=chosen.online_classes),
        given=any(word.replace("_", "-").startswith(_OF_A_BATCH) for word in argv),
    )
    object.__setattr__(command, "directory", tyro.MISSING)  # no default: it has to be given
    return command


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Gate(_Workspace):
    """A workspace and its limit.

    Attributes:
        points: of test accuracy, on the classes that stay, that a batch may cost from here on.
    """

    points: tyro.conf.Positional[float]


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Request(_Workspace):
    """A workspace and what to forget.

    Attributes:
        forget: ids:FILE, ids:3,17,29, class:2, random:0.1, or several joined by +.
        reference: a name of your own; asked again under it, the request is the same one.
        with_copies: ask as well for training samples that have the same images under other ids.
    """

    forget: tyro.conf.Positional[str]
    reference: str | None = None
    with_copies: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Certificate(_Work):
    """A workspace and one of its versions.

    Attributes:
        version: number of the version; the first batch makes version 1.
        out: folder for the certificate as JSON and as a page.
        audit: oracles to hold the current version against first, 4 or more; 0 for none. Kept.
    """

    version: tyro.conf.Positional[int]
    out: Path = Path(".")
    audit: int = 0


def _create(args: _Create, console: Output) -> None:
    """Make a workspace of a saved run: its network, its bank, a copy of its images."""
    run = Run.open(args.run, devices=args.devices, progress=progress(args.quiet))
    workspace = Workspace.create(run, args.out, max_accuracy_loss=args.max_accuracy_loss)
    console.say(f"Workspace {args.out}: {len(workspace.fixed.known)} samples, version 0")


def _request(args: _Request, console: Output) -> None:
    """Acknowledge a deletion request: once answered it is on disk."""
    answer = Workspace(args.directory).request(
        args.forget, reference=args.reference, with_copies=args.with_copies
    )
    try:
        console.say(answer.sentence())
        console.file.flush()
    except OSError as error:  # it may not be asked for again, if nobody hears of it
        said = f"The request is on record, but the answer cannot be written: {answer.sentence()}"
        with contextlib.suppress(OSError):
            print(said, file=sys.stderr, flush=True)
        raise OutputFailed(error) from error


def _process(args: ProcessCommand, console: Output) -> None:
    """Forget all that is pending as one batch, and publish the new network."""
    workspace = Workspace(args.directory)
    settings = BatchSettings(
        preset=args.preset, online=args.method.online, online_classes=args.method.online_classes
    )
    try:
        done = workspace.process(
            Hooks(progress(args.quiet)),
            settings=settings if args.given else None,
            accept_accuracy_loss=args.accept_accuracy_loss,
            notify=console.say,
        )
    except NotPublished as error:
        _say_published(workspace, error.published, console)
        raise
    _say_published(workspace, done, console)
    if not done:
        console.say("Nothing was pending.")
    console.say(f"Current network: {workspace.status().network}")


def _say_published(workspace: Workspace, versions: Sequence[int], console: Output) -> None:
    for version in versions:
        certificate = workspace.certificate(version)
        console.say(certificate_sentences(certificate)[0])
        if certificate["record"].get("accuracy_before"):  # of a batch; not of a purge
            record = certificate["record"]
            console.say(accuracy_sentence(record), telltale_sentence(record))


def _gate(args: _Gate, console: Output) -> None:
    """Set how much test accuracy a batch may cost from here on; the ledger records it."""
    Workspace(args.directory).set_max_accuracy_loss(args.points)
    console.say(f"From here on a batch may cost {args.points:g} points of test accuracy.")


def _status(args: _Workspace, console: Output) -> None:
    """Say where a workspace stands."""
    status = dataclasses.asdict(Workspace(args.directory).status())
    notes = status.pop("notes")
    for name, value in status.items():
        console.say(f"{name:12} {'-' if value is None else value}")
    console.say(*(f"Note: {note}" for note in notes))


def _verify(args: _Workspace, console: Output) -> None:
    """Check the ledger's chain, every file, and that nothing forgotten can be trained on."""
    found = verify(args.directory)
    console.say(*(f"Note: {note}" for note in found.notes))
    if not found.clean:
        raise InputError(
            f"{len(found.problems)} problem(s) in {str(args.directory)!r}: "
            + "; ".join(found.problems[:20]),
            "a workspace as the service left it",
            "Put back what has changed as it was, and nothing that was purged: single files from a "
            "copy, but the ledger and its head only both, and as they were at the last request. "
            "Move out of the workspace what is in no manifest",
        )
    console.say("The workspace is as the service left it.")


def _certificate(args: _Certificate, console: Output) -> None:
    """Write what a version forgot, when, how and at what cost."""
    workspace = Workspace(args.directory)
    if args.audit:
        if args.version != workspace.status().version:
            raise InputError(
                f"An audit of version {args.version}",
                f"the current version, {workspace.status().version}",
                "Leave --audit out for an earlier one",
            )
        workspace.audit(oracles=args.audit)
    certificate = workspace.certificate(args.version)
    try:
        path = named(args.out, certificate)
        page = path.with_suffix(".html")
        for file in (page, path.with_suffix(".json")):  # before either is written
            if file.is_dir():
                raise IsADirectoryError(errno.EISDIR, f"{file.name} is a folder")
        write_json(path.with_suffix(".json"), certificate)
        write_certificate(page, certificate, workspace.fixed.name)
    except OSError as error:
        raise InputError(
            f"The certificate cannot be written to {str(args.out)!r} ({error.strerror})",
            "a folder that can be written to",
            "Choose another --out",
        ) from error
    console.say(*certificate_sentences(certificate))
    if certificate["audit"]:
        console.say(audit_sentence(certificate["audit"]))
    console.say(f"Certificate: {page} and {path.with_suffix('.json').name}")


def _purge(args: _Work, console: Output) -> None:
    """Remove forgotten images and all that was made of them from the workspace."""
    workspace = Workspace(args.directory)
    version = workspace.purge(Hooks(progress(args.quiet)))
    console.say(*(f"Note: {note}" for note in workspace.status().notes))
    left = workspace.remains()
    where = ", ".join([*left.files, *left.made_of_them])
    if version is not None:
        removed = workspace.certificate(version)["record"]["images_removed"]
        done = f"version {version} has a bank made without them."
        console.say(f"{removed} images {'left out' if where else 'removed'}; {done}")
    elif not where:
        as_written = "no file that is as the service wrote it holds a forgotten image."
        console.say(f"Nothing to purge: {as_written}")
    if left.unknown:
        console.say(
            "What some files in the workspace hold is not known, as they are not what the service "
            f"wrote: {listed(left.unknown)}. Move them out of it; no purge reaches them.",
        )
    if where:
        raise InputError(
            f"Forgotten images, or what was made of them, still lie in the workspace: {where}",
            "a workspace in which only the service puts files",
            "Remove by hand what is a copy of your own: dcmu purge removes what the service wrote",
        )
    if version is not None:
        console.say(REMAINS)


REMAINS = (
    "What remains elsewhere: the run and the data set that the workspace was made from, copies and "
    "backups of either, networks of earlier versions that were copied out, and whatever the file "
    "system keeps of removed files. In the workspace remain ids, labels and numbers, the mean and "
    "spread of all pixels in the network's normalisation, and the network itself, which descends "
    "from one that saw the images: an audit says how much of that shows."
)
"""What ``dcmu purge`` does not reach."""

SERVICE_COMMANDS: dict[str, tuple[Callable[[Any, Output], None], type]] = {
    "workspace": (_create, _Create),
    "request": (_request, _Request),
    "process": (_process, ProcessCommand),
    "gate": (_gate, _Gate),
    "status": (_status, _Workspace),
    "verify": (_verify, _Workspace),
    "certificate": (_certificate, _Certificate),
    "purge": (_purge, _Work),
}
"""Name -> handler and its arguments; ``dcmu_jax.cli`` runs them."""

"""The command line `dcmu`: the main job, whole or by stages; `cli_*.py` have the other commands."""

from __future__ import annotations

import dataclasses
import datetime
import errno
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from dcmu_jax.outlets import Interrupted, ended, quiet_imports

with quiet_imports():  # which take seconds
    import tyro
    from rich.console import Console
    from rich.text import Text

    import dcmu_jax
    from dcmu_jax.cli_arguments import check_digits, check_words, value_of
    from dcmu_jax.cli_condensed_model import (
        CondensedModelCommand,
        condensed_model,
        condensed_model_defaults,
        with_folder,
    )
    from dcmu_jax.cli_runs import (
        AuditRun,
        CompareRun,
        DefendRun,
        ForgetRun,
        NewRun,
        PrepareRun,
        SavedRun,
    )
    from dcmu_jax.cli_service import SERVICE_COMMANDS, ProcessCommand, process_defaults
    from dcmu_jax.data.copies import copies_sentence
    from dcmu_jax.data.requests import ForgetRequest
    from dcmu_jax.errors import InputError, check_numbers, unknown_name
    from dcmu_jax.pipeline import stages
    from dcmu_jax.pipeline.auditing import audit_run
    from dcmu_jax.pipeline.config import RunConfig
    from dcmu_jax.pipeline.config_json import differing_settings
    from dcmu_jax.pipeline.cost import CostWarning, cost_warning
    from dcmu_jax.pipeline.presets import PRESETS, preset
    from dcmu_jax.pipeline.run import Run
    from dcmu_jax.pipeline.stages import short_classes
    from dcmu_jax.reporting.audits import (
        audit_sentences,
        audit_table,
        trace_sentences,
        trace_table,
    )
    from dcmu_jax.reporting.certificate import accuracy_sentence
    from dcmu_jax.reporting.comparison import Comparison, compare, renew_report
    from dcmu_jax.reporting.defending import defend_run
    from dcmu_jax.reporting.progress import training_progress
    from dcmu_jax.reporting.tables import cost_table, terminal_table
    from dcmu_jax.service.shape import check_outside
    from dcmu_jax.training.devices import check_platform, is_writer
    from dcmu_jax.training.processes import ended_together, start


def _say(console: Console, text: str) -> None:
    """Print as it is: a path in it can be copied, however narrow the terminal."""
    console.print(Text(text), soft_wrap=True)


def _progress(quiet: bool) -> Callable[[str, int], Any]:
    return lambda name, epochs: training_progress(name, epochs, enabled=not quiet)


def _start(args: NewRun, console: Console) -> Run:
    start(args.several)  # before anything is computed
    if not is_writer():
        console.quiet = True
    progress = _progress(args.quiet)
    if args.resume and args.start_or_resume:
        raise InputError("--resume with --start-or-resume", "one of them", "Leave one out")
    if args.start_or_resume:
        if args.out is None:
            raise InputError(
                "--start-or-resume without --out", "it with the --out of the run", "Add --out DIR"
            )
        return Run.create_or_open(args.out, args.config, progress=progress)
    if args.resume:
        if args.out is None:
            raise InputError(
                "--resume without --out", "--resume with the --out of a run", "Add --out DIR"
            )
        run = Run.open(args.out, devices=args.now_devices, progress=progress)
        _check_resumed(args, run)
        return run
    assert args.out is not None  # see _named
    run = Run.create(args.out, args.config, progress=progress)
    _say(console, f"Run directory: {args.out}")
    others = [name for name in run.presets if name != run.config.preset]
    if others and run.config.method != preset(run.config.preset, run.config.model):
        _say(
            console,
            f"--method options are settings of {run.config.preset} alone; {', '.join(others)} "
            "among the rivals: as published, or as RunConfig.settings says in Python.",
        )
    return run


def _check_resumed(args: NewRun, run: Run) -> None:
    """Raise where a setting beside ``--resume`` is another than that of the run."""
    # Those of Python are no options. With the saved ones for defaults, what differs was typed.
    saved = dataclasses.replace(run.config, settings={})
    typed = tyro.cli(NewRun, args=list(args.words), default=NewRun(config=saved)).config
    others = differing_settings(saved, dataclasses.replace(typed, devices=saved.devices))
    if others:
        said = [
            f"--{name.replace('_', '-')} = {now!r} where the run has {was!r}"
            for name, (was, now) in others.items()
        ]
        raise InputError(
            f"--resume with {', '.join(said)}",
            "the settings that the run was started with, which --resume takes from it, and any "
            "--devices",
            "Leave those options out, or start a new run (another --out, no --resume)",
        )


def _open(args: SavedRun) -> Run:
    return Run.open(args.directory, devices=args.devices, progress=_progress(args.quiet))


def _say_short_classes(run: Run, preset: str, console: Console) -> None:
    notice = short_classes(run.config, preset, run.splits)
    if notice:
        _say(console, notice)


def _say_cost(run: Run, request: ForgetRequest, console: Console) -> None:
    warning = cost_warning(run.config, run.splits, request)
    if warning:
        _say(console, warning)


def _say_copies(run: Run, request: ForgetRequest, console: Console) -> None:
    said = copies_sentence(
        run.copies(request).plain(), "Name them in --forget to forget them, too."
    )
    if said:
        _say(console, said)


def _show(comparison: Comparison, title: str, console: Console) -> None:
    console.print(terminal_table(comparison.measurements, title))
    console.print(cost_table(comparison.measurements, "What it cost"))
    for sentence in comparison.summary:
        _say(console, sentence)
    _say(console, f"Report: {comparison.directory / 'report.html'}")


def _run(args: NewRun, console: Console) -> None:
    """Train a model, prepare, forget, and compare with retraining: the whole main job."""
    run = _start(args, console)
    request = run.request(run.config.forget)
    _say_copies(run, request, console)
    _say_cost(run, request, console)
    for name in run.presets:
        _say_short_classes(run, name, console)
    _show(compare(run, request), f"Forgetting {request.text} from {run.splits.name}", console)


def _train(args: NewRun, console: Console) -> None:
    """Train the original model of a new run."""
    run = _start(args, console)
    network = run.train()
    accuracy = 100 * network.evaluate(run.splits.test).correct.mean()
    _say(console, f"Original in {run.directory}; accuracy on the test split {accuracy:.2f} %")


def _prepare(args: PrepareRun, console: Console) -> None:
    """Run the offline phase of a saved run: clusters, condensed images, offline training."""
    run = _open(args)
    if args.preset is not None and args.preset not in run.presets:
        raise unknown_name("preset of this run", args.preset, run.presets)
    _say_short_classes(run, args.preset or run.config.preset, console)
    prepared = run.prepare(args.preset)
    bank = prepared.bank
    _say(
        console,
        f"{len(bank.labels)} condensed images of {len(bank.ids)} samples, matching loss "
        f"{bank.initial_loss.mean():.4g} -> {bank.final_loss.mean():.4g}, "
        f"{prepared.offline_s:.1f} s",
    )


def _forget(args: ForgetRun, console: Console) -> None:
    """Serve a request on a saved run: the online phase."""
    run = _open(args)
    if args.method is not None and args.method not in run.methods:
        raise unknown_name("method of this run", args.method, run.methods)
    request = run.request(args.forget or run.config.forget)
    _say_copies(run, request, console)
    if args.method in (None, run.config.preset):
        _say_cost(run, request, console)
    found = run.unlearn(request, args.method)
    served = found.unlearned
    _say(
        console,
        f"{len(request.ids)} samples forgotten in {served.online_s:.2f} s, trained on "
        f"{served.reduction:.3f} of the retain set; new model in {found.directory / 'network'}",
    )
    before, after = (
        stages.accuracies_of(run.config, network, run.splits, request)
        for network in (run.train(), served.classifier)
    )
    _say(console, accuracy_sentence({"accuracy_before": before, "accuracy": after}))


def _compare(args: CompareRun, console: Console) -> None:
    """Compare every method of a saved run on a request, and write the report."""
    run = _open(args)
    request = run.request(args.forget or run.config.forget)
    _say_copies(run, request, console)
    _show(compare(run, request), f"Forgetting {request.text} from {run.splits.name}", console)


def _audit(args: AuditRun, console: Console) -> None:
    """Hold every network of a saved run against networks that never saw what must go."""
    run = _open(args)
    request = run.request(args.forget or run.config.forget)

    def notify(done: int, of: int) -> None:
        if not args.quiet:
            _say(console, f"{done} of {of} oracles trained")

    audit = audit_run(run, request, oracles=args.oracles, notify=notify)
    report = compare(run, request, audit).directory / "report.html"
    console.print(audit_table(audit.audits, f"Audit of forgetting {request.text}"))
    for sentence in audit_sentences(audit.audits):
        _say(console, sentence)
    if audit.traces:
        console.print(trace_table(audit.traces, "What is left of the forgotten class"))
        for sentence in trace_sentences(audit.traces):
            _say(console, sentence)
    _say(console, f"Report: {report}")


def _defend(args: DefendRun, console: Console) -> None:
    """Unlearn what the original of a saved run is overfitted on, against membership inference."""
    args.options.check()
    run = _open(args)

    def notify(done: int, of: int) -> None:
        if not args.quiet:
            _say(console, f"{done} of {of} shadow networks trained")

    defended = defend_run(run, args.options, notify=notify)
    for sentence in defended.sentences:
        _say(console, sentence)
    _say(console, f"New model in {defended.directory / 'network'}")
    report = renew_report(run, defended.directory)
    _say(console, f"Report: {report or defended.directory / 'defence.html'}")


_COMMANDS: dict[str, tuple[Callable[[Any, Console], None], type]] = {
    "run": (_run, NewRun),
    "train": (_train, NewRun),
    "prepare": (_prepare, PrepareRun),
    "forget": (_forget, ForgetRun),
    "compare": (_compare, CompareRun),
    "audit": (_audit, AuditRun),
    "condensed-model": (condensed_model, CondensedModelCommand),
    "defend": (_defend, DefendRun),
    **SERVICE_COMMANDS,
}


def _parse(command: str, argv: Sequence[str]) -> Any:
    handler, kind = _COMMANDS[command]
    options: dict[str, Any] = {}
    if kind is NewRun:
        chosen, model = value_of("preset", argv, "recommended"), value_of("model", argv, "mlp")
        if chosen not in PRESETS:
            raise unknown_name("preset", chosen, PRESETS)
        given = value_of("devices", argv, "")  # what is no number, the parser refuses
        options["default"] = NewRun(
            config=RunConfig(preset=chosen, model=model),
            now_devices=int(given) if given.isdecimal() else None,
            words=tuple(argv),
        )
    if kind is ProcessCommand:
        options["default"] = process_defaults(argv, value_of("preset", argv, "") or None)
    if kind is CondensedModelCommand:
        chosen = value_of("preset", argv, "recommended")
        given = value_of("devices", argv, "")
        devices = int(given) if given.isdecimal() else None
        options["default"] = condensed_model_defaults(chosen, value_of("run", argv, ""), devices)
    return tyro.cli(
        kind,
        prog=f"dcmu {command}",
        description=handler.__doc__,
        args=list(argv),
        **options,
    )


def _usage() -> str:
    lines = [f"  {name:15} {handler.__doc__}" for name, (handler, _) in _COMMANDS.items()]
    return (
        "usage: dcmu COMMAND [options]\n\nDataset-condensation-driven machine unlearning.\n\n"
        + "\n".join(lines)
        + "\n\ndcmu COMMAND --help shows every option and its default."
    )


def _named(args: Any) -> Any:
    """Arguments whose directory is settled, so that an interrupted command can name it."""
    if isinstance(args, CondensedModelCommand):
        return with_folder(args)
    new = isinstance(args, NewRun) and not (args.resume or args.start_or_resume)
    if not new or args.out is not None:
        return args
    now = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    source, config = args.config.dataset.split(":")[0], args.config
    return dataclasses.replace(
        args, out=Path("runs") / f"{now}-{source}-{config.model}-{config.preset}"
    )


def _go_on(argv: Sequence[str], args: Any) -> list[str]:
    """The arguments that go on with an interrupted command."""
    words, out = list(argv), getattr(args, "out", None)
    if argv[0] == "request" and args is not None and args.reference is None:
        return ["status", str(args.directory)]  # says whether it was acknowledged
    if argv[0] not in ("run", "train", "condensed-model") or out is None or not out.is_dir():
        return words
    if not value_of("out", argv, ""):
        words += ["--out", str(out)]
    if isinstance(args, NewRun) and not (args.resume or args.start_or_resume):
        words.append("--resume")
    return words


class _Console(Console):
    """A console that leaves it to ``main`` what to do when its reader has gone."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


def _command(argv: Sequence[str]) -> int:
    # A file or a pipe has no width; the tables need some 105 columns.
    console = _Console() if sys.stdout.isatty() else _Console(width=120)
    if not argv or argv[0] in ("-h", "--help"):
        print(_usage())
        return 0 if argv else 2
    if argv[0] == "--version":
        print(dcmu_jax.__version__)
        return 0
    if argv[0] not in _COMMANDS:
        raise unknown_name("command", argv[0], _COMMANDS)
    check_words(argv)
    args = None
    try:
        args = _named(_parse(argv[0], argv[1:]))
        check_digits(argv[1:], args)
        if isinstance(getattr(args, "out", None), Path):
            check_outside(args.out)
        for field in dataclasses.fields(args):
            value = getattr(args, field.name)
            check_numbers(value, "" if dataclasses.is_dataclass(value) else field.name)
        several = getattr(args, "several", None)
        if several is None or not several.several:
            check_platform()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CostWarning)  # see ``_say_cost``
            _COMMANDS[argv[0]][0](args, console)
    except Interrupted as stop:
        stop.go_on = _go_on(argv, args)
        raise
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        The exit status: 0; 2 for bad input; 1 where the machine failed; 141 where the reader of
        the output has gone; 130 and 143 after Ctrl-C and SIGTERM.

    Raises:
        SystemExit: 0 after ``dcmu COMMAND --help``, 2 for arguments that the parser refuses.
    """
    argv = list(sys.argv[1:] if argv is None else argv)

    def work() -> int:
        with ended_together():
            return _command(argv)

    return ended(work, argv)


if __name__ == "__main__":
    sys.exit(main())

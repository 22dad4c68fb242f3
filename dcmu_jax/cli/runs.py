"""The commands on a run: their arguments, of which tyro makes options, and what they do."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from dcmu_jax.cli.output import Output, progress
from dcmu_jax.data.copies import copies_sentence
from dcmu_jax.data.requests import ForgetRequest
from dcmu_jax.errors import InputError, unknown_name
from dcmu_jax.metrics.measurement import own_columns
from dcmu_jax.metrics.own import measured_by, own_metrics
from dcmu_jax.metrics.telltale import telltale
from dcmu_jax.reporting.audits import (
    audit_sentences,
    audit_table,
    few_oracles,
    trace_sentences,
    trace_table,
)
from dcmu_jax.reporting.certificate import accuracy_sentence
from dcmu_jax.reporting.comparison import Comparison, compare, renew_report
from dcmu_jax.reporting.defending import DefenceOptions, defend_run
from dcmu_jax.reporting.tables import cost_table, own_table, terminal_table
from dcmu_jax.runs import stages
from dcmu_jax.runs.auditing import audit_run
from dcmu_jax.runs.config import RunConfig
from dcmu_jax.runs.config_json import differing_settings
from dcmu_jax.runs.cost import cost_warning, short_classes
from dcmu_jax.runs.presets import preset
from dcmu_jax.runs.run import Run
from dcmu_jax.training.classifier import Classifier
from dcmu_jax.training.devices import is_writer
from dcmu_jax.training.processes import ProcessOptions, start


@dataclasses.dataclass(frozen=True, kw_only=True)
class NewRun:
    """Settings of a new run.

    Attributes:
        config: the settings; `--preset` and `--model` choose the defaults of the rest.
        out: directory of the run; runs/DATE-... if not given.
        resume: go on with the run in `out`, with the settings it was started with.
        start_or_resume: go on with the run in `out` if it is there, with the same settings as now;
            start it if not. One command for both, as a scheduler needs it.
        several: processes that share the run.
        quiet: no progress bars.
        now_devices: what `--devices` says, if it does.
        words: the options as they were typed.
    """

    config: Annotated[RunConfig, tyro.conf.arg(name="")]
    out: Path | None = None
    resume: bool = False
    start_or_resume: bool = False
    several: Annotated[ProcessOptions, tyro.conf.arg(name="")] = ProcessOptions()
    quiet: bool = False
    now_devices: tyro.conf.Suppress[int | None] = None
    words: tyro.conf.Suppress[tuple[str, ...]] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class SavedRun:
    """A run that was started before.

    Attributes:
        directory: of the run.
        devices: how many share the work now; as the run was started with if not given.
        quiet: no progress bars.
    """

    directory: tyro.conf.Positional[Path]
    devices: int | None = None
    quiet: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class PrepareRun(SavedRun):
    """A saved run and the preset to prepare.

    Attributes:
        preset: the run's own if not given.
    """

    preset: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class CompareRun(SavedRun):
    """A saved run and a request.

    Attributes:
        forget: what to forget; the run's own request if not given.
        metrics: of your own, as file.py:attribute; besides those the run was started with.
    """

    forget: str | None = None
    metrics: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class ForgetRun(CompareRun):
    """A saved run, a request, and the method that serves it.

    Attributes:
        method: a preset, or another registered method; the run's own preset if not given.
    """

    method: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class AuditRun(CompareRun):
    """A saved run, a request, and how thoroughly to audit.

    Attributes:
        oracles: networks to train without the forgotten samples, 4 or more.
    """

    oracles: int = 16


@dataclasses.dataclass(frozen=True, kw_only=True)
class DefendRun(SavedRun):
    """A saved run, and how its original network is defended.

    Attributes:
        options: see the options of the defence.
    """

    options: Annotated[DefenceOptions, tyro.conf.arg(name="")] = DefenceOptions()


def _start(args: NewRun, console: Output) -> Run:
    start(args.several)  # before anything is computed
    if not is_writer():
        console.quiet = True
    shown = progress(args.quiet)
    if args.resume and args.start_or_resume:
        raise InputError("--resume with --start-or-resume", "one of them", "Leave one out")
    if args.start_or_resume:
        if args.out is None:
            raise InputError(
                "--start-or-resume without --out", "it with the --out of the run", "Add --out DIR"
            )
        return Run.create_or_open(args.out, args.config, progress=shown)
    if args.resume:
        if args.out is None:
            raise InputError(
                "--resume without --out", "--resume with the --out of a run", "Add --out DIR"
            )
        run = Run.open(args.out, devices=args.now_devices, progress=shown)
        _check_resumed(args, run)
        return run
    assert args.out is not None  # see _named
    run = Run.create(args.out, args.config, progress=shown)
    console.say(f"Run directory: {args.out}")
    others = [name for name in run.presets if name != run.config.preset]
    if others and run.config.method != preset(run.config.preset, run.config.model):
        console.say(
            f"--method options are settings of {run.config.preset} alone; {', '.join(others)} "
            "among the baselines: as published, or as RunConfig.settings says in Python.",
        )
    return run


def _check_resumed(args: NewRun, run: Run) -> None:
    """Raise where a setting given with ``--resume`` is another than that of the run."""
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
    return Run.open(args.directory, devices=args.devices, progress=progress(args.quiet))


def _asked(args: CompareRun) -> tuple[Run, ForgetRequest]:
    run = _open(args)
    return run, run.request(args.forget or run.config.forget)


_TYPED_IDS = 200


def _with_copies(request: ForgetRequest, copies: np.ndarray) -> str:
    """What to type to forget the copies, too: a draw beside other ids would be another draw."""
    if not re.search(r"(^|\+)\s*random\s*:", request.text):
        return "Name them in --forget to forget them, too."
    every = np.union1d(request.ids, copies).tolist()
    if len(every) > _TYPED_IDS:
        return (
            "To forget them, too, ask from Python, where run is this one: asked = "
            f"run.request({request.text!r}); run.request([*asked.ids, *run.copies(asked).train])."
        )
    return f"Give --forget ids:{','.join(map(str, every))} to forget them, too."


def _say_copies(run: Run, request: ForgetRequest, console: Output) -> None:
    copies = run.copies(request)
    console.say(copies_sentence(copies.plain(), _with_copies(request, copies.train)))


def _show(comparison: Comparison, title: str, console: Output) -> None:
    console.print(terminal_table(comparison.measurements, title))
    console.print(cost_table(comparison.measurements, "What it cost"))
    if own_columns(comparison.measurements):
        console.print(own_table(comparison.measurements, "Metrics of your own"))
    console.say(*comparison.summary, f"Report: {comparison.directory / 'report.html'}")


def _run(args: NewRun, console: Output) -> None:
    """Train a model, prepare, forget, and compare with retraining: the whole main job."""
    run = _start(args, console)
    request = run.request(run.config.forget)
    _say_copies(run, request, console)
    console.say(cost_warning(run.config, run.splits, request))
    for name in run.presets:
        console.say(short_classes(run.config, name, run.splits))
    _show(compare(run, request), f"Forgetting {request.text} from {run.splits.name}", console)


def _train(args: NewRun, console: Output) -> None:
    """Train the original model of a new run."""
    run = _start(args, console)
    network = run.train()
    accuracy = 100 * network.evaluate(run.splits.test).correct.mean()
    console.say(
        f"Original in {run.directory}; accuracy on the whole test split {accuracy:.2f} % (tables "
        "and certificates leave its remembrance samples out)"
    )


def _prepare(args: PrepareRun, console: Output) -> None:
    """Run the offline phase of a saved run: clusters, condensed images, training."""
    run = _open(args)
    if args.preset is not None and args.preset not in run.presets:
        raise unknown_name("preset of this run", args.preset, run.presets)
    console.say(short_classes(run.config, args.preset or run.config.preset, run.splits))
    prepared = run.prepare(args.preset)
    bank = prepared.bank
    console.say(
        f"{len(bank.labels)} condensed images of {len(bank.ids)} samples, matching loss "
        f"{bank.initial_loss.mean():.4g} -> {bank.final_loss.mean():.4g}, "
        f"{prepared.offline_s:.1f} s",
    )


def _forget(args: ForgetRun, console: Output) -> None:
    """Serve a request on a saved run: the online phase."""
    run = _open(args)
    if args.method is not None and args.method not in run.methods:
        raise unknown_name("method of this run", args.method, run.methods)
    request = run.request(args.forget or run.config.forget)
    metrics = own_metrics(run.config.metrics) | own_metrics(args.metrics)
    own_before = _own(run, run.train(), request, metrics) if metrics else {}
    _say_copies(run, request, console)
    if args.method in (None, run.config.preset):
        console.say(cost_warning(run.config, run.splits, request))
    found = run.unlearn(request, args.method)
    served = found.unlearned
    share = "an unknown share" if served.reduction is None else f"{served.reduction:.3f}"
    console.say(
        f"{len(request.ids)} samples forgotten in {served.online_s:.2f} s, trained on "
        f"{share} of the retain set; new model in {found.directory / 'network'}",
    )
    before, after = (
        _accuracies(run, network, request) for network in (run.train(), served.classifier)
    )
    console.say(accuracy_sentence({"accuracy_before": before, "accuracy": after}))
    console.say(telltale(served.classifier, run.splits, request, run.usable_tests()))
    own_after = _own(run, served.classifier, request, metrics)
    for name, value in own_before.items():
        console.say(f"{name}: {value:.4g} before, {own_after[name]:.4g} after")


def _own(
    run: Run, network: Classifier, request: ForgetRequest, metrics: dict[str, Any]
) -> dict[str, float]:
    """What metrics of the user's own say of a network of a run."""
    train, test = run.splits.train, run.splits.test.take(run.usable_tests())
    sets = {"retain": train.without(request), "forget": train.only(request), "test": test}
    return measured_by(metrics, network, **sets)


def _accuracies(run: Run, network: Classifier, request: ForgetRequest) -> dict[str, float | None]:
    """Accuracies (%) on the retain set and on test images of the classes that stay.

    Those that the preset of the run may train on are left out. None where there are none.
    """
    retain = run.splits.train.without(request.ids)
    remembered = stages.remembrance_of(run.config, run.config.preset, run.splits).ids
    test = run.splits.test.without(remembered)
    test = test.take(np.isin(test.labels, retain.labels))
    return {
        name: 100 * float(network.evaluate(data).correct.mean()) if len(data) else None
        for name, data in (("retained", retain), (stages.TEST_STAYING, test))
    }


def _compare(args: CompareRun, console: Output) -> None:
    """Compare every method of a saved run on a request, and write the report."""
    run, request = _asked(args)
    _say_copies(run, request, console)
    found = compare(run, request, metrics=args.metrics)
    _show(found, f"Forgetting {request.text} from {run.splits.name}", console)


def _audit(args: AuditRun, console: Output) -> None:
    """Compare every network of a saved run with networks that never saw the forget set."""
    run, request = _asked(args)
    notify = console.counter("oracles", args.quiet)
    for named in (run.config.metrics, args.metrics):  # before any oracle is trained
        own_metrics(named)
    audit = audit_run(run, request, oracles=args.oracles, notify=notify)
    comparison = compare(run, request, audit, args.metrics)
    report = comparison.directory / "report.html"
    if own_columns(comparison.measurements):
        console.print(own_table(comparison.measurements, "Metrics of your own"))
    console.print(audit_table(audit.audits, f"Audit of forgetting {request.text}"))
    console.say(*audit_sentences(audit.audits), few_oracles(args.oracles))
    if audit.traces:
        console.print(trace_table(audit.traces, "What is left of the forgotten class"))
        console.say(*trace_sentences(audit.traces))
    console.say(f"Report: {report}")


def _defend(args: DefendRun, console: Output) -> None:
    """Unlearn what the original of a run is overfitted on, against inference."""
    args.options.check()
    run = _open(args)
    notify = console.counter("shadow models", args.quiet)
    defended = defend_run(run, args.options, notify=notify)
    console.say(*defended.sentences, f"New model in {defended.directory / 'network'}")
    report = renew_report(run, defended.directory)
    console.say(f"Report: {report or defended.directory / 'defence.html'}")


RUN_COMMANDS: dict[str, tuple[Callable[[Any, Output], None], type]] = {
    "run": (_run, NewRun),
    "train": (_train, NewRun),
    "prepare": (_prepare, PrepareRun),
    "forget": (_forget, ForgetRun),
    "compare": (_compare, CompareRun),
    "audit": (_audit, AuditRun),
    "defend": (_defend, DefendRun),
}
"""Name -> handler and its arguments; ``dcmu_jax.cli.commands`` runs them."""

"""The command of the condensed model: unlearn it, replace its final, compare, draw, report."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from dcmu_jax.applications.condensed_model_run import CondensedModelConfig, run_condensed_model
from dcmu_jax.applications.condensed_model_settings import construction
from dcmu_jax.cli.output import Output, dated, progress
from dcmu_jax.errors import InputError
from dcmu_jax.files import write_rows
from dcmu_jax.reporting.comparison import renew_report
from dcmu_jax.reporting.condensed_model import condensed_model_table, condensed_section
from dcmu_jax.reporting.html import about, write_page
from dcmu_jax.reporting.sections import save_section
from dcmu_jax.runs.run import Run
from dcmu_jax.training.environment import environment
from dcmu_jax.unlearning.task import Hooks


@dataclasses.dataclass(frozen=True, kw_only=True)
class CondensedModelCommand:
    """Settings of a condensed model, and where it is kept.

    Attributes:
        config: the settings; `--preset` and `--run` choose the defaults of the rest.
        run: a saved run: its data, request and seeds are the defaults, and its report shows what
            comes out.
        out: directory, runs/DATE-... or in the folder condensed-model of the run if not given; one
            with a part of this work is gone on with.
        devices: how many share the work of the run; as it was started with if not given.
        quiet: no progress bars.
    """

    config: Annotated[CondensedModelConfig, tyro.conf.arg(name="")]
    run: Path | None = None
    out: Path | None = None
    devices: int | None = None
    quiet: bool = False


def condensed_model_defaults(
    name: str, run: str = "", devices: int | None = None
) -> CondensedModelCommand:
    """The command's defaults.

    Args:
        name: of the construction.
        run: directory of a saved run whose data, request and seeds are taken; none if empty.
        devices: see ``CondensedModelCommand``.

    Raises:
        InputError: an unknown construction, or no such run.
    """
    config = CondensedModelConfig(preset=name, construction=construction(name))
    if run:
        saved = Run.open(Path(run), devices=devices).config
        config = dataclasses.replace(
            config,
            dataset=saved.dataset,
            forget=saved.forget,
            seed=saved.seed,
            forget_seed=saved.forget_seed,
            test_fraction=saved.data.test_fraction,
            download=saved.data.download,
            directory=saved.data.directory,
        )
    return CondensedModelCommand(config=config)


def with_folder(args: CondensedModelCommand) -> CondensedModelCommand:
    """The command with the directory that it takes, where none is given and no run."""
    if args.out is not None or args.run is not None:
        return args
    out = dated(args.config.dataset.split(":")[0], "condensed-model")
    return dataclasses.replace(args, out=out)


def _folder(args: CondensedModelCommand, run: Run | None) -> Path:
    """Where a condensed model is kept; InputError for one in a run of other data."""
    config = args.config
    if run is None:
        args = with_folder(args)
        assert args.out is not None
        return args.out
    own = run.config.dataset, run.config.data.test_fraction
    if (config.dataset, config.test_fraction) != own:
        raise InputError(
            f"A condensed model of {config.dataset!r} in a run of {own[0]!r}",
            "the data set of the run, its test split cut off in the same way",
            "Leave --dataset and --test-fraction out, or leave --run out",
        )
    within = run.directory / "condensed-model"
    if args.out is not None and args.out.resolve().parent != within.resolve():
        raise InputError(
            f"--out {str(args.out)!r} with --run {str(args.run)!r}",
            f"a folder in {str(within)!r}, where the report of the run looks",
            "Leave one of the two out",
        )
    return args.out or within / f"{config.target}-{config.preset}-{config.per_class}"


def condensed_model(args: CondensedModelCommand, console: Output) -> None:
    """Unlearn a condensed model, and compare how a target in its place trains."""
    config = args.config
    run = Run.open(args.run, devices=args.devices) if args.run else None
    out = _folder(args, run)
    hooks = Hooks(progress(args.quiet))
    rows = run_condensed_model(config, out, hooks)
    write_rows(out / "table.csv", rows)
    title = f"Forgetting {config.forget} from {config.dataset}"
    heading = f"Condensed model: {config.preset}, target {config.target}"
    section = save_section(
        condensed_section(rows, config.construction, f"{heading}, forgetting {config.forget}"), out
    )
    conclusion = str(section.figures[0].conclusion)
    sections = [section, *about(dataclasses.asdict(config), environment())]
    page = f"Condensed model: {title[0].lower()}{title[1:]}"
    write_page(out / "report.html", page, sections)
    console.print(condensed_model_table(rows, title))
    console.say(conclusion)
    report = renew_report(run, out) if run else None
    console.say(f"Table and figures: {out}")
    console.say(f"Report: {report or out / 'report.html'}")

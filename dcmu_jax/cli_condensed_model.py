"""The command of the condensed model: unlearn it, replace its final, compare, draw."""

from __future__ import annotations

import dataclasses
import datetime
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.text import Text

from dcmu_jax.applications.condensed_model_run import CondensedModelConfig, run_condensed_model
from dcmu_jax.applications.condensed_model_settings import construction
from dcmu_jax.reporting.condensed_conclusions import comparison_conclusion
from dcmu_jax.reporting.condensed_diagram import diagram
from dcmu_jax.reporting.condensed_model import (
    comparison_figure,
    condensed_model_table,
    write_rows,
)
from dcmu_jax.reporting.progress import training_progress
from dcmu_jax.reporting.style import save_figure
from dcmu_jax.unlearning.task import Hooks


@dataclasses.dataclass(frozen=True, kw_only=True)
class CondensedModelCommand:
    """Settings of a condensed model, and where it is kept.

    Attributes:
        config: the settings; `--preset` chooses the defaults of the construction.
        out: directory, runs/DATE-... if not given; one with a part of this work is gone on with.
        quiet: no progress bars.
    """

    config: Annotated[CondensedModelConfig, tyro.conf.arg(name="")]
    out: Path | None = None
    quiet: bool = False


def condensed_model_defaults(name: str) -> CondensedModelCommand:
    """The command with the settings of the construction ``name``; InputError for an unknown one."""
    config = CondensedModelConfig(preset=name, construction=construction(name))
    return CondensedModelCommand(config=config)


def condensed_model(args: CondensedModelCommand, console: Console) -> None:
    """Unlearn a condensed model, replace its final by a target, and compare how that trains."""
    config = args.config
    source = config.dataset.split(":")[0]
    now = datetime.datetime.now()
    out = args.out or Path("runs") / f"{now:%Y%m%d-%H%M%S}-{source}-condensed-model"
    hooks = Hooks(lambda name, epochs: training_progress(name, epochs, enabled=not args.quiet))
    rows = run_condensed_model(config, out, hooks)
    write_rows(rows, out / "table.csv")
    save_figure(comparison_figure(rows), out / "comparison.png")
    save_figure(diagram(config.construction), out / "construction.png")
    title = f"Forgetting {config.forget} from {config.dataset}"
    console.print(condensed_model_table(rows, title))
    for sentence in (comparison_conclusion(rows), f"Table and figures: {out}"):
        console.print(Text(sentence), soft_wrap=True)

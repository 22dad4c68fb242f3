"""The arguments of the commands on a run; tyro makes the options of them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from dcmu_jax.pipeline.config import RunConfig
from dcmu_jax.reporting.defending import DefenceOptions
from dcmu_jax.training.processes import ProcessOptions


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
class ForgetRun(SavedRun):
    """A saved run, a request, and the method that serves it.

    Attributes:
        forget: what must go; the run's own request if not given.
        method: a preset, or another registered method; the run's own preset if not given.
    """

    forget: str | None = None
    method: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class CompareRun(SavedRun):
    """A saved run and a request.

    Attributes:
        forget: what must go; the run's own request if not given.
    """

    forget: str | None = None


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

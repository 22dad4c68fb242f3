"""The directory of a run, created atomically with settings, data note and environment."""

from __future__ import annotations

import dataclasses
import os
import shutil
from pathlib import Path

from dcmu_jax.errors import InputError
from dcmu_jax.files import aside_of, held, is_aside_of, remove_left_aside, write_json
from dcmu_jax.reading import read_bytes
from dcmu_jax.runs.config import RunConfig
from dcmu_jax.runs.config_json import from_json, to_file
from dcmu_jax.runs.saved import ENVIRONMENT, DataNote
from dcmu_jax.training.devices import from_writer
from dcmu_jax.training.environment import check_arithmetic, environment


def check_new(directory: Path) -> None:
    """Raise ``InputError`` where something exists already."""
    try:
        there = directory.exists()
    except OSError as error:  # a name too long, say
        raise _not_made(directory, error) from error
    if there:
        raise InputError(
            f"The run directory {str(directory)!r} exists already",
            "a directory that is not there yet",
            "Choose another directory (--out), or go on with that run: --resume, in Python Run.open"
            if (directory / "config.json").exists()
            else "Choose another directory (--out): there is no run in it",
        )


def _not_made(directory: Path, error: OSError) -> InputError:
    return InputError(
        f"The run directory {str(directory)!r} cannot be made ({error.strerror})",
        "a directory in a folder that can be written to",
        "Choose another --out",
    )


def _is_a_beginning(folder: Path) -> bool:
    names = ("config.json", "data.json", "environment.json")
    return all(
        found.name in names or any(is_aside_of(found.name, name) for name in names)
        for found in folder.iterdir()
    )


def make_directory(directory: Path, config: RunConfig, note: DataNote) -> None:
    """Make the directory of a new run, atomically.

    Raises:
        InputError: it cannot be made, or another process was quicker.
    """
    aside = aside_of(directory)
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        remove_left_aside(directory, _is_a_beginning)
        aside.mkdir()
        with held(aside):
            (aside / "config.json").write_text(to_file(config) + "\n", encoding="utf-8")
            write_json(aside / "data.json", dataclasses.asdict(note))
            write_json(aside / "environment.json", environment())
            aside.rename(directory)
    except OSError as error:
        if aside.is_dir():
            check_new(directory)  # another process was quicker
        raise _not_made(directory, error) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def read_settings(directory: Path) -> RunConfig:
    """The settings that process 0 finds in the directory of a run.

    Raises:
        InputError: no run, settings that cannot be read, or another arithmetic than it began with.
    """
    file = directory / "config.json"

    def read() -> bytes:
        if not os.path.isfile(file):  # False also for a name too long
            raise InputError(
                f"{str(directory)!r} is no run directory",
                "a directory made by dcmu run or dcmu train",
                "Check the path, or start a run there with --out",
            )
        return read_bytes(file, "the settings of a run", "Restore it, or start a new run")

    recorded = ENVIRONMENT.read_if_there(directory / "environment.json")
    check_arithmetic(recorded or {}, f"The run {str(directory)!r}")
    return from_json(from_writer(read), str(file))

"""What every benchmark writes: its figures beside the machine, the versions and the command."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import pathlib
import platform
import subprocess
from typing import Any

import jax

from dcmu_jax.files import write_json
from dcmu_jax.training.environment import numerics

RESULTS = pathlib.Path(__file__).resolve().parents[1] / "results"
_PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "scikit-learn", "torch")


def _processor() -> str:
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def describe_machine() -> dict[str, Any]:
    """Processor, usable cores, memory, JAX devices, operating system; nothing of its paths."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = None
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        memory = round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1)
    return {
        "processor": _processor(),
        "cores": cores,
        "memory_gib": memory,
        "devices": [device.device_kind for device in jax.devices()],
        "system": f"{platform.system()} {platform.machine()}",
    }


def describe_versions() -> dict[str, str]:
    """Versions of Python and of the packages that matter, those not installed left out."""
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _commit() -> str | None:
    """The commit of the code, marked where the code differs from it; None outside git."""
    root = pathlib.Path(__file__).resolve().parents[2]

    def git(*arguments: str) -> str:
        run = ["git", *arguments]
        done = subprocess.run(run, cwd=root, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        commit = git("rev-parse", "--short", "HEAD")
        # Results are written while others are measured, and change nothing that is measured.
        changed = git("diff", "--name-only", "HEAD", "--", ":!experiments/results")
    except (OSError, subprocess.CalledProcessError):
        return None
    return f"{commit}-dirty" if changed else commit


def write_result(name: str, figures: dict[str, Any], command: str) -> pathlib.Path:
    """Write ``experiments/results/<name>.json``, replacing an earlier one at once.

    Args:
        name: file name without suffix.
        figures: what was measured; units in the names (``step_ms``, ``ratio``).
        command: how to get it again, from the root of the repository.

    Returns:
        The path written.
    """
    record = {
        "command": command,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "commit": _commit(),
        "machine": describe_machine(),
        "versions": describe_versions(),
        "numerics": numerics(),
        "figures": figures,
    }
    path = RESULTS / f"{name}.json"
    write_json(path, record)
    return path

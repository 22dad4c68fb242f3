"""Runs ``torch_twins`` in a process of its own, on the device JAX has, and reads its figures."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
from typing import Any

import jax

from experiments.benchmarks.command import ROOT

TWINS = ("resnet18", "vgg16")
"""The networks that there are in PyTorch, too."""


def torch_baseline(
    name: str, dtype: str, options: argparse.Namespace, seconds: float
) -> dict[str, Any]:
    """The epochs of a network by PyTorch, or why there are none.

    Args:
        name: of the model.
        dtype: by name.
        options: of the benchmark ``accelerator``.
        seconds: that it may take; what is measured by then counts.

    Returns:
        ``modes``, each with its epochs or why it failed; ``fastest`` and its ``median_s``, if any.
    """
    if name not in TWINS:
        return {"left_out": f"no twin of {name} in PyTorch"}
    if importlib.util.find_spec("torch") is None:
        return {"left_out": "PyTorch is not installed; it comes with the extra 'bench'"}
    settings = {
        "model": name,
        "dtype": dtype,
        "device": "cpu" if jax.default_backend() == "cpu" else "cuda",
        **{o: getattr(options, o) for o in ("width", "images", "batch", "size", "epochs")},
    }
    command = [sys.executable, "-m", "experiments.benchmarks.torch_twins"]
    for option, value in settings.items():
        command += [f"--{option}", str(value)]
    # Only the sizes of the network are asked of JAX there: the device is PyTorch's.
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    ended = {}
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, timeout=seconds
        )
        output = done.stdout
        if done.returncode:
            last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
            ended = {"failed": "".join(last).replace(str(ROOT), ".")[:300]}
    except subprocess.TimeoutExpired as late:
        output, ended = late.stdout or b"", {"ended": f"after {seconds:.0f} s, by --minutes"}
    return {**figures_of(output.decode(errors="replace")), **ended}


def figures_of(output: str) -> dict[str, Any]:
    """The lines of JSON that a process printed, by their mode, and the fastest of them."""
    rows = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    modes = {row.pop("mode"): row for row in rows}
    timed = {mode: row["median_s"] for mode, row in modes.items() if "median_s" in row}
    if not timed:
        return {"modes": modes}
    fastest = min(timed, key=lambda mode: timed[mode])
    return {"fastest": fastest, "median_s": timed[fastest], "modes": modes}

"""What the experiments share: tidy tables on disk, means and intervals, names for a reader."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats


def mean_and_interval(values: Sequence[float]) -> dict[str, float]:
    """Mean and, of two values or more, half-width of its 95 % interval (Student's t).

    Not rounded: figures are rounded once, where they are shown.
    """
    x = np.asarray(values, float)
    entry = {"mean": float(x.mean())}
    if len(x) > 1:
        error = x.std(ddof=1) / np.sqrt(len(x))
        entry["ci95"] = float(error * stats.t.ppf(0.975, len(x) - 1))
    return entry


def read_rows(path: Path, words: Sequence[str]) -> list[dict[str, Any]]:
    """The rows of a CSV file; columns other than ``words`` as numbers, None where empty."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [
            {k: v if k in words else (float(v) if v else None) for k, v in row.items()}
            for row in csv.DictReader(file)
        ]


def without_folders(dataset: str) -> str:
    """The name of a data set without the folders of this machine."""
    return f"npz:{Path(dataset[4:]).name}" if dataset.startswith("npz:") else dataset

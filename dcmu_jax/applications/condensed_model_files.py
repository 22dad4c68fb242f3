"""The JSON files of a condensed model, which say that a part of it is done: read back checked."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from dcmu_jax.reading import is_there, read_json_as


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """A row as it is written."""

    row: str
    target: str
    width: float
    images: str
    through: str
    per_class: int
    request: str
    seed: int
    retain_accuracy: float
    forget_accuracy: float
    test_accuracy: float
    mia: float | None
    offline_s: float
    request_s: float
    train_s: float
    update_s: float
    parameters: int
    trained_parameters: int
    trained_images: int
    recipe: str


Offline = dataclasses.make_dataclass("Offline", [("offline_s", float), ("compile_s", float)])
Online = dataclasses.make_dataclass("Online", [("request_s", float), ("reduction", float)])
Seconds = dataclasses.make_dataclass("Seconds", [("seconds", float)])


def run_again(folder: Path) -> str:
    """What to do about a part of a condensed model of which a file is damaged."""
    return f"Delete the folder {str(folder)!r} and run again"


def read_part(path: Path, kind: Any) -> dict[str, Any] | None:
    """What a JSON file with the fields of ``kind`` holds; ``None`` where there is none."""
    if not is_there(path):
        return None
    found = read_json_as(kind, path, "a part of a condensed model", "Delete it and run again")
    return found if isinstance(found, dict) else dataclasses.asdict(found)

"""The JSON files of a condensed model, which say that a part of it is done: read back checked."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from dcmu_jax.reading import is_there, read_json_as


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Row:
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


_KINDS = {
    "identity": dict[str, Any],
    "offline": dataclasses.make_dataclass("_Offline", [("offline_s", float), ("compile_s", float)]),
    "online": dataclasses.make_dataclass("_Online", [("request_s", float), ("reduction", float)]),
    "images": dataclasses.make_dataclass("_Images", [("seconds", float)]),
    "row": _Row,
}


def run_again(folder: Path) -> str:
    """What to do about a part of a condensed model of which a file is damaged."""
    return f"Delete the folder {str(folder)!r} and run again"


def read_part(path: Path, kind: str) -> dict[str, Any] | None:
    """What a JSON file holds; ``None`` where there is none.

    Args:
        path: of the file.
        kind: what is expected in it: identity, offline, online, images or row.
    """
    if not is_there(path):
        return None
    found = read_json_as(
        _KINDS[kind], path, "a part of a condensed model", "Delete it and run again"
    )
    return found if isinstance(found, dict) else dataclasses.asdict(found)

"""Table II: every hyper-parameter, as the settings in the code have it; nothing is typed in.

Command:   python -m experiments.table2
Data:      none
Hardware:  any; a second
Expected:  for `paper`, the values of the publication's table, save those that its code shows to be
           otherwise (the schedule for a class)

Writes experiments/results/table2.csv: one row for each method, network, kind of request and
setting, with the published value, and the one chosen by experiments.tuning where that has run.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from typing import Any

from dcmu_jax.baselines.registry import METHODS, build_method
from dcmu_jax.files import write_rows
from dcmu_jax.runs.presets import PRESETS
from experiments.benchmarks.record import RESULTS
from experiments.table1 import SCALES

NETWORKS = tuple(model for model, _ in SCALES["full"].networks)
KINDS = {"random": "online", "class": "online_classes"}


def flattened(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted names and values of everything in nested dataclasses, mappings and tuples."""
    if dataclasses.is_dataclass(value):
        value = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    if isinstance(value, tuple) and value and dataclasses.is_dataclass(value[0]):
        value = {str(number): entry for number, entry in enumerate(value)}
    if not isinstance(value, Mapping):
        yield path, value
        return
    for name, inner in value.items():
        yield from flattened(inner, f"{path}.{name}" if path else name)


def _row(method: str, network: str, kind: str, setting: str, value: Any, source: str) -> dict:
    text = "+".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return {
        "method": method,
        "network": network,
        "kind": kind,
        "setting": setting,
        "value": text,
        "source": source,
    }


def rows() -> list[dict[str, Any]]:
    """The whole table."""
    found = []
    for name, of_model in PRESETS.items():
        for network in NETWORKS:
            options = of_model(network)
            for kind, online in KINDS.items():
                shared = {
                    k: getattr(options, k) for k in ("remembrance", "condensation", "offline")
                }
                for setting, value in flattened(shared | {"online": getattr(options, online)}):
                    found.append(_row(name, network, kind, setting, value, "preset"))
    for name in METHODS:
        if name != "modular":
            for setting, value in flattened(build_method(name)):
                found.append(_row(name, "all", "all", setting, value, "default"))
    for scale in SCALES:
        path = RESULTS / f"tuning_{scale}.json"
        if not path.exists():
            continue
        for network, kinds in json.loads(path.read_text())["figures"]["networks"].items():
            for kind, methods in kinds.items():
                for name, entry in methods.items():
                    for setting, value in flattened(entry["chosen"]):
                        found.append(_row(name, network, kind, setting, value, f"tuned, {scale}"))
    return found


def main() -> None:
    """Write the table."""
    found = rows()
    write_rows(RESULTS / "table2.csv", found)
    print(f"{len(found)} rows in {(RESULTS / 'table2.csv').name}")


if __name__ == "__main__":
    main()

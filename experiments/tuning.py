"""The settings of every method, found by as many trials each, on cells that no table reports.

Command:   python -m experiments.tuning --scale small --dataset npz:cifar10_small.npz
Data:      as for experiments.table1
Hardware:  `small`: 2 CPU cores, 40 minutes; `full`: GPUs, as table1
Expected:  of most methods the learning rate decides; published ones are seldom the best here

Every method is tried with ``TRIALS`` settings on one original network,
forget set and unlearning seed that are 100 and above, where those of the tables are below. The
setting with the smallest gap to the retrained network of that seed is chosen; all that was tried
is written to experiments/results/tuning_SCALE.json, from where experiments.table1 takes the choice.
``recommended`` had its trials too: see experiments.ablation.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import sys
from pathlib import Path
from typing import Any, Literal

import jax
import tyro

from dcmu_jax.unlearning.registry import METHODS
from experiments.benchmarks.record import RESULTS, write_result
from experiments.grid import Bench, Group, Settings, kind_of, scored
from experiments.table1 import SCALES, request_of
from experiments.tables import without_folders

SEED = 100
TRIALS = 3


def _rate(value: float) -> dict[str, Any]:
    return {"learning_rate": value}


_FEW = {"samples": 500, "iterations": 10}

_AS_IT_IS = {"alternating_flip": False, "crop": 0}

CANDIDATES: dict[str, tuple[dict[str, Any], ...]] = {
    # With its images moved, without, and as near to how the reference trains as it can be.
    "fast_retraining": (
        {},
        {"training": _AS_IT_IS},
        {"training": {**_AS_IT_IS, "label_smoothing": 0.0, "epochs": 15}},
    ),
    "catastrophic_forgetting": (
        {},
        {"optimizer": _rate(3e-3), "epochs": 15},
        {"optimizer": _rate(1e-2), "epochs": 15},
    ),
    "distillation": ({}, {"divergence": 1.0}, {"epochs": 15}),
    "bad_teaching": ({}, {"epochs": 10}, {"epochs": 10, "optimizer": _rate(1e-4)}),
    "sparsity": (
        {},
        {"optimizer": {"l1": 5e-4}},
        {"optimizer": {"l1": 1e-3, "learning_rate": 3e-3}, "epochs": 15},
    ),
    "prune_and_unlearn": ({}, {"density": 0.2}, {"density": 0.2, "epochs": 15}),
    # Of some samples: on all of them these cost several retrainings.
    "fisher_forgetting": tuple({"samples": 100, "alpha": a} for a in (1e-7, 1e-8, 1e-6)),
    "ntk_scrubbing": (
        _FEW,
        {**_FEW, "damping": 1.0},
        {**_FEW, "loss": "cross_entropy", "damping": 1e-2},
    ),
    "selective_synaptic_dampening": ({}, {"alpha": 5.0}, {"alpha": 2.0}),
    "gradient_ascent": ({}, {"optimizer": _rate(3e-5)}, {"optimizer": _rate(3e-4)}),
    "negative_gradient": ({}, {"alpha": 0.9}, {"optimizer": _rate(3e-4)}),
    "random_labels": ({}, {"epochs": 5}, {"optimizer": _rate(3e-4)}),
    "scrub": ({}, {"max_epochs": 4, "optimizer": _rate(1e-3)}, {"optimizer": _rate(1e-4)}),
    "saliency": ({}, {"epochs": 5}, {"optimizer": _rate(3e-4)}),
    "boundary_shrink": ({}, {"optimizer": _rate(1e-5)}, {"optimizer": _rate(3e-4)}),
    "influence": tuple({**_FEW, "damping": d} for d in (1e-2, 1e-3, 1e-1)),
    "eu_k": ({}, {"k": 2}, {"k": 2, "epochs": 15}),
    "cf_k": ({}, {"k": 2}, {"k": 2, "optimizer": _rate(3e-3)}),
}
"""Method -> settings that are tried, the published ones (or what can be paid of them) first."""


def check_candidates() -> None:
    """Raise unless every method that has settings has its trials, all different."""
    for name in METHODS:
        if name in ("retrain", "modular"):
            continue
        tried = CANDIDATES[name]
        if len(tried) != TRIALS or any(tried.count(s) > 1 for s in tried):
            raise ValueError(f"{name}: {len(tried)} settings, {TRIALS} different ones wanted")


def tune(group: Group, requests: tuple[str, ...], methods: tuple[str, ...], out: Path) -> Settings:
    """The trials and the choice for one network: kind of request -> method -> entry."""
    bench = Bench(group, out)
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for request in requests:
        kind = kind_of(request)
        reference = bench.cell(request, "retrain")
        for name in methods:
            trials = []
            for number, tried in enumerate(CANDIDATES[name]):
                # The name is that of the cell's file; another setting is another cell.
                row = bench.cell(request, f"{name}.{number}", tried, method=name)
                [_, row] = scored([reference, row])
                trials.append(
                    {
                        "settings": tried,
                        "gap": _rounded(row["gap"]),
                        "tug_of_war": _rounded(row["tug_of_war"]),
                        "time_over_retraining": _rounded(row["time_over_retraining"]),
                    }
                )
            best = min(trials, key=lambda trial: math.inf if trial["gap"] is None else trial["gap"])
            found.setdefault(kind, {})[name] = {"chosen": best["settings"], "trials": trials}
            print(group.name, request, name, best, flush=True)
            jax.clear_caches()  # the programs of one method serve no other, and code fills memory
    return found


def _rounded(value: float | None) -> float | None:
    """Four decimals; None for what is not finite, of a network that diverged."""
    return None if value is None or not math.isfinite(value) else round(value, 4)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What is run.

    Attributes:
        dataset: as for `dcmu run`.
        scale: see experiments.table1.
        methods: only these.
        networks: only these of the scale.
        kinds: only these kinds of request; without trials a method keeps its published settings.
        out: where the cells lie.
    """

    dataset: str
    scale: Literal["small", "full"] = "small"
    methods: tuple[str, ...] = tuple(CANDIDATES)
    networks: tuple[str, ...] | None = None
    kinds: tuple[str, ...] = ("random", "class")
    out: Path = Path("runs/tuning")


def main() -> None:
    """Try everything that has not been tried, then write the choices."""
    options = tyro.cli(Options, description=__doc__)
    check_candidates()
    scale = SCALES[options.scale]
    requests = tuple(request_of(text, options.dataset) for text in scale.requests)
    requests = tuple(text for text in requests if kind_of(text) in options.kinds)
    path = RESULTS / f"tuning_{options.scale}.json"
    networks: dict[str, dict] = (
        json.loads(path.read_text())["figures"]["networks"] if path.exists() else {}
    )
    for (model, width), seed in itertools.product(scale.networks, (SEED,)):
        group = Group(dataset=options.dataset, model=model, width=width, seed=seed)
        if options.networks and model not in options.networks:
            continue
        for kind, found in tune(group, requests, options.methods, options.out).items():
            networks.setdefault(model, {}).setdefault(kind, {}).update(found)
        write_result(
            f"tuning_{options.scale}",
            {"seed": SEED, "trials_each": TRIALS, "networks": networks},
            f"python -m experiments.tuning {' '.join(map(without_folders, sys.argv[1:]))}",
        )


if __name__ == "__main__":
    main()

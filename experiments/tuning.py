"""The settings of every method, found by as many trials each, on cells that no table reports.

Command:   python -m experiments.tuning --scale small --dataset npz:cifar10_small.npz --workers 2
Data:      as for experiments.table1
Hardware:  `small`: 2 CPU cores, 40 minutes; `full`: GPUs, as table1
Expected:  of most methods the learning rate decides; published ones are seldom the best here

Every method is tried with ``TRIALS`` settings on an original network, a random forget set and an
unlearning seed that no table has, and on another class than the tables forget (``CLASS``). The
setting with the smallest gap to the retrained model of that seed is chosen; all that was tried
is written to experiments/results/tuning_SCALE.json, from where experiments.table1 takes the choice.

The number of trials is equal, other budgets are not. On all of the retain set some methods would
cost several retrainings: fisher_forgetting looks at 100 samples of it, ntk_scrubbing and influence
at 500 samples by 300 iterations at most. ``recommended`` was chosen from more trials than the rest,
its schedule for a class on the class that the tables forget.

A cell is a file under --out and is not measured again, so the same command goes on where it was
stopped. Workers take a method and a request at a time.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from dcmu_jax.baselines.registry import METHODS
from dcmu_jax.runs.options import Dtype
from dcmu_jax.sweeps import Bench, Group, Step, run_in_pool
from dcmu_jax.sweeps.cells import kind_of
from dcmu_jax.sweeps.summaries import scored
from dcmu_jax.training.divergence import Diverged
from experiments.arguments import parse
from experiments.benchmarks import record
from experiments.table1 import SCALES
from experiments.writing import of_dtype, write

SEED = 1000
"""Of the original network; forget set and unlearning follow from it, see ``Group``."""

CLASS = 7
"""Is forgotten here; the tables forget class 2 of CIFAR-10 and class 3 of SVHN."""

TRIALS = 3


def _rate(value: float) -> dict[str, Any]:
    return {"learning_rate": value}


_FEW = {"samples": 500, "iterations": 300}

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
    # Damped so much that the equations can be solved at the price of some epochs.
    "ntk_scrubbing": (
        {**_FEW, "damping": 100.0},
        {**_FEW, "damping": 1000.0},
        {**_FEW, "loss": "cross_entropy", "damping": 10.0},
    ),
    "selective_synaptic_dampening": ({}, {"alpha": 5.0}, {"alpha": 2.0}),
    "gradient_ascent": ({}, {"optimizer": _rate(3e-5)}, {"optimizer": _rate(3e-4)}),
    "negative_gradient": ({}, {"alpha": 0.9}, {"optimizer": _rate(3e-4)}),
    "random_labels": ({}, {"epochs": 5}, {"optimizer": _rate(3e-4)}),
    "scrub": ({}, {"max_epochs": 4, "optimizer": _rate(1e-3)}, {"optimizer": _rate(1e-4)}),
    "saliency": ({}, {"epochs": 5}, {"optimizer": _rate(3e-4)}),
    "boundary_shrink": ({}, {"optimizer": _rate(1e-5)}, {"optimizer": _rate(3e-4)}),
    "influence": tuple({**_FEW, "damping": d} for d in (1.0, 10.0, 100.0)),
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


def try_reference(group: Group, request: str, out: Path) -> None:
    """The retrained model that all trials of a request are compared with."""
    Bench(group, out).cell(request, "retrain")


def try_method(group: Group, request: str, name: str, out: Path) -> dict[str, Any]:
    """The trials of one method and the choice, measured where they are not there yet."""
    bench, trials = Bench(group, out), []
    reference = bench.cell(request, "retrain")
    for number, tried in enumerate(CANDIDATES[name]):
        try:
            row = bench.cell(request, f"{name}.{number}", tried, method=name)
        except Diverged as error:
            trials.append({"settings": tried, "gap": None, "failed": error.given})
            continue
        [_, row] = scored([reference, row])
        trials.append(
            {
                "settings": tried,
                "gap": _finite(row["gap"]),
                "tug_of_war": _finite(row["tug_of_war"]),
                "time_over_retraining": _finite(row["time_over_retraining"]),
            }
        )
    best = min(trials, key=lambda trial: math.inf if trial["gap"] is None else trial["gap"])
    print(group.name, request, name, best, flush=True)
    return {"chosen": best["settings"], "trials": trials}


def steps(
    chosen: Sequence[Group], texts: Sequence[str], methods: Sequence[str], out: Path
) -> list[Step]:
    """The references of the requests, the first with the original, then each method by itself."""
    found, first = [], texts[:1]
    # The dearest networks first, or one worker would end long after the others.
    for group, text in itertools.product(reversed(chosen), texts):
        reference, alike = (group.name, text), (group.name, "retrain")
        after = () if text in first else ((group.name, *first),)
        found.append(Step(reference, try_reference, (group, text, out), after, alike))
        for name in methods:
            # A request for a class has a forget set as large as one for a tenth.
            programs, arguments = (group.name, name), (group, text, name, out)
            found.append(Step((*reference, name), try_method, arguments, (reference,), programs))
    return found


def _finite(value: float | None) -> float | None:
    """The value; None for what is not finite, of a network that diverged."""
    return None if value is None or not math.isfinite(value) else value


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What is run.

    Attributes:
        dataset: as for `dcmu run`.
        scale: see experiments.table1.
        dtype: of the computation; parameters and statistics stay float32.
        methods: only these.
        networks: only these of the scale.
        kinds: only these kinds of request; without trials a method keeps its published settings.
        workers: processes of the worker pool on this machine.
        out: where the cells lie.
    """

    dataset: str
    scale: Literal["small", "full"] = "small"
    dtype: Dtype = "float32"
    methods: tuple[str, ...] = tuple(CANDIDATES)
    networks: tuple[str, ...] | None = None
    kinds: tuple[str, ...] = ("random", "class")
    workers: int = 1
    out: Path = Path("runs/tuning")


def groups(options: Options) -> list[Group]:
    """The networks of a scale, those that are asked for."""
    return [
        Group(dataset=options.dataset, model=model, width=width, seed=SEED, dtype=options.dtype)
        for model, width in SCALES[options.scale].networks
        if not options.networks or model in options.networks
    ]


def requests(options: Options) -> tuple[str, ...]:
    """What is forgotten here in place of what the tables of the scale forget."""
    found = (
        text if text != "class" else f"class:{CLASS}" for text in SCALES[options.scale].requests
    )
    return tuple(text for text in found if kind_of(text) in options.kinds)


def main() -> None:
    """Try everything that has not been tried, then write the choices."""
    options = parse(Options, __doc__)
    check_candidates()
    chosen, texts = groups(options), requests(options)
    if options.workers > 1:
        taken = steps(chosen, texts, options.methods, options.out)
        run_in_pool(taken, options.workers)
    name = of_dtype(f"tuning_{options.scale}", options.dtype)
    path = record.RESULTS / f"{name}.json"
    known = json.loads(path.read_text())["figures"] if path.exists() else {"networks": {}}
    networks: dict[str, dict] = known["networks"]
    for group, text, method in itertools.product(chosen, texts, options.methods):
        found = networks.setdefault(group.model, {}).setdefault(kind_of(text), {})
        tried = try_method(group, text, method, options.out)
        found[method] = {"seed": group.seed, "request": text, **tried}
    write(name, {"trials_each": TRIALS, "networks": networks})


if __name__ == "__main__":
    main()

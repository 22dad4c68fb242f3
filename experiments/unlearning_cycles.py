"""Figure 10: requests one after another, each served by the network that the last one left.

Command:   python -m experiments.unlearning_cycles --dataset npz:cifar10_small.npz
Data:      a subset of CIFAR-10, 500 training images per class
Hardware:  1 CPU core, 20 minutes
Expected:  every modular preset forgets and goes on forgetting; `recommended` keeps the accuracies
           of retraining at .37 of its operations, with some points more on what was forgotten;
           fine-tuning never forgets what its network once memorised

At every cycle a share of what is left must go. All that went before stays away: the set that is
collected never holds a sample of an earlier cycle, nor a condensed image of a cluster that lost
one (in the authors' code it does), and with --restart, as there, every cycle starts from the
original network again, with everything forgotten so far as one request. Everything is measured
against a network retrained on what is left. Writes experiments/results/unlearning_cycles.*.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from dcmu_jax.baselines.registry import build_method
from dcmu_jax.data.requests import ForgetRequest
from dcmu_jax.runs import stages
from dcmu_jax.runs.options import Dtype
from dcmu_jax.runs.presets import PRESETS
from dcmu_jax.sweeps import Bench, Group, means
from dcmu_jax.sweeps.summaries import Row, scored_cells
from dcmu_jax.training.keys import named_seed
from dcmu_jax.unlearning.task import Hooks, Method, UnlearningTask
from experiments import plots
from experiments.arguments import parse
from experiments.writing import of_dtype, write

METHODS = ("catastrophic_forgetting", "paper", "condensed", "recommended")
SHOWN = {
    "retain_accuracy": "retain accuracy (%)",
    "forget_accuracy": "accuracy on all forgotten (%)",
    "test_accuracy": "test accuracy (%)",
    "gap": "gap (points)",
    "flops_over_retraining": "operations over retraining's",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What is run.

    Attributes:
        dataset: as for `dcmu run`.
        model: as for `dcmu run`.
        width: of the network.
        dtype: of the computation; parameters and statistics stay float32.
        cycles: requests, one after another.
        share: of what is left, that goes in each.
        seeds: see ``Group``.
        restart: start every cycle from the original network, as published.
        out: where the networks lie.
    """

    dataset: str
    model: str = "mlp"
    width: float = 1.0
    dtype: Dtype = "float32"
    cycles: int = 5
    share: float = 0.1
    seeds: tuple[int, ...] = (1, 2, 3)
    restart: bool = False
    out: Path = Path("runs/unlearning_cycles")


def slices(ids: np.ndarray, cycles: int, share: float, seed: int) -> list[np.ndarray]:
    """The ids of every cycle, disjoint: a share of what the earlier ones left."""
    left = np.random.default_rng(seed).permutation(ids)
    found = []
    for _ in range(cycles):
        count = round(share * len(left))
        found.append(np.sort(left[:count]))
        left = left[count:]
    return found


def seed_of(seed: int, cycle: int) -> int:
    """Of a method in a cycle: not that of another seed in another cycle."""
    return named_seed(seed, f"cycle {cycle}")


def chain(options: Options, bench: Bench, name: str) -> list[dict]:
    """What one method makes of every cycle, measured if it is not there yet."""
    method: Method = bench.config.options_of(name).online if name in PRESETS else build_method(name)
    kind = "restarted" if options.restart else "successive"
    made_of = {
        "name": name,
        "method": method,
        "options": bench.config.options_of(name) if name in PRESETS else None,
        "kind": kind,
        "cycles": options.cycles,
        "share": options.share,
        "seed": bench.config.seed,
        "seed of the first cycle": seed_of(bench.config.unlearning_seed, 1),
    }
    return bench.once(
        "chains", f"{kind}-{name}", made_of, lambda: _chain(options, bench, name, method)
    )


def _chain(options: Options, bench: Bench, name: str, method: Method) -> list[dict]:
    run, config = bench.run, bench.config
    train, network = run.splits.train, run.train()
    prepared = run.prepare(name) if name in PRESETS else None
    rows, seconds, gone = [], 0.0, np.empty(0, np.int64)
    parts = slices(train.ids, options.cycles, options.share, config.seed)
    for cycle, ids in enumerate(parts, 1):
        before, gone = gone, np.sort(np.concatenate([gone, ids]))
        if prepared is not None and cycle > 1 and not options.restart:
            prepared = dataclasses.replace(prepared, classifier=network)
        task = UnlearningTask(
            original=run.train() if options.restart else network,
            train=train,
            forget_ids=gone,
            gone_before=np.empty(0, np.int64) if options.restart else before,
            seed=seed_of(config.unlearning_seed, cycle),
            training=config.training,
            prepared=prepared,
            name=name if name in PRESETS else "",
        )
        unlearned = method(task, Hooks())
        network = unlearned.classifier
        seconds += unlearned.online_s
        measurement = stages.measure_network(
            name,
            config,
            network,
            run.splits,
            ForgetRequest(f"cycle:{cycle}", gone, (), f"cycle-{cycle}"),
            run.usable_tests(),
            unlearned=unlearned,
            prepared=prepared,
        ).measurement
        row = {"cycle": cycle, "forgotten": len(gone), **measurement.row()}
        rows.append(row | {"cumulative_s": seconds})
        print(config.seed, cycle, name, f"FA {row['forget_accuracy']:.1f}", flush=True)
    return rows


def measure_seed(options: Options, seed: int) -> list[Row]:
    """The rows of one seed: every cycle and method, scored against retraining in that cycle."""
    group = Group(
        dataset=options.dataset,
        model=options.model,
        seed=seed,
        width=options.width,
        dtype=options.dtype,
    )
    bench = Bench(group, options.out)
    chains = {name: chain(options, bench, name) for name in ("retrain", *METHODS)}
    spent = {
        name: np.cumsum([row["online_flops"] for row in rows]).tolist()
        for name, rows in chains.items()
    }
    found = []
    for at, alike in enumerate(zip(*chains.values(), strict=True)):
        for row in scored_cells(alike, ["cycle"]):
            row["flops_over_retraining"] = spent[row["method"]][at] / spent["retrain"][at]
            del row["time_over_retraining"]
            found.append({"seed": seed, **row})
    return found


def draw(rows: list[Row]) -> plots.Figure:
    """Accuracies, gap and operations over the cycles."""
    size = {"width": 3.6 * len(SHOWN), "height": 3.6}
    return plots.over_time(rows, "cycle", SHOWN, **size, from_zero=list(SHOWN)[-2:])


def main() -> None:
    """All seeds, then table and figure."""
    options = parse(Options, __doc__)
    rows = [row for seed in options.seeds for row in measure_seed(options, seed)]
    name = "unlearning_cycles" + ("_restarted" if options.restart else "")
    name = of_dtype(name, options.dtype)
    last = [r for r in rows if r["cycle"] == options.cycles]
    fields = ("retain_accuracy", "forget_accuracy", "test_accuracy", "gap", "tug_of_war")
    fields += ("cumulative_s", "flops_over_retraining")
    found = {"cycles": options.cycles, "after_the_last": means(last, ["method"], fields)}
    write(name, found, rows, {name: draw(rows)})


if __name__ == "__main__":
    main()

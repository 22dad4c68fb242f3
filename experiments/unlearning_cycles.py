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
import sys
from pathlib import Path

import numpy as np
import tyro
from matplotlib.figure import Figure

from dcmu_jax.baselines.registry import build_method
from dcmu_jax.data.requests import ForgetRequest
from dcmu_jax.files import write_rows
from dcmu_jax.metrics.measurement import Measurement
from dcmu_jax.metrics.scores import with_scores
from dcmu_jax.reporting import style
from dcmu_jax.reporting.pareto import title
from dcmu_jax.runs import stages
from dcmu_jax.runs.presets import PRESETS
from dcmu_jax.training.keys import named_seed
from dcmu_jax.unlearning.task import Hooks, Method, UnlearningTask
from experiments.benchmarks.record import RESULTS, write_result
from experiments.grid import Bench, Group
from experiments.tables import mean_and_interval, without_folders

METHODS = ("catastrophic_forgetting", "paper", "condensed", "recommended")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What is run.

    Attributes:
        dataset: as for `dcmu run`.
        model: as for `dcmu run`.
        width: of the network.
        cycles: requests, one after another.
        share: of what is left, that goes in each.
        seeds: see ``Group``.
        restart: start every cycle from the original network, as published.
        out: where the networks lie.
    """

    dataset: str
    model: str = "mlp"
    width: float = 1.0
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


def measure_seed(options: Options, seed: int) -> list[dict]:
    """The rows of one seed: every cycle and method, scored against retraining in that cycle."""
    group = Group(dataset=options.dataset, model=options.model, seed=seed, width=options.width)
    bench = Bench(group, options.out)
    rows = [row for name in ("retrain", *METHODS) for row in chain(options, bench, name)]
    found = []
    spent = dict.fromkeys(("retrain", *METHODS), 0.0)
    for cycle in range(1, options.cycles + 1):
        alike = [row for row in rows if row["cycle"] == cycle]
        for row in alike:
            spent[row["method"]] += row["online_flops"]
        names = [field.name for field in dataclasses.fields(Measurement)]
        scores = with_scores(
            [Measurement(**{k: row[k] for k in names if k in row}) for row in alike]
        )
        found += [
            {"seed": seed, **row, "gap": m.gap, "tug_of_war": m.tug_of_war}
            | {"flops_over_retraining": spent[m.method] / spent["retrain"]}
            for row, m in zip(alike, scores, strict=True)
        ]
    return found


def draw(name: str, rows: list[dict]) -> None:
    """Accuracies, gap and cumulative time over the cycles."""
    shown = (
        ("retain_accuracy", "retain accuracy (%)"),
        ("forget_accuracy", "accuracy on all forgotten (%)"),
        ("test_accuracy", "test accuracy (%)"),
        ("gap", "gap (points)"),
        ("flops_over_retraining", "operations over retraining's"),
    )
    figure = Figure(figsize=(3.6 * len(shown), 3.6), layout=style.layout())
    places = figure.subplots(1, len(shown))
    methods = list(dict.fromkeys(r["method"] for r in rows))
    colors = style.method_colors(methods)
    for axes, (field, label) in zip(places, shown, strict=True):
        style.plain(axes)
        for number, method in enumerate(methods):
            cycles = sorted({r["cycle"] for r in rows})
            found = [
                mean_and_interval(
                    [r[field] for r in rows if (r["method"], r["cycle"]) == (method, cycle)]
                )
                for cycle in cycles
            ]
            axes.errorbar(
                cycles,
                [f["mean"] for f in found],
                [f.get("ci95", 0.0) for f in found],
                color=colors[method],
                marker=style.MARKERS[number],
                capsize=2,
                label=title(method),
            )
        axes.set(xlabel="cycle", ylabel=label)
        axes.set_ylim(bottom=0 if field in ("gap", "flops_over_retraining") else None)
    figure.legend(
        *places[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False
    )
    style.save_figure(figure, RESULTS / f"{name}.png")


def main() -> None:
    """All seeds, then table and figure."""
    options = tyro.cli(Options, description=__doc__)
    rows = [row for seed in options.seeds for row in measure_seed(options, seed)]
    name = "unlearning_cycles" + ("_restarted" if options.restart else "")
    write_rows(RESULTS / f"{name}.csv", rows)
    last = [r for r in rows if r["cycle"] == options.cycles]
    summary = {
        method: {
            field: mean_and_interval([r[field] for r in last if r["method"] == method])
            for field in (
                "retain_accuracy",
                "forget_accuracy",
                "test_accuracy",
                "gap",
                "tug_of_war",
                "cumulative_s",
                "flops_over_retraining",
            )
        }
        for method in dict.fromkeys(r["method"] for r in last)
    }
    command = (
        f"python -m experiments.unlearning_cycles {' '.join(map(without_folders, sys.argv[1:]))}"
    )
    write_result(name, {"cycles": options.cycles, "after_the_last": summary}, command)
    draw(name, rows)


if __name__ == "__main__":
    main()

"""Ten batches of deletions through the service, each compared with retraining without them.

Command:   python -m experiments.deletion_batches --dataset digits
Data:      digits; or a subset of CIFAR-10, as --dataset npz:cifar10_small.npz --seeds 1 2 3 4 5 6
Hardware:  digits: 1 CPU core, some 4 minutes, most of it compilation; the MLP on the subset of
           CIFAR-10: 2 CPU cores, 7 minutes a seed
Expected:  for the MLP on digits, retain accuracy stays within .6 points of retraining's and test
           accuracy within 1.1 after each of ten batches, in half of its time so far. The audit
           finds logits that lie further from the oracles' than theirs from each other, and with
           one seed of three some of the forgotten samples: it does not pass. On the subset of
           CIFAR-10 the means of six seeds stay within half a point, and the audit finds some of
           the forgotten samples with every seed

Every batch names a share of what is left. The service forgets it from the network that the last
batch left; retraining starts from scratch on the retain set, twice, by two seeds: the difference of
the two is what no method can be nearer than. The mean of both is a second reference, with less
noise; it was added after the first had been seen. Times are without compilation; the service's hold
the online phase and the upkeep of the bank. At the end the last version is audited on all that was
forgotten. Writes experiments/results/deletion_batches_DATASET.*.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from dcmu_jax.data.requests import request_for_ids
from dcmu_jax.files import json_text
from dcmu_jax.reading import read_json
from dcmu_jax.runs import stages
from dcmu_jax.runs.config import RunConfig
from dcmu_jax.runs.config_json import to_json
from dcmu_jax.runs.options import Dtype, NetworkOptions
from dcmu_jax.runs.renamed import old_names
from dcmu_jax.runs.run import Run
from dcmu_jax.runs.store import hash_of, plain
from dcmu_jax.service import Workspace
from dcmu_jax.service.work import accuracies
from dcmu_jax.sweeps import mean_and_interval, means
from dcmu_jax.sweeps.cells import stem_of
from dcmu_jax.training.keys import named_seed
from experiments import plots
from experiments.arguments import parse
from experiments.writing import of_dtype, write

SERVICE, RETRAINED, AGAIN = "service", "retrain", "retrain_again"
MEASURED = ("retained", "test")
LABELS = {
    RETRAINED: "retrained on what is left",
    AGAIN: "retrained by another seed",
    SERVICE: "the service",
}
SHOWN = {
    "retained": "accuracy on what is left (%)",
    "test": "test accuracy (%)",
    "cumulative_s": "time so far, without compilation (s)",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What is run.

    Attributes:
        dataset: as for `dcmu run`.
        model: as for `dcmu run`.
        width: of the network.
        dtype: of the computation; parameters and statistics stay float32.
        method: a preset.
        batches: one after another.
        share: of what is left, that goes in each.
        seeds: of originals, requests and unlearning.
        oracles: of the audit at the end; 0 for none.
        out: where runs and workspaces lie; a finished seed is not run again.
    """

    dataset: str
    model: str = "mlp"
    width: float = 1.0
    dtype: Dtype = dataclasses.field(default="float32", repr=False)  # the run has it, too
    method: str = "recommended"
    batches: int = 10
    share: float = 0.05
    seeds: tuple[int, ...] = (1, 2, 3)
    oracles: int = 16
    out: Path = Path("runs/deletion_batches")


def _config(options: Options, seed: int) -> RunConfig:
    return RunConfig(
        dataset=options.dataset,
        model=options.model,
        preset=options.method,
        baselines=(),
        seed=seed,
        forget_seed=seed,
        unlearning_seed=seed + 100,
        network=NetworkOptions(width=options.width, dtype=options.dtype),
    )


def measure_seed(options: Options, seed: int) -> dict[str, Any]:
    """The rows of one seed, and its audit."""
    name = stem_of(options.dataset)
    # More seeds, or another place, change nothing that is in a folder.
    shared = dataclasses.replace(options, seeds=(), out=Path())
    settings = json.loads(to_json(_config(options, seed)))
    of_all = hash_of(plain({"options": str(shared), "run": old_names(settings)}))[:8]
    folder = options.out / f"{name}-{options.model}-{options.method}-seed{seed}-{of_all}"
    finished = folder / "rows.json"
    if finished.exists():
        return read_json(finished, "a measured cell", "Delete it and run again")
    shutil.rmtree(folder, ignore_errors=True)
    run = Run.create(folder / "run", _config(options, seed))
    workspace = Workspace.create(run, folder / "workspace")
    config, splits, original = run.config, run.splits, run.train()
    test = splits.test.without(stages.remembrance_of(config, config.preset, splits).ids)
    left = np.random.default_rng(seed).permutation(splits.train.ids)
    gone = np.empty(0, np.int64)
    seconds = dict.fromkeys((SERVICE, RETRAINED, AGAIN), 0.0)
    rows: list[dict[str, Any]] = []
    for batch in range(1, options.batches + 1):
        count = round(options.share * len(left))
        ids, left = left[:count], left[count:]
        gone = np.sort(np.concatenate([gone, ids]))
        workspace.request("ids:" + ",".join(map(str, ids.tolist())))
        (version,) = workspace.process()
        record = workspace.certificate(version)["record"]
        seconds[SERVICE] += record["cost"]["online_s"] + record["cost"]["bank_s"]
        found = {SERVICE: record["accuracy"]}
        retained = splits.train.without(gone)
        request = request_for_ids(gone, splits.train)
        for method in (RETRAINED, AGAIN):
            own = named_seed(config.unlearning_seed, f"{method} {batch}")
            changed = dataclasses.replace(config, unlearning_seed=own)
            unlearned = stages.unlearn(RETRAINED, changed, original, splits, request)
            seconds[method] += unlearned.online_s
            found[method] = accuracies(unlearned.classifier, retained, test)
        for method, accuracy in found.items():
            row = {"seed": seed, "batch": batch, "method": method, "forgotten": len(gone)}
            row |= {what: accuracy[what] for what in MEASURED}
            rows.append(row | {"cumulative_s": seconds[method]})
        print(seed, batch, {m: (f["retained"], f["test"]) for m, f in found.items()}, flush=True)
    assert workspace.verify().clean
    audit = None
    if options.oracles:
        version = workspace.audit(oracles=options.oracles)
        audit = workspace.certificate(version)["audit"]
        print("audit", audit["passed"], audit["distance"], flush=True)
    finished.write_text(json_text({"rows": rows, "audit": audit}))
    return {"rows": rows, "audit": audit}


def differences(rows: list[dict], method: str, *references: str) -> dict[str, list[dict]]:
    """By how many points a method is above retraining after each batch, over seeds.

    The mean of two retrainings says with less noise what retraining gives.
    """
    found: dict[str, list[dict]] = {what: [] for what in MEASURED}
    for batch in plots.distinct(rows, "batch"):
        alike = [row for row in rows if row["batch"] == batch]
        for what in MEASURED:
            at = {(r["seed"], r["method"]): r[what] for r in alike}
            above = [
                at[seed, method] - float(np.mean([at[seed, each] for each in references]))
                for seed in sorted({seed for seed, _ in at})
            ]
            found[what].append(mean_and_interval(above))
    return found


def draw(rows: list[dict]) -> plots.Figure:
    """Accuracies after every batch, and the time so far."""
    order = list(LABELS)
    return plots.over_time(
        sorted(rows, key=lambda row: order.index(row["method"])),
        "batch",
        SHOWN,
        width=11.5,
        height=3.8,
        from_zero=["cumulative_s"],
        labels=LABELS.__getitem__,
        apart=0.12,
        columns=3,
    )


def main() -> None:
    """All seeds, then table and figure."""
    options = parse(Options, __doc__)
    found = [measure_seed(options, seed) for seed in options.seeds]
    rows = [row for each in found for row in each["rows"]]
    name = of_dtype(f"deletion_batches_{stem_of(options.dataset)}", options.dtype)
    last = [row for row in rows if row["batch"] == options.batches]
    figures = {
        "model": options.model,
        "method": options.method,
        "share_of_what_is_left": options.share,
        "points_above_retraining": {
            method: differences(rows, method, RETRAINED) for method in (SERVICE, AGAIN)
        },
        "points_above_the_mean_of_both_retrainings": differences(rows, SERVICE, RETRAINED, AGAIN),
        "after_the_last": means(last, ["method"], (*MEASURED, "cumulative_s")),
        "audits": [each["audit"] for each in found],
    }
    write(name, figures, rows, {name: draw(rows)})


if __name__ == "__main__":
    main()

"""The audit audited: it must reject a planted no-op, pass retraining, and place what is between.

Command:   python -m experiments.self_audit
           python -m experiments.self_audit --dataset npz:cifar10_small.npz --model cnn --width 0.25
Data:      digits by default; any dataset of `dcmu run`
Hardware:  2 CPU cores, 5 minutes on digits
Expected:  the no-op is rejected in 19 of 20 repetitions or more, retraining passes as often, and an
           unlearner that forgets half of what it should lies between them in distance

Every repetition has its own forget set, oracles and networks. The no-op is the original; exact
unlearning is one more network trained without the forgotten samples; half-way unlearning is one
trained without half of them. Writes experiments/results/self_audit.{csv,json}.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from dcmu_jax.audits.audit import STATISTICS, audit_networks
from dcmu_jax.audits.building import Rearing, oracle_population, unlearned_population
from dcmu_jax.data.requests import parse_request
from dcmu_jax.data.sources import load
from dcmu_jax.runs.options import Dtype, NetworkOptions
from dcmu_jax.runs.stages import build_model
from dcmu_jax.sweeps import means
from dcmu_jax.unlearning.task import Training
from experiments.arguments import parse
from experiments.writing import of_dtype, write


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What is run.

    Attributes:
        dataset: as for `dcmu run`.
        model: as for `dcmu run`.
        width: of the network.
        dtype: of the computation; parameters and statistics stay float32.
        epochs: of every network.
        forget: what to forget, drawn again in every repetition.
        oracles: of each repetition.
        repetitions: how many.
    """

    dataset: str = "digits"
    model: str = "mlp"
    width: float = 1.0
    dtype: Dtype = "float32"
    epochs: int = 30
    forget: str = "random:0.1"
    oracles: int = 12
    repetitions: int = 20


def repetition(options: Options, splits, model, seed: int) -> list[dict]:
    """One row for each of the three networks."""
    request = parse_request(options.forget, splits.train, seed)
    rng = np.random.default_rng(seed)
    half = rng.permutation(request.ids)[: len(request.ids) // 2]
    rearing = Rearing(
        model=model, splits=splits, training=Training(epochs=options.epochs), seed=1000 * seed
    )
    reared = oracle_population(rearing, request.ids, options.oracles + 1)
    oracles, exact = reared.models(range(options.oracles)), reared.models([options.oracles])
    again = dataclasses.replace(rearing, seed=1000 * seed + 1)
    cases = {
        "retrain": exact,
        "half-way": oracle_population(again, half, 1),
        "no-op": unlearned_population(again, request.ids, 1, {}),
    }
    rows = []
    for name, target in cases.items():
        [audit] = audit_networks(target, oracles, request.ids)
        numbers = {f"{s}_deviations": audit.statistics[s].deviations for s in STATISTICS}
        rows.append(
            {
                "seed": seed,
                "network": name,
                "passed": int(audit.passed),
                "remembers": int(audit.remembers),
                "distance": audit.distance,
                **numbers,
            }
        )
    return rows


def summarise(rows: list[dict]) -> dict:
    """How often each network passed and remembered, and how far away it was."""
    summary = {}
    for name, found in means(rows, ["network"], ["distance"], count="repetitions").items():
        alike = [row for row in rows if row["network"] == name]
        counts = {field: sum(r[field] for r in alike) for field in ("passed", "remembers")}
        summary[name] = {"repetitions": found["repetitions"], **counts} | found
    distances = [
        [row["distance"] for row in rows if row["network"] == name]
        for name in ("retrain", "half-way", "no-op")
    ]
    ordered = [a < b < c for a, b, c in zip(*distances, strict=True)]
    return {"networks": summary, "half-way between the others": sum(ordered)}


def main() -> None:
    """Repeat, and write what was found after each."""
    options = parse(Options, __doc__)
    splits = load(options.dataset)
    model = build_model(
        options.model, splits, NetworkOptions(width=options.width, dtype=options.dtype)
    )
    name = "self_audit" if options.dataset == "digits" else f"self_audit_{splits.name}"
    name = of_dtype(name, options.dtype)
    rows: list[dict] = []
    for seed in range(1, options.repetitions + 1):
        rows += repetition(options, splits, model, seed)
        summary = summarise(rows)
        print(seed, summary, flush=True)
        write(name, summary, rows)


if __name__ == "__main__":
    main()

"""Methods audited by populations: many networks of each, example by example, against many oracles.

Command:   python -m experiments.method_audit --oracles 16 --originals 8
           python -m experiments.method_audit --dataset npz:cifar10.npz --model resnet18
           --width 0.25 --oracles 256 --originals 256 --methods recommended --plan
Data:      digits by default; any dataset of `dcmu run`
Hardware:  1 CPU core, 10 minutes on digits; the second: a GPU, see what --plan prints
Expected:  a method that does nothing is told from oracles by U-LiRA, by its KLoM on the forgotten
           examples and by its forgetting quality; exact unlearning lies within every null band

The originals are trained at once, and every method forgets the same request from each of them,
retraining and catastrophic forgetting from all at once, the others from one after another. The
null bands split the oracles in halves. KLoM and the forgetting quality want a hundred models or
more; of fewer, only how far they are from their null says something. Interrupted populations go on
where they stopped. Writes experiments/results/method_audit_DATASET_MODEL.{json,png}.
"""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from dcmu_jax.audits.audit import audit_networks
from dcmu_jax.audits.building import (
    Rearing,
    Serve,
    Together,
    oracle_population,
    unlearned_population,
)
from dcmu_jax.audits.method_audit import audit_method
from dcmu_jax.audits.together import PLAIN, together
from dcmu_jax.data.requests import ForgetRequest, parse_request
from dcmu_jax.data.sources import load
from dcmu_jax.runs import stages
from dcmu_jax.runs.config import RunConfig
from dcmu_jax.runs.config_json import to_json
from dcmu_jax.runs.options import Dtype, NetworkOptions
from dcmu_jax.runs.presets import PRESETS
from dcmu_jax.runs.renamed import old_names
from dcmu_jax.runs.store import hash_of, plain
from dcmu_jax.unlearning.task import Training
from experiments import plots
from experiments.arguments import parse
from experiments.writing import forward_flops, of_dtype, write


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What is run.

    Attributes:
        dataset: as for `dcmu run`.
        model: as for `dcmu run`.
        width: of the network.
        dtype: of the computation; parameters and statistics stay float32.
        epochs: of originals and oracles.
        forget: the forget set.
        methods: presets and registered methods; retraining is the control that must pass.
        oracles: networks that never saw the forgotten samples.
        originals: networks that every method is applied to.
        chunk: networks that train side by side.
        group: networks that are trained and saved together.
        plan: print what it costs, and run nothing.
        tflops: rate for the plan, as measured on the device at hand.
        out: where finished groups are kept.
    """

    dataset: str = "digits"
    model: str = "mlp"
    width: float = 1.0
    dtype: Dtype = "float32"
    epochs: int = 30
    forget: str = "random:0.1"
    methods: tuple[str, ...] = (
        "retrain",
        "catastrophic_forgetting",
        "negative_gradient",
        "recommended",
    )
    oracles: int = 16
    originals: int = 8
    chunk: int | None = None
    group: int = 8
    plan: bool = False
    tflops: float = 20.0
    out: Path = Path("runs/method_audit")


def config_of(options: Options, seed: int) -> RunConfig:
    """The settings that methods run with on the original of ``seed``."""
    return RunConfig(
        dataset=options.dataset,
        model=options.model,
        forget=options.forget,
        unlearning_seed=seed,
        network=NetworkOptions(width=options.width, dtype=options.dtype),
        training=Training(epochs=options.epochs),
    )


def serving(options: Options, name: str, splits: Any, request: ForgetRequest) -> Serve:
    """How ``name`` makes an original forget, its offline phase included."""

    def serve(original, seed):
        config = config_of(options, seed)
        prepared = None
        if name in PRESETS:
            prepared = stages.prepare(config, original, splits, name=name)
        unlearned = stages.unlearn(name, config, original, splits, request, prepared=prepared)
        return unlearned.classifier

    return serve


def print_plan(options: Options, rearing: Rearing) -> None:
    """Operations and minutes of all networks: three forward passes for each example and epoch."""
    train, size = rearing.splits.train, rearing.training.batch_size
    forward = forward_flops(rearing.model, train.images.shape[1:])
    one = 3 * forward * options.epochs * size * math.ceil(len(train) / size)
    count = options.oracles + options.originals * (1 + len(options.methods))
    print(
        f"{count} networks at most of {one / 1e12:.2f} TFLOP each (methods counted as retraining, "
        f"which is the dearest): {count * one / options.tflops / 1e12 / 60:.1f} minutes at "
        f"{options.tflops:g} TFLOP/s, compilation and measurement apart"
    )


def main() -> None:
    """Train what is not there yet, audit, write."""
    options = parse(Options, __doc__)
    splits = load(options.dataset)
    request = parse_request(options.forget, splits.train, 0)
    config = config_of(options, 0)
    made_of = {
        name: stages.serving_method(name, config, splits, request) for name in options.methods
    }
    of_all = hash_of(plain({"run": old_names(json.loads(to_json(config))), "methods": made_of}))[:8]
    name = f"{splits.name}-{options.model}-{options.width:g}-{request.slug}-{of_all}"
    rearing = Rearing(
        model=stages.build_model(
            options.model, splits, NetworkOptions(width=options.width, dtype=options.dtype)
        ),
        splits=splits,
        training=Training(epochs=options.epochs),
        group=options.group,
        chunk=options.chunk,
        folder=options.out / name,
        notify=lambda done, of: print(f"{done} of {of}", flush=True),
    )
    if options.plan:
        print_plan(options, rearing)
        return
    oracles = oracle_population(rearing, request.ids, options.oracles)
    methods: dict[str, Serve | Together] = {
        method: together(method, rearing, request.ids)
        if method in PLAIN
        else serving(options, method, splits, request)
        for method in options.methods
    }
    told = {method: hash_of(plain({method: made})) for method, made in made_of.items()}
    population = unlearned_population(rearing, request.ids, options.originals, methods, told)
    figures = {}
    for kind in ("original", *options.methods):
        networks = population.of(kind)
        alone = audit_networks(networks, oracles, request.ids)
        figures[kind] = {
            "networks": len(networks),
            "passed": sum(audit.passed for audit in alone),
            "remember": sum(audit.remembers for audit in alone),
            "median_distance": float(np.median([audit.distance for audit in alone])),
            **dataclasses.asdict(audit_method(networks, oracles, request.ids)),
        }
        print(kind, figures[kind], flush=True)
    stem = of_dtype(f"method_audit_{splits.name}_{options.model}", options.dtype)
    found = {"oracles": len(oracles), "methods": figures}
    write(stem, found, pictures={stem: plots.audits(figures)})


if __name__ == "__main__":
    main()

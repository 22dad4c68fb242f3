"""The main job on real images: random and class forgetting, both presets, three seeds.

Command:   python -m experiments.main_job --dataset npz:cifar10_small.npz --model cnn
Data:      a subset of CIFAR-10, 500 training and 200 test images per class
Hardware:  2 CPU cores, 24 GiB; about 25 minutes a seed, offline phase of the paper included
Expected:  class forgetting: `paper` keeps the class, `recommended` leaves 0 % of it at retain
           accuracy near the retrained model's; random forgetting: see the table it writes

Each seed is a run directory under --out, so that an interrupted experiment goes on where it
stopped. Writes experiments/results/main_job_DATASET_MODEL.{csv,json}. To vary it: any dataset and
model of the catalogue, other requests, fewer baselines. At the size of the publication, on 2 cores
in half an hour: --dataset npz:cifar10.npz --model mlp --requests class:2 --preset paper --baselines
--seeds 1
"""

from __future__ import annotations

import dataclasses
import itertools
import json
from pathlib import Path

from dcmu_jax.reporting.comparison import compare
from dcmu_jax.reporting.progress import training_progress
from dcmu_jax.runs.config import RunConfig
from dcmu_jax.runs.config_json import to_json
from dcmu_jax.runs.options import Dtype, NetworkOptions
from dcmu_jax.runs.renamed import old_names
from dcmu_jax.runs.run import Run
from dcmu_jax.runs.store import hash_of
from dcmu_jax.sweeps import means
from dcmu_jax.sweeps.cells import stem_of
from experiments.arguments import parse
from experiments.writing import of_dtype, read_rows, write

_AVERAGED = (
    "retain_accuracy",
    "forget_accuracy",
    "train_accuracy",
    "test_accuracy",
    "mia",
    "unlearning_metric",
    "reduction",
    "online_s",
    "offline_s",
    "compile_s",
    "online_flops",
    "gap",
    "tug_of_war",
    "online_over_retraining",
    "flops_over_retraining",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """What is run.

    Attributes:
        dataset: as for `dcmu run`.
        model: as for `dcmu run`.
        dtype: of the computation; parameters and statistics stay float32.
        requests: what to forget.
        preset: of the method.
        baselines: compared with it, besides retraining.
        seeds: of the original; the forget set has the same seed, unlearning the seed + 100.
            Not 0: it was looked at while the presets were chosen.
        out: where the run directories lie.
    """

    dataset: str
    model: str = "cnn"
    dtype: Dtype = "float32"
    requests: tuple[str, ...] = ("random:0.1", "class:2")
    preset: str = "recommended"
    baselines: tuple[str, ...] = ("catastrophic_forgetting", "paper")
    seeds: tuple[int, ...] = (1, 2, 3)
    out: Path = Path("runs/main_job")


def _key(row: dict) -> tuple:
    return row["request"], int(row["seed"]), row["method"]


def run_cell(settings: Settings, seed: int, text: str) -> list[dict]:
    """The rows of one seed and request, every method."""
    config = RunConfig(
        dataset=settings.dataset,
        model=settings.model,
        forget=settings.requests[0],
        network=NetworkOptions(dtype=settings.dtype),
        preset=settings.preset,
        baselines=settings.baselines,
        seed=seed,
        forget_seed=seed,
        unlearning_seed=seed + 100,
    )
    of_all = hash_of(old_names(json.loads(to_json(config))))[:8]
    directory = settings.out / f"{settings.model}-seed{seed}-{of_all}"
    run = Run.create_or_open(directory, config, progress=training_progress)
    measurements = compare(run, run.request(text)).measurements
    reference = next(m for m in measurements if m.method == "retrain")
    return [
        {
            "request": text,
            "seed": seed,
            **m.row(),
            "online_over_retraining": _ratio(m.online_s, reference.online_s),
            "flops_over_retraining": _ratio(m.online_flops, reference.online_flops),
        }
        for m in measurements
    ]


def _ratio(value: float | None, reference: float | None) -> float | None:
    return None if value is None or not reference else value / reference


def main() -> None:
    """Run all seeds; what has run is written after each."""
    settings = parse(Settings, __doc__)
    name = f"main_job_{stem_of(settings.dataset)}_{settings.model}"
    name = of_dtype(name, settings.dtype)
    # What another command measured stays, unless it is measured again.
    rows = {_key(row): row for row in read_rows(name, words=("request", "method"))}
    for seed, text in itertools.product(settings.seeds, settings.requests):
        rows |= {_key(row): row for row in run_cell(settings, seed, text)}
        found = means(list(rows.values()), ["request", "method"], _AVERAGED, count="seeds")
        write(name, {"summary": found}, rows.values())


if __name__ == "__main__":
    main()

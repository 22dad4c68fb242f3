"""Membership inference on models trained on random halves: LiRA and RMIA against a loss threshold.

Command:   python -m experiments.membership --dataset npz:cifar10_small.npz
           python -m experiments.membership --dataset npz:cifar10.npz --width 1 --models 256
Data:      a subset of CIFAR-10, 500 training and 200 test images per class
Hardware:  2 CPU cores, 10 minutes; at full size a GPU
Expected:  at a false-positive rate of 1 % LiRA finds several times as many members as the threshold

Every model in turn is the target, the others its shadow models. Intervals are by a bootstrap over
examples. Finished groups of models are kept under --out. Writes
experiments/results/membership_DATASET.{json,png}.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from dcmu_jax.audits.building import Rearing, shadow_population
from dcmu_jax.audits.lira import leave_one_out_lira
from dcmu_jax.audits.margins import losses_of
from dcmu_jax.audits.population import Population
from dcmu_jax.audits.rmia import rmia_scores
from dcmu_jax.audits.roc import separation
from dcmu_jax.audits.shadow import shadow_attack
from dcmu_jax.data.sources import load
from dcmu_jax.runs.options import Dtype, NetworkOptions
from dcmu_jax.runs.stages import build_model
from dcmu_jax.unlearning.task import Training
from experiments import plots
from experiments.arguments import parse
from experiments.writing import of_dtype, write

LABELS = {
    "threshold": "loss threshold",
    "shadow": "shadow models, logistic",
    "lira_offline": "LiRA, offline",
    "lira": "LiRA, online",
    "rmia": "RMIA",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What is run.

    Attributes:
        dataset: as for `dcmu run`.
        model: as for `dcmu run`.
        width: of the network.
        dtype: of the computation; parameters and statistics stay float32.
        epochs: of every model.
        models: how many, an even number.
        out: where finished groups of models are kept.
    """

    dataset: str
    model: str = "cnn"
    width: float = 0.25
    dtype: Dtype = "float32"
    epochs: int = 30
    models: int = 32
    out: Path = Path("runs/membership")


def attack_scores(population: Population) -> dict[str, np.ndarray]:
    """Scores ``(models, training examples)`` of each attack, each model in turn the target."""
    inside = ~population.test
    margins, member = population.margins[:, inside], population.member[:, inside]
    labels = population.labels[inside]
    unseen = population.margins[:, population.test]
    scores = {
        "threshold": -losses_of(margins),
        "lira": leave_one_out_lira(margins, member),
        "lira_offline": leave_one_out_lira(margins, member, online=False),
    }
    rmia, shadow = [], []
    for target in range(len(population)):
        rest = np.arange(len(population)) != target
        rmia.append(
            rmia_scores(margins[target], margins[rest], member[rest], unseen[target], unseen[rest])
        )
        shadow.append(
            shadow_attack(
                margins[target], margins[rest], member[rest], labels=labels, shadow_labels=labels
            )
        )
    return scores | {"rmia": np.stack(rmia), "shadow": np.stack(shadow)}


def main() -> None:
    """Train what is not there yet, attack, write."""
    options = parse(Options, __doc__)
    splits = load(options.dataset)
    model = build_model(
        options.model, splits, NetworkOptions(width=options.width, dtype=options.dtype)
    )
    rearing = Rearing(
        model=model,
        splits=splits,
        training=Training(epochs=options.epochs),
        group=4,
        folder=options.out
        / of_dtype(f"{splits.name}-{options.model}-{options.width:g}", options.dtype),
        notify=lambda done, of: print(f"{done} of {of} models", flush=True),
    )
    population = shadow_population(rearing, options.models)
    scores = attack_scores(population)
    member = population.member[:, ~population.test]
    figures = {
        "models": len(population),
        "training_accuracy": 100 * float(population.correct[population.member].mean()),
        "test_accuracy": 100 * float(population.correct[:, population.test].mean()),
        "attacks": {name: dataclasses.asdict(separation(scores[name], member)) for name in LABELS},
    }
    name = of_dtype(f"membership_{splits.name}", options.dtype)
    write(name, figures, pictures={name: plots.attack_curves(scores, member, LABELS)})
    for attack, numbers in figures["attacks"].items():
        print(attack, {k: tuple(round(x, 4) for x in v) for k, v in numbers.items()})


if __name__ == "__main__":
    main()

"""Baseline condensers (the paper's Fig. 9, done right): accuracy and seconds by images per class.

Command:   python -m experiments.condensation --scale small --dataset npz:cifar10_small.npz
           python -m experiments.condensation --scale full --dataset npz:cifar10.npz
Data:      CIFAR-10; `small`: a subset of it, 500 training and 200 test images per class
Hardware:  `small`: 2 CPU cores, some minutes; `full`: one GPU, hours (it may be interrupted)
Expected:  `small`: gradient and distribution matching above random images at 1 and 10 per class;
           `full`: distribution matching on ConvNet at 1, 10, 50 per class as published: 26.0,
           48.9, 63.0

Every method makes images for the network that judges them: fresh ones of that kind, trained on
the condensed images alone, with the same budget for all, on the test split. (The authors'
figure has accuracies on the training images, and other budgets for each method.) Coresets and
clusters use the features of a network trained on all of the data; its training is not counted.

Each method, number of images, model and seed is a row of
experiments/results/condensation_SCALE_DATASET.csv. Rows that are there are not measured again.
Beside it are a summary (json), and figures drawn by experiments.condensation_figures, which need
the condensed images under --out.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import itertools
from pathlib import Path
from typing import get_args

from matplotlib.figure import Figure

from dcmu_jax.condensation.condenser import CondensedImages
from dcmu_jax.condensation.evaluation import evaluate_condensed
from dcmu_jax.condensation.registry import CONDENSERS, condenser
from dcmu_jax.condensation.siamese import SiameseAugmentation
from dcmu_jax.data.dataset import Splits
from dcmu_jax.data.sources import load
from dcmu_jax.networks.catalogue import create
from dcmu_jax.runs.options import Dtype
from dcmu_jax.sweeps import means
from dcmu_jax.sweeps.cells import stem_of
from dcmu_jax.training.classifier import Classifier, fresh_classifier
from dcmu_jax.training.examples import Examples
from dcmu_jax.training.keys import named_key
from dcmu_jax.training.loop import fit
from dcmu_jax.training.optimizers import Optimizer
from dcmu_jax.training.timing import Stopwatch
from experiments import plots
from experiments.writing import of_dtype, read_rows, save, write

PUBLISHED = {
    "dm": {1: 26.0, 10: 48.9, 50: 63.0},
    "dc": {1: 28.3, 10: 44.9, 50: 53.9},
    "dsa": {1: 28.8, 10: 52.1, 50: 60.6},
}
"""Test accuracy (%) on CIFAR-10 with ConvNet-3: method -> images per class -> published value."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scale:
    """What is run, and with what budget.

    Attributes:
        images_per_class: the numbers of images.
        models: names of the catalogue.
        seeds: of condensation; evaluation has its own for each.
        networks: that judge the images of one seed.
        width: of the models.
        settings: method -> its settings, where they are not the published ones.
        costly: methods that are run up to ``costly_up_to`` images per class only.
        costly_up_to: see ``costly``.
        feature_epochs: epochs of the network whose features coresets use.
        evaluation: settings of ``evaluate_condensed``.
    """

    images_per_class: tuple[int, ...]
    models: tuple[str, ...] = ("mlp", "convnet")
    seeds: tuple[int, ...] = (0, 1, 2)
    networks: int
    width: float
    settings: dict[str, dict]
    costly: tuple[str, ...] = ("dc", "dsa")
    costly_up_to: int = 50
    feature_epochs: int
    evaluation: dict


_FEW_STEPS = {
    "iterations": 20,
    "outer_steps": 5,
    "inner_epochs": 10,
    "learning_rate": 1.0,
    "real_batch": 64,
    "start": "real",
}
SCALES = {
    "small": Scale(
        images_per_class=(1, 10),
        networks=1,
        width=0.125,
        settings={
            "dm": {"iterations": 300, "real_batch": 64, "learning_rate": 10.0},
            "dc": _FEW_STEPS,
            "dsa": _FEW_STEPS,
        },
        feature_epochs=5,
        evaluation={"epochs": 200},
    ),
    "full": Scale(
        images_per_class=(1, 10, 50, 450),
        networks=5,
        width=1.0,
        settings={},
        feature_epochs=30,
        evaluation={"epochs": 1000, "augmentation": SiameseAugmentation()},
    ),
}


class Study:
    """The data, the networks for features, and one cell at a time."""

    def __init__(self, splits: Splits, scale: Scale, out: Path, dtype: Dtype = "float32"):
        self.splits, self.scale, self.out, self.dtype = splits, scale, out, dtype
        self.network = functools.cache(self._network)

    def model(self, name: str):
        """A model of the catalogue, at the width of the scale."""
        return create(
            name,
            image_shape=self.splits.image_shape,
            num_classes=self.splits.num_classes,
            width=self.scale.width,
            dtype=self.dtype,
        )

    def _network(self, name: str, seed: int) -> Classifier:
        """A network trained on all of the data, for features."""
        train = self.splits.train
        fitted = fit(
            fresh_classifier(self.model(name), train, seed),
            Examples.of(train.images, train.labels),
            epochs=self.scale.feature_epochs,
            key=named_key(seed, "network for features"),
            optimizer=Optimizer(schedule="cosine"),
        )
        return fitted.classifier

    def cell(self, method: str, count: int, model: str, seed: int) -> dict:
        """Condense and evaluate: a row of the table; the images stay under ``out``."""
        network = self.network(model, seed)
        condense = condenser(method)(**self.scale.settings.get(method, {}))
        watch = Stopwatch()
        with watch.running():
            condensed = condense(self.splits.train, count, classifier=network, seed=seed)
        condensed.save(images_path(self.out, method, count, model, seed))
        score = evaluate_condensed(
            condensed,
            self.splits.test,
            network.model,
            normalisation=network.normalisation,
            seeds=range(1000 * seed, 1000 * seed + self.scale.networks),
            **self.scale.evaluation,
        )
        return {
            "method": method,
            "images_per_class": count,
            "model": model,
            "seed": seed,
            "test_accuracy": score.mean,
            "networks": self.scale.networks,
            "condense_s": watch.run_s,
            "condense_compile_s": watch.compile_s,
            "evaluate_s": score.run_s,
        }


KEYS = ("method", "images_per_class", "model", "seed")


SHOWN = 6
"""Images of each class in the picture."""


def images_path(out: Path, method: str, count: int, model: str, seed: int) -> Path:
    """Where the images of one cell are kept."""
    return out / f"{method}-{count}-{model}-{seed}.npz"


def measured_rows(name: str) -> dict[tuple, dict]:
    """The rows measured so far, by cell; none where there is no table."""
    rows = {}
    for row in read_rows(name, words=("method", "model")):
        row |= {k: int(row[k]) for k in ("images_per_class", "seed", "networks")}
        rows[tuple(row[k] for k in KEYS)] = row
    return rows


def images_figure(rows: list[dict], out: Path) -> Figure:
    """Some condensed images of every class, of the last model."""
    model, seed = rows[-1]["model"], min(row["seed"] for row in rows)
    counts = sorted({row["images_per_class"] for row in rows})
    count = max((c for c in counts if c <= 10), default=counts[0])
    pictures = {}
    for method in plots.distinct(rows, "method"):
        try:
            found = CondensedImages.load(images_path(out, method, count, model, seed))
        except ValueError:  # measured elsewhere, or not at this number of images
            continue
        pictures[method] = plots.tiled(found.images, found.images_per_class, SHOWN, gap=1)
    return plots.condensed_images(pictures, f"{model}, {count} per class")


def figures(name: str, out: Path) -> dict[str, Figure]:
    """The three figures of the table ``name``."""
    rows = list(measured_rows(name).values())
    return {
        f"{name}_accuracy": plots.condensers(rows, PUBLISHED),
        f"{name}_seconds": plots.condensers(rows, PUBLISHED, seconds=True),
        f"{name}_images": images_figure(rows, out),
    }


def main() -> None:
    """Run all cells; what has run is written after each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scale", choices=SCALES, default="small")
    parser.add_argument("--dtype", "--network.dtype", choices=get_args(Dtype), default="float32")
    parser.add_argument("--dataset", required=True, help="as for dcmu run")
    parser.add_argument("--methods", nargs="+", choices=CONDENSERS, default=list(CONDENSERS))
    parser.add_argument("--models", nargs="+", help="instead of those of the scale")
    parser.add_argument("--images-per-class", nargs="+", type=int, help="likewise")
    parser.add_argument("--seeds", nargs="+", type=int, help="likewise")
    parser.add_argument("--out", type=Path, default=Path("runs/condensation"))
    options = parser.parse_args()
    scale = SCALES[options.scale]
    chosen = {
        name: tuple(getattr(options, name))
        for name in ("models", "images_per_class", "seeds")
        if getattr(options, name)
    }
    scale = dataclasses.replace(scale, **chosen)
    name = of_dtype(f"condensation_{options.scale}_{stem_of(options.dataset)}", options.dtype)
    out = options.out / name
    out.mkdir(parents=True, exist_ok=True)
    study = Study(load(options.dataset), scale, out, options.dtype)
    rows = measured_rows(name)
    cells = itertools.product(scale.seeds, scale.models, scale.images_per_class, options.methods)
    for seed, model, count, method in cells:
        costly = method in scale.costly and count > scale.costly_up_to
        if costly or (method, count, model, seed) in rows:
            continue
        row = study.cell(method, count, model, seed)
        rows[method, count, model, seed] = row
        print(", ".join(f"{k} {v}" for k, v in row.items()), flush=True)
        by = ("model", "method", "images_per_class")
        found = means(list(rows.values()), by, ("test_accuracy", "condense_s"), count="seeds")
        write(name, {"summary": found, "published_convnet": PUBLISHED}, rows.values())
    save(figures(name, out))


if __name__ == "__main__":
    main()

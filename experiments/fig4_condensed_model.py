"""Figures 4 and 11: unlearning in a condensed model, and what a target network gains from it.

Command:   python -m experiments.fig4_condensed_model --dataset npz:cifar10_small.npz --workers 2
           python -m experiments.fig4_condensed_model --dataset npz:cifar10.npz --scale full
Data:      CIFAR-10; `small`: a subset of it, 500 training and 200 test images per class
Hardware:  `small`: 2 CPU cores, 26 minutes; `full`: for one GPU, some 70
           minutes as reckoned from the operations at 20 TFLOP/s, not run yet. `trial` is for seeing
           that all of it runs, and shows nothing
Expected:  `small`: at 10 samples per class the target has 45 ± 11 % through the condensed model
           (three seeds differ by eight), 31 % on the same samples alone, 22 to 27 % on condensed
           images, 58 % retrained. More samples hardly lift it beyond what the small final knows
           (46 ± 13 %): the frozen encoder and decoder are the limit. `full`: 75 % or more is
           the goal

The published runs trained the old small final once more instead of a target, and reached 54 to
57 %. Here `final` is replaced (`dcmu_jax.applications.condensed_model.attach`), and the same target
is retrained, trained on condensed images, and on the remembrance samples alone, each with and
without the encoder and decoder. The curve has the ways that might lift it: augmentation, the
unlearned small final's judgement as soft labels, samples out of the retain set. Extra channels
(features beside the image) belong to the recommended construction; `published` is the paper's
architecture without them, BatchNorm or augmentation, at a shorter offline phase.

What can be concluded from each figure, and what not, stands beside the pictures in
fig4_condensed_model_SCALE.md, with the numbers of the run, and in the result under `conclusions`.
Each row is a file under --out and is not measured again. Writes
fig4_condensed_model_SCALE.{csv,json,md,png}, fig4_condensed_model_SCALE_curve.png and
fig11_condensed_model.png into experiments/results.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

from dcmu_jax.applications.condensed_model_bench import CondensedModelBench
from dcmu_jax.applications.condensed_model_recipes import (
    CONDENSED,
    RETRAINED,
    SMALL,
    Budget,
    Recipe,
    recipe,
    with_gaps,
)
from dcmu_jax.applications.condensed_model_settings import (
    Construction,
    paper_construction,
    recommended_construction,
)
from dcmu_jax.condensation.distribution_matching import DistributionMatching
from dcmu_jax.data.requests import parse_request
from dcmu_jax.data.sources import load
from dcmu_jax.networks.autoencoder import Architecture
from dcmu_jax.programs import make_room
from dcmu_jax.reporting.condensed_diagram import diagram
from dcmu_jax.reporting.condensed_model import (
    DIAGRAM,
    comparison_conclusion,
    comparison_figure,
    curve_conclusion,
    curve_figure,
)
from dcmu_jax.runs.options import Dtype
from dcmu_jax.sweeps import Step, means, run_in_pool
from dcmu_jax.sweeps.cells import stem_of
from dcmu_jax.unlearning.task import Training
from experiments.arguments import parse
from experiments.writing import of_dtype, write, write_captions

RECOMMENDED, PUBLISHED = "recommended", "published"
"""The condensed models; the latter of the paper's architecture, and its row with the target."""

PREPARED = "prepared"
"""The step of what all rows of a seed share."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scale:
    """What is run, and at which size.

    Attributes:
        targets: network of the catalogue -> its width; the first has every row, and the curve.
        every: rows of the first target.
        main: rows of the others.
        per_class: remembrance samples and condensed images of each class in figure 4.
        curve: numbers of remembrance samples per class of the curve.
        construction: the recommended one at this size.
        published: the paper's at this size.
        budget: of the baselines.
    """

    targets: dict[str, float]
    every: tuple[str, ...] = (
        RETRAINED,
        CONDENSED,
        "before unlearning",
        SMALL,
        "remembrance alone",
        "fdm",
        "fdm through model",
        "dm",
        "dm through model",
    )
    main: tuple[str, ...] = (RETRAINED, CONDENSED, "remembrance alone", "fdm", "dm")
    per_class: int = 10
    curve: tuple[int, ...]
    construction: Construction
    published: Construction
    budget: Budget


def _sized(
    settings: Construction,
    channels: tuple[int, ...],
    small: tuple[int, ...],
    epochs: tuple[int, int, int],
    steps: int,
    batch_size: int = 128,
) -> Construction:
    """``settings`` with other widths; epochs of pretraining, of the offline phase, and rounds."""
    pretraining, offline, rounds = epochs
    return dataclasses.replace(
        settings,
        architecture=dataclasses.replace(
            settings.architecture, channels=channels, head=(256,), small_channels=small
        ),
        pretraining=dataclasses.replace(
            settings.pretraining, epochs=pretraining, batch_size=batch_size
        ),
        offline=dataclasses.replace(
            settings.offline,
            rounds=rounds,
            intermediate_epochs=offline,
            intermediate_batch_size=batch_size,
        ),
        per_class=10,
        attaching=dataclasses.replace(settings.attaching, steps=steps),
    )


SCALES = {
    "trial": Scale(
        targets={"cnn": 0.1, "convnet": 0.05},
        curve=(2, 10),
        construction=_sized(recommended_construction(), (4, 4, 4), (4, 4, 4), (1, 1, 1), 3),
        published=_sized(paper_construction(), (4, 4, 4), (4, 4, 4), (1, 1, 1), 3),
        budget=Budget(
            training=Training(epochs=1),
            dm=DistributionMatching(iterations=1, real_batch=8),
            dm_width=0.05,
        ),
    ),
    "small": Scale(
        targets={"cnn": 0.25, "resnet18": 0.0625, "vgg16": 0.125},
        curve=(2, 10, 50),
        construction=_sized(
            recommended_construction(), (16, 32, 64), (16, 32, 32), (15, 5, 1), 200, 64
        ),
        published=_sized(paper_construction(), (16, 32, 64), (16, 32, 32), (10, 5, 1), 120, 64),
        budget=Budget(
            training=Training(epochs=20, batch_size=64, flip=True, crop=4),
            dm=DistributionMatching(iterations=100, real_batch=32, learning_rate=10.0),
            dm_width=0.125,
        ),
    ),
    "full": Scale(
        targets={"cnn": 1.0, "resnet18": 1.0, "vgg16": 1.0},
        every=(*Scale.every, "retain through model"),
        curve=(1, 5, 10, 20, 50, 100),
        construction=dataclasses.replace(
            recommended_construction(),
            architecture=Architecture(
                channels=(64, 128, 256), convolutions=1, batch_norm=True, extra_channels=5
            ),
            pretraining=Training(epochs=60, flip=True, crop=4),
        ),
        published=paper_construction(),
        budget=Budget(training=Training(epochs=30, flip=True, crop=4)),
    ),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What is run.

    Attributes:
        dataset: as for `dcmu run`.
        scale: see SCALES.
        dtype: of the computation; parameters and statistics stay float32.
        request: what to forget.
        seeds: of the constructions; each draws its own forget set.
        workers: processes of the worker pool; see ``sweeps.run_in_pool``.
        out: where the rows lie.
    """

    dataset: str
    scale: Literal["trial", "small", "full"] = "small"
    dtype: Dtype = "float32"
    request: str = "random:0.1"
    seeds: tuple[int, ...] = (1, 2, 3)
    workers: int = 1
    out: Path = Path("runs/fig4_condensed_model")


def ways(scale: Scale) -> dict[str, Recipe]:
    """The lines of the curve, without their numbers of samples."""
    target, width = next(iter(scale.targets.items()))
    best = scale.construction.attaching
    plain = dataclasses.replace(best, flip=False, crop=0, distil=0.0)
    augmented = dataclasses.replace(best, distil=0.0)

    def through(attaching, images="remembrance"):
        return Recipe(
            target=target, width=width, through=CONDENSED, images=images, attaching=attaching
        )

    return {
        "through model, labels alone": through(plain),
        "through model, augmented": through(augmented),
        "through model, augmented, soft labels": through(best),
        "the same, drawn from the retain set": through(best, "retained"),
        "samples alone, augmented": Recipe(target=target, width=width, attaching=augmented),
    }


def _bench(options: Options, name: str, seed: int) -> CondensedModelBench:
    """The ``recommended`` or the ``published`` condensed model of a seed."""
    scale, splits = SCALES[options.scale], load(options.dataset)
    data = of_dtype(stem_of(options.dataset), options.dtype)
    construction = scale.published if name == PUBLISHED else scale.construction
    architecture = dataclasses.replace(construction.architecture, dtype=options.dtype)
    return CondensedModelBench(
        dataclasses.replace(construction, architecture=architecture),
        scale.budget,
        splits,
        parse_request(options.request, splits.train, seed),
        options.out / f"{data}-{options.scale}-{name}-seed{seed}",
        seed=seed,
        largest=max(*scale.curve, scale.per_class),
    )


def _row(bench: CondensedModelBench, name: str, each: Recipe) -> dict:
    found = bench.row(name, each)
    print(
        f"seed {bench.seed} {name} {each.target} {each.per_class}: "
        f"TeA {found['test_accuracy']:.1f} FA {found['forget_accuracy']:.1f} "
        f"update {found['update_s']:.1f} s",
        flush=True,
    )
    return found


def prepare_seed(options: Options, seed: int) -> None:
    """What the rows of a seed share: the condensed model before and after the request, images."""
    bench, scale = _bench(options, RECOMMENDED, seed), SCALES[options.scale]
    bench.unlearned()
    for kind in ("fdm", "dm"):
        bench.few_images(kind, scale.per_class)


def measure_target(options: Options, seed: int, target: str) -> list[dict]:
    """Rows of figure 4 of one target."""
    bench, scale = _bench(options, RECOMMENDED, seed), SCALES[options.scale]
    names = scale.every if target == next(iter(scale.targets)) else scale.main
    wanted = {"target": target, "width": scale.targets[target], "per_class": scale.per_class}
    return [_row(bench, name, recipe(name, **wanted)) for name in names]


def measure_published(options: Options, seed: int) -> list[dict]:
    """The row of the paper's architecture."""
    scale = SCALES[options.scale]
    target, width = next(iter(scale.targets.items()))
    attached = recipe(CONDENSED, target=target, width=width, per_class=scale.per_class)
    return [_row(_bench(options, PUBLISHED, seed), PUBLISHED, attached)]


def measure_curve(options: Options, seed: int) -> list[dict]:
    """Rows of the curve."""
    bench, scale = _bench(options, RECOMMENDED, seed), SCALES[options.scale]
    return [
        _row(bench, name, dataclasses.replace(each, per_class=count))
        for name, each in ways(scale).items()
        for count in scale.curve
    ]


def measure(options: Options, seed: int) -> tuple[list[dict], list[dict]]:
    """Rows of figure 4 and of the curve of one seed; what is not there yet is measured."""
    rows = [
        r for each in SCALES[options.scale].targets for r in measure_target(options, seed, each)
    ]
    rows += measure_published(options, seed)
    curve = measure_curve(options, seed)
    make_room()
    return with_gaps(rows), curve


def steps(options: Options) -> list[Step]:
    """What ``measure`` does, in pieces for several workers; the dearest first."""
    found = []
    for seed in options.seeds:
        shared = (PREPARED, seed)
        found.append(Step(shared, prepare_seed, (options, seed), programs=PREPARED))
        for target in reversed(SCALES[options.scale].targets):
            arguments = (options, seed, target)
            found.append(Step((target, seed), measure_target, arguments, (shared,), target))
        found.append(Step((PUBLISHED, seed), measure_published, (options, seed), (), PUBLISHED))
        found.append(Step(("curve", seed), measure_curve, (options, seed), (shared,), "curve"))
    return found


FIELDS = (
    "retain_accuracy",
    "forget_accuracy",
    "test_accuracy",
    "mia",
    "gap",
    "offline_s",
    "request_s",
    "train_s",
    "update_s",
    "parameters",
    "trained_parameters",
    "trained_images",
)


def summary(rows: list[dict]) -> dict[str, dict]:
    """Mean and interval of every number, by target, row and number of samples."""
    named = [r | {"cell": f"{r['target']}: {r['row']}, {r['per_class']} per class"} for r in rows]
    return means(named, ["cell"], FIELDS)


def main() -> None:
    """Measure what is missing, then write tables and figures."""
    options = parse(Options, __doc__)
    scale = SCALES[options.scale]
    rows: list[dict] = []
    curve: list[dict] = []
    if options.workers > 1:
        run_in_pool(steps(options), options.workers)
    for seed in options.seeds:
        compared, points = measure(options, seed)
        rows, curve = rows + compared, curve + points
    name = of_dtype(f"fig4_condensed_model_{options.scale}", options.dtype)
    shown = [{k: v for k, v in row.items() if k != "recipe"} for row in rows + curve]
    shown = [{"gap": None} | row for row in shown]
    first = next(iter(scale.targets))
    levels = {
        "retrained": [
            r["test_accuracy"] for r in rows if r["row"] == RETRAINED and r["target"] == first
        ],
        "small final, unlearned": [r["test_accuracy"] for r in rows if r["row"] == SMALL],
    }
    texts = {
        "figure 4": comparison_conclusion(rows),
        "curve": curve_conclusion(curve, levels["small final, unlearned"]),
        "figure 11": DIAGRAM,
    }
    conclusions = {each: str(text) for each, text in texts.items()}
    figures = {"rows": summary(rows), "curve": summary(curve), "conclusions": conclusions}
    pictures = {
        name: comparison_figure(rows),
        f"{name}_curve": curve_figure(curve, levels),
        "fig11_condensed_model": diagram(scale.construction),
    }
    write(name, figures, shown, pictures)
    captions = dict(zip(pictures, texts.values(), strict=True))
    title = f"Unlearning in a condensed model, scale {options.scale}"
    print(write_captions(name, title, captions).read_text())


if __name__ == "__main__":
    main()

"""What each piece of the method is worth: alone, all but one, all; and controls.

Command:   python -m experiments.ablation --dataset npz:cifar10_small.npz
           python -m experiments.ablation --dataset npz:cifar10_small.npz --model mlp --width 1
Data:      a subset of CIFAR-10, 500 training and 200 test images per class
Hardware:  1 CPU core, beside other work 40 minutes a seed for the CNN, 16 for the MLP
Expected:  CNN, one seed: `recommended` is as near to retraining as another seed of retraining is,
           and nothing taken from it leaves it there; without its fresh parts, or on the reduced
           retain set, the gap is over 10 at random. MLP, two seeds: `condensed` forgets nothing
           without its shrunken parts, `recommended` half without the forgotten samples in its loss;
           a class is forgotten once `final` trains online. At random, members of the clusters do
           better than condensed images

Measured on original networks, forget sets and a class that no table reports (seeds 1000 and above,
class 7). The presets were chosen on others of the kind, their schedules for a class on class 2. A
piece is some fields of the preset `condensed`; "paper with" is the published preset with them
alone, "condensed without" is `condensed` with the published values.
`recommended` is `condensed` with other resets and steps, on the whole retain set: it is shown
without its resets, on the reduced retain set, and with the forgotten samples in its loss under
wrong labels, or without them where it has them. The controls: a random member in place of each
condensed image, a coreset of the same size at the same cost; plain fine-tuning, and retraining,
on the whole retain set, for as many operations as `recommended` takes. One offline round stands for
the paper's ten. Writes experiments/results/ablation_MODEL.{csv,json,png}.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from dcmu_jax.networks.partition import PARTS
from dcmu_jax.runs.options import Dtype, MethodOptions
from dcmu_jax.runs.presets import preset
from dcmu_jax.sweeps import AGAIN, Bench, Group, Sweep, Variant, means
from dcmu_jax.training.optimizers import Optimizer
from dcmu_jax.unlearning.modular import ModularUnlearning
from dcmu_jax.unlearning.schedule import Reset, Step
from experiments import plots
from experiments.arguments import parse
from experiments.writing import of_dtype, write

REQUESTS = {"online": "random:0.1", "online_classes": "class:7"}
"""Field of the schedule -> request; the tables forget another class."""

Piece = Callable[[MethodOptions, MethodOptions, str], MethodOptions]
"""The first with some fields of the second, in the schedule of the third name."""


def _condensation(*fields: str) -> Piece:
    def piece(to: MethodOptions, source: MethodOptions, _: str) -> MethodOptions:
        taken = {field: getattr(source.condensation, field) for field in fields}
        return dataclasses.replace(to, condensation=dataclasses.replace(to.condensation, **taken))

    return piece


def _schedule(*fields: str) -> Piece:
    def piece(to: MethodOptions, source: MethodOptions, online: str) -> MethodOptions:
        taken = {field: getattr(getattr(source, online), field) for field in fields}
        return with_schedule(to, online, **taken)

    return piece


def _collecting(*fields: str) -> Piece:
    def piece(to: MethodOptions, source: MethodOptions, online: str) -> MethodOptions:
        taken = {field: getattr(getattr(source, online).collecting, field) for field in fields}
        collecting = dataclasses.replace(getattr(to, online).collecting, **taken)
        return with_schedule(to, online, collecting=collecting)

    return piece


def _offline(to: MethodOptions, source: MethodOptions, _: str) -> MethodOptions:
    return dataclasses.replace(to, offline=source.offline)


PIECES: dict[str, Piece] = {
    "clusters": _condensation("clustering", "clusters_per_class", "cluster_size"),
    "matching": _condensation("matching"),
    "weights by size": _collecting("weigh_by_size"),
    "real images": _collecting("real_per_cluster"),
    "resets": _schedule("resets"),
    "what trains, how long": _schedule("rounds", "tail", "round_steps", "closing_steps"),
    "no offline phase": _offline,
}


def with_schedule(options: MethodOptions, online: str, **fields: Any) -> MethodOptions:
    """``options`` with some fields of one of its schedules replaced."""
    return dataclasses.replace(
        options, **{online: dataclasses.replace(getattr(options, online), **fields)}
    )


def variants(model: str, online: str, epochs: int) -> Iterator[tuple[str, MethodOptions]]:
    """Every row of the table but retraining: name and options.

    Args:
        model: of the catalogue.
        online: the schedule, a key of ``REQUESTS``.
        epochs: over the retain set, of the controls at equal cost.
    """
    ours, condensed = preset("recommended", model), preset("condensed", model)
    paper = preset("paper", model)
    paper = dataclasses.replace(paper, offline=dataclasses.replace(paper.offline, rounds=1))
    # The same test images for all.
    paper = dataclasses.replace(paper, remembrance=ours.remembrance)
    yield "recommended", ours
    yield "condensed", condensed
    yield "paper", paper
    for name, piece in PIECES.items():
        sides = (("paper with", paper, condensed), ("condensed without", condensed, paper))
        for title, to, source in sides:
            variant = piece(to, source, online)
            if variant != to:
                yield f"{title}: {name}", variant
    collecting = getattr(condensed, online).collecting
    random_member = dataclasses.replace(collecting, stand_in="member")
    again = dataclasses.replace(collecting, touched="recondense")
    yield (
        "condensed, random members for images",
        with_schedule(condensed, online, collecting=random_member),
    )
    yield (
        "condensed, touched clusters re-condensed",
        with_schedule(condensed, online, collecting=again),
    )
    steps = getattr(ours, online).closing_steps
    reduced = tuple(dataclasses.replace(step, on="reduced") for step in steps)
    yield "recommended without: resets", with_schedule(ours, online, resets=())
    yield (
        "recommended on the reduced retain set",
        with_schedule(ours, online, closing_steps=reduced),
    )
    sees = getattr(ours, online).forget_weight > 0
    yield (
        "recommended, forgotten samples " + ("not in the loss" if sees else "in the loss"),
        with_schedule(ours, online, forget_weight=0.0 if sees else 0.2),
    )
    step = Step(parts=PARTS, on="retain", epochs=epochs, optimizer=Optimizer(schedule="cosine"))
    plain = ModularUnlearning(closing_steps=(step,))
    fresh = dataclasses.replace(plain, resets=tuple(Reset(part=part) for part in PARTS))
    yield "control: fine-tuning", dataclasses.replace(ours, **{online: plain})
    yield "control: short retraining", dataclasses.replace(ours, **{online: fresh})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What is run.

    Attributes:
        dataset: as for `dcmu run`.
        model: as for `dcmu run`.
        width: of the network.
        dtype: of the computation; parameters and statistics stay float32.
        seeds: see ``Group``; 1000 and above, for below are those of the tables.
        out: where the cells lie.
    """

    dataset: str
    model: str = "cnn"
    width: float = 0.25
    dtype: Dtype = "float32"
    seeds: tuple[int, ...] = (1000, 1001)
    out: Path = Path("runs/ablation")


def measured_variants(bench: Bench, request: str) -> Iterator[Variant]:
    """The rows of a cell; what the preset takes says what the controls may."""
    model = bench.group.model
    yield from (Variant(name="retrain"), Variant(name=AGAIN))
    retrained = bench.cell(request, "retrain")
    ours = bench.cell(request, "recommended", options=preset("recommended", model))
    share = ours["online_flops"] / retrained["online_flops"]
    (online,) = (name for name, asked in REQUESTS.items() if asked == request)
    epochs = max(1, round(share * bench.group.epochs))
    for name, options in variants(model, online, epochs):
        yield Variant(name=name, options=options)


def main() -> None:
    """Measure what is missing, then write table and figure."""
    options = parse(Options, __doc__)
    groups = [
        Group(
            dataset=options.dataset,
            model=options.model,
            width=options.width,
            dtype=options.dtype,
            seed=seed,
        )
        for seed in options.seeds
    ]
    cells = tuple(itertools.product(groups, REQUESTS.values()))
    rows = Sweep(cells=cells, variants=measured_variants, out=options.out).rows()
    fields = ("retain_accuracy", "forget_accuracy", "test_accuracy", "mia", "gap", "tug_of_war")
    fields += ("time_over_retraining", "flops_over_retraining", "reduction")
    found = means(rows, ["request", "method"], fields)
    name = of_dtype(f"ablation_{options.model}", options.dtype)
    figures = {"seeds": list(options.seeds), "requests": found}
    write(name, figures, rows, {name: plots.ablation(rows)})


if __name__ == "__main__":
    main()

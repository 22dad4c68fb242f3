"""What the number of remembrance samples does to modular unlearning as published.

Command:   python -m experiments.remembrance_size --dataset npz:cifar10_small.npz
Data:      a subset of CIFAR-10, 500 training images per class
Hardware:  1 CPU core, 15 minutes
Expected:  the more, the nearer to retraining: gap 8.7, 7.3 and 6.5 at 1, 10 and 50 per class, three
           points of retain accuracy fewer (the authors' differ by less than two points)

The `paper` preset with other numbers of remembrance samples, random forgetting of 10 %. One offline
round instead of ten. All numbers of samples are evaluated on the same test images: those that
the largest leaves. Writes experiments/results/remembrance_size.{csv,json}.
"""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

from dcmu_jax.runs.options import Dtype
from dcmu_jax.runs.presets import paper_preset
from dcmu_jax.sweeps import Bench, Group, Sweep, Variant, means
from experiments.arguments import parse
from experiments.writing import of_dtype, write


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What is run.

    Attributes:
        dataset: as for `dcmu run`.
        model: as for `dcmu run`.
        dtype: of the computation; parameters and statistics stay float32.
        per_class: numbers of remembrance samples per class.
        seeds: see ``Group``.
        out: where the cells lie.
    """

    dataset: str
    model: str = "mlp"
    dtype: Dtype = "float32"
    per_class: tuple[int, ...] = (1, 10, 50)
    seeds: tuple[int, ...] = (1, 2, 3)
    out: Path = Path("runs/remembrance_size")

    def variants(self, bench: Bench, request: str) -> list[Variant]:
        """Retraining, then the published preset by each number of samples."""
        preset = paper_preset(self.model)
        offline = dataclasses.replace(preset.offline, rounds=1)
        tried = {
            f"{count} per class": dataclasses.replace(
                preset,
                remembrance=dataclasses.replace(preset.remembrance, per_class=count),
                offline=offline,
            )
            for count in self.per_class
        }
        return [
            Variant(name="retrain"),
            *(Variant(name=name, options=options) for name, options in tried.items()),
        ]


def main() -> None:
    """Measure what is missing, then write the table."""
    options = parse(Options, __doc__)
    groups = [
        Group(dataset=options.dataset, model=options.model, seed=s, dtype=options.dtype)
        for s in options.seeds
    ]
    rows = Sweep(
        cells=tuple(itertools.product(groups, ["random:0.1"])),
        variants=options.variants,
        out=options.out,
        left_out=max(options.per_class),
    ).rows()
    fields = ("retain_accuracy", "forget_accuracy", "test_accuracy", "mia", "gap", "online_s")
    write(of_dtype("remembrance_size", options.dtype), means(rows, ["method"], fields), rows)


if __name__ == "__main__":
    main()

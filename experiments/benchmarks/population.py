"""Benchmark: 64 small networks trained as one population, against the same one after another.

Command:  python -m experiments.benchmarks.population
          python -m experiments.benchmarks.population --model cnn --width 0.25
Needs:    2 CPU cores, 4 GB, some five minutes; or a GPU. Digits, or images of 32x32x3 at random.
Aim:      >= 2x on a GPU (not measured yet); on CPU what the cores leave: 1.2x for 64 MLPs, four
          side by side, and 1.2x for 16 CNNs, one by one, for one network's matrix products fill two
          cores already (experiments/results/population_{mlp,cnn}_cpu.json).

One after another is a call of ``fit`` for each network, which compiles once. The population is one
call, with 1, 4, 16 or 64 networks side by side. All train for the same epochs on as many images;
compilation is in none of the times, and rounds are interleaved, the least of each kept.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from dcmu_jax.data.dataset import Dataset
from dcmu_jax.data.sources import load
from dcmu_jax.networks import create
from dcmu_jax.training.arguments import Placement
from dcmu_jax.training.classifier import fresh_classifier
from dcmu_jax.training.examples import Examples
from dcmu_jax.training.keys import named_key
from dcmu_jax.training.loop import fit
from dcmu_jax.training.optimizers import Optimizer
from dcmu_jax.training.population import fit_population, stack
from experiments.benchmarks.command import CommandLine
from experiments.benchmarks.images import dataset_of, random_images

CHUNKS = (1, 4, 16, 64)


def data(name: str) -> Dataset:
    """Digits; or random colour images, which cost what real ones do."""
    return load("digits").train if name == "digits" else dataset_of(*random_images(1024))


def main() -> None:
    """Measure and write."""
    line = CommandLine(
        "population",
        __doc__,
        model="mlp",
        width=1.0,
        dataset={"choices": ("digits", "random")},
        networks=64,
        epochs=3,
        rounds=3,
    )
    options = line.parse()
    source = options.dataset or ("digits" if options.model == "mlp" else "random")
    dataset, count = data(source), options.networks
    height, width, channels = dataset.images.shape[1:]
    model = create(
        options.model,
        image_shape=(height, width, channels),
        num_classes=10,
        width=options.width,
    )
    examples = jax.tree.map(jnp.asarray, Examples.of(dataset.images, dataset.labels))
    networks = [fresh_classifier(model, dataset, seed) for seed in range(count)]
    keys = [named_key(seed, "training") for seed in range(count)]
    rows = np.tile(np.arange(len(dataset)), (count, 1))
    settings = {"epochs": options.epochs, "optimizer": Optimizer(), "batch_size": 256}

    def loop() -> float:
        return sum(
            fit(network, examples, key=key, **settings).run_s
            for network, key in zip(networks, keys, strict=True)
        )

    def together(chunk: int) -> float:
        return fit_population(
            stack(networks),
            examples,
            rows,
            keys=jnp.stack(keys),
            placement=Placement(chunk=chunk),
            **settings,
        ).run_s

    times: dict[str, list[float]] = {}
    for _ in range(options.rounds):
        times.setdefault("one after another", []).append(loop())
        for chunk in (c for c in CHUNKS if c <= count):
            times.setdefault(f"chunk {chunk}", []).append(together(chunk))
        print({name: round(min(values), 3) for name, values in times.items()}, flush=True)
    least = {name: min(values) for name, values in times.items()}
    ratios = {
        name: least["one after another"] / value
        for name, value in least.items()
        if name != "one after another"
    }
    figures = {
        "networks": count,
        "images": len(dataset),
        "epochs": options.epochs,
        "seconds": least,
        "times_faster_than_one_after_another": ratios,
    }
    line.write(f"population_{options.model}_{jax.default_backend()}", figures, options)


if __name__ == "__main__":
    main()

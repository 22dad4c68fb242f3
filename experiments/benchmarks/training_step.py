"""Benchmark: a training step of the CNN on 32x32x3 images, beside PyTorch on the same cores.

Command:  python -m experiments.benchmarks.training_step   (from the root of the repository)
Needs:    the extra ``bench`` (PyTorch); 2 CPU cores, 4 GB, about three minutes; no data set.
Holds:    wall time no more than 1.3 times that of PyTorch, aim 1.0, for batches of 128 and 256.

The step is that of an epoch of ``dcmu_jax.training.fit``: gather uint8 images, normalise, forward,
backward, Adam. The same work in eager PyTorch, in both memory layouts, the faster of which counts.
Runs are interleaved and the least time of each is kept, because other work on the machine can only
add. Processor time (both cores together) is noted too: it suffers less from such work, but
PyTorch's threads burn it while they wait unless ``--waiting passive`` is given.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable

import numpy as np

from experiments.benchmarks.clock import in_turn, least
from experiments.benchmarks.command import CommandLine
from experiments.benchmarks.images import dataset_of, random_images

LAYOUTS = ("channels_last", "contiguous")
STEPS, LAX_STEPS = 16, 1


def jax_epoch(images: np.ndarray, labels: np.ndarray, batch: int, conv: str) -> Callable[[], None]:
    """One epoch by the library's loop, from the same start each time."""
    from dcmu_jax.networks import create
    from dcmu_jax.prng import key_of
    from dcmu_jax.training.classifier import fresh_classifier
    from dcmu_jax.training.examples import Examples
    from dcmu_jax.training.loop import fit
    from dcmu_jax.training.optimizers import Optimizer

    model = create("cnn", image_shape=(32, 32, 3), num_classes=10, conv=conv)
    classifier = fresh_classifier(model, dataset_of(images, labels), seed=0)
    return functools.partial(
        fit,
        classifier,
        Examples.of(images, labels),
        epochs=1,
        key=key_of(0),
        optimizer=Optimizer(),
        batch_size=batch,
    )


def torch_epoch(
    images: np.ndarray, labels: np.ndarray, batch: int, layout: str
) -> Callable[[], None]:
    """One epoch of the same network and the same work in eager PyTorch."""
    from dcmu_jax.networks import create
    from experiments.benchmarks.torch_twins import epoch_of, twin

    network = twin(create("cnn", image_shape=(32, 32, 3), num_classes=10), 32)
    of = {"batch": batch, "dtype": "float32", "device": "cpu", "mode": "eager", "layout": layout}
    return epoch_of(network, images, labels, **of)


def least_ms(epochs: dict[str, Callable[[], None]], steps: int, rounds: int) -> dict[str, dict]:
    """Least wall and processor time of a step (ms) of each epoch, rounds interleaved."""
    return {
        name: {
            "wall_ms": 1000 * found["wall_s"] / steps,
            "processor_ms": 1000 * found["cpu_s"] / steps,
        }
        for name, found in least(in_turn(epochs, rounds)).items()
    }


def measure(batch: int, rounds: int, with_lax: bool) -> dict:
    """Every implementation at one batch size, and the ratios to the faster PyTorch."""
    images, labels = random_images(STEPS * batch)
    epochs: dict[str, Callable[[], None]] = {
        "dcmu_jax dot": jax_epoch(images, labels, batch, "dot")
    }
    for layout in LAYOUTS:
        epochs[f"torch {layout}"] = torch_epoch(images, labels, batch, layout)
    figures = least_ms(epochs, STEPS, rounds)
    if with_lax:
        few = LAX_STEPS * batch
        lax = {"dcmu_jax lax": jax_epoch(images[:few], labels[:few], batch, "lax")}
        figures |= least_ms(lax, LAX_STEPS, 1)
    for kind in ("wall", "processor"):
        best = min(figures[f"torch {layout}"][f"{kind}_ms"] for layout in LAYOUTS)
        figures[f"ratio_{kind}"] = figures["dcmu_jax dot"][f"{kind}_ms"] / best
    return figures


def main() -> None:
    """Measure, print and write ``experiments/results/training_step_cpu.json``."""
    line = CommandLine(
        "training_step",
        __doc__,
        rounds=(7, "timed epochs of each"),
        waiting={
            "choices": ("active", "passive"),
            "default": "active",
            "help": "how PyTorch's idle threads wait; passive on a machine busy with other work",
        },
    )
    options = line.parse()
    # Read once, when PyTorch is first imported; hence the imports inside the functions above.
    os.environ["OMP_WAIT_POLICY"] = options.waiting.upper()
    os.environ.setdefault("JAX_PLATFORMS", "cpu")

    import torch

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    figures: dict = {
        "load_average_before": os.getloadavg()[0],
        "torch_threads": torch.get_num_threads(),
        "steps_per_epoch": STEPS,
        "rounds": options.rounds,
    }
    for batch in (128, 256):
        figures[f"batch_{batch}"] = measure(batch, options.rounds, with_lax=batch == 128)
        print(f"batch {batch}: {figures[f'batch_{batch}']}", flush=True)
    line.write("training_step_cpu", figures, options)


if __name__ == "__main__":
    main()

"""Benchmark: epochs of ResNet18 and VGG16 on an accelerator, beside its roofs and beside PyTorch.

Command:  python -m experiments.benchmarks.accelerator   (from the root of the repository)
          python -m experiments.benchmarks.accelerator --dtype bfloat16 float32 --minutes 20
Needs:    a GPU of 16 GB, expected 7 minutes on an H100, not tried on one yet: most of it compiles.
          Past --minutes 8 no step is begun, so that it ends within 10. No data set, no TensorFlow
          Datasets, no tyro. The extra ``bench`` for PyTorch, else that comparison is left out.
Aim:      at least 40 % of the measured rate of bfloat16 matrix products, and epochs faster than
          PyTorch's fastest (channels last, AMP, compiled) on the same card. The file says what was
          measured. Without a GPU it runs at a small size, which says nothing of the aim.

Measured, in this order, and written after each step, so that a time limit costs the rest alone:

- the roofs: matrix products in bfloat16 and float32, the best of a few sizes; ``a + s b`` on long
  vectors;
- epochs of the library's own ``fit`` on made-up uint8 images that lie on the device, the first of
  which compiles and is not counted. Operations are those of the network as the compiler counts
  them before optimising, so work done twice counts once;
- the roofline: operations for each byte of the compiled step (see ``roofline.place`` for what the
  compiler may leave out), the bound that follows, and the rate reached;
- the same network in PyTorch, in a process of its own: eager, compiled, compiled with CUDA graphs,
  the fastest of which counts, and why one failed if it did;
- epochs with flips and crops inside the step, for their price.

Writes experiments/results/accelerator_DEVICE.json and accelerator_DEVICE_roofline.png.
"""

from __future__ import annotations

import argparse
import itertools
import math
import os
import re
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

from dcmu_jax.data.augmentation import Augmentation
from dcmu_jax.networks.catalogue import DTYPES, MODELS, create
from dcmu_jax.training.arguments import Objective
from dcmu_jax.training.classifier import Classifier, fresh_classifier
from dcmu_jax.training.examples import Examples
from dcmu_jax.training.keys import named_key
from dcmu_jax.training.loop import Fitted, fit
from dcmu_jax.training.optimizers import Optimizer
from experiments.benchmarks import record, roofline
from experiments.benchmarks.clock import epoch_summary
from experiments.benchmarks.command import CommandLine
from experiments.benchmarks.images import dataset_of, random_images
from experiments.benchmarks.torch_baseline import TWINS, torch_baseline

AUGMENTATION = Augmentation(flip=True, crop_padding=4)
ON_DEVICE = {
    "images": 50_000,
    "batch": 512,
    "width": 1.0,
    "dtype": ["bfloat16"],
    "epochs": 12,
    "matrix": [4096, 8192, 16_384],
    "vector": 2**28,
}
ON_CPU = {
    "images": 512,
    "batch": 128,
    "width": 0.125,
    "dtype": ["float32"],
    "epochs": 3,
    "matrix": [512, 1024],
    "vector": 2**24,
}


def epochs_of(
    classifier: Classifier,
    examples: Examples,
    options: argparse.Namespace,
    augmentation: Augmentation | None = None,
) -> tuple[list[float], Fitted]:
    """Seconds of each epoch of one call of ``fit``, the first with its compilation, and the call.

    The loop fetches the loss of an epoch before it reports it, and so has waited for the device.
    """
    ends = [time.perf_counter()]
    fitted = fit(
        classifier,
        examples,
        epochs=options.epochs,
        key=named_key(0, "training"),
        optimizer=Optimizer(),
        batch_size=options.batch,
        loss=Objective(augmentation=augmentation),
        callbacks=(lambda _: ends.append(time.perf_counter()),),
    )
    return np.diff(ends).tolist(), fitted


def speed(
    classifier: Classifier, examples: Examples, options: argparse.Namespace, rates: dict[str, float]
) -> dict[str, Any]:
    """Epochs of one network, and the rate they reach.

    Args:
        classifier: the network.
        examples: on the device.
        options: of the benchmark.
        rates: FLOP/s of matrix products, by the dtype.
    """
    seconds, fitted = epochs_of(classifier, examples, options)
    count = len(examples.labels)
    steps = math.ceil(count / min(options.batch, count))
    found: dict[str, Any] = {
        "parameters": sum(x.size for x in jax.tree.leaves(classifier.variables["params"])),
        "steps_of_an_epoch": steps,
        **epoch_summary(seconds[1:]),
        "compile_s": fitted.compile_s,
        "last_loss": fitted.losses[-1],
    }
    found["images_per_s"] = count / found["median_s"]
    if fitted.flops is not None:
        per_epoch = fitted.flops / options.epochs
        rate = per_epoch / found["median_s"]
        found |= {"flops_of_a_step": per_epoch / steps, "tflops": rate / 1e12}
        found["share_of_matrix_rate"] = {dtype: rate / best for dtype, best in rates.items()}
    return found


def slug(device: str) -> str:
    """The kind of a device as a part of a file's name: ``nvidia_h100_80gb_hbm3``."""
    return re.sub(r"[^a-z0-9]+", "_", device.lower()).strip("_")


LINE = CommandLine(
    "accelerator",
    __doc__,
    models={"nargs": "+", "choices": MODELS, "default": list(TWINS)},
    dtype={"nargs": "+", "choices": DTYPES, "help": "compute dtypes"},
    width=(float, "multiplies every width of the networks"),
    images=int,
    batch=int,
    size=(32, "height and width of the images"),
    epochs=(int, "of each run, the first of which is not counted"),
    matrix={"type": int, "nargs": "+", "help": "sizes of the matrix products"},
    vector=(int, "length of the vectors for the bandwidth"),
    round_s=(0.2, "least seconds of a round"),
    minutes=(8.0, "after which no step is begun"),
    profile=(Path, "folder for a trace of one epoch of each"),
)


def parsed(arguments: list[str] | None) -> argparse.Namespace:
    """The options, those not given filled in for the device at hand."""
    options = LINE.parse(arguments)
    usual = ON_CPU if jax.default_backend() == "cpu" else ON_DEVICE
    for name, value in usual.items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    sizes = (options.images, options.batch, options.size, options.vector, *options.matrix)
    if min(sizes) < 1 or options.epochs < 2:
        LINE.parser.error("sizes and counts of 1 or more, and 2 epochs or more")
    return options


class Budget:
    """Minutes since the beginning, and the steps that were left out because they were over."""

    def __init__(self, minutes: float):
        self.minutes, self.left_out = minutes, list[str]()
        self._began = time.monotonic()

    def spent_s(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self._began

    def left_s(self) -> float:
        """Seconds that are left; below 0 when it is over."""
        return 60 * self.minutes - self.spent_s()

    def allows(self, step: str) -> bool:
        """Whether a step may begin; says so if not."""
        if self.left_s() < 0:
            self.left_out.append(step)
            print(f"{step}: left out, after --minutes {self.minutes:g}", flush=True)
        return self.left_s() >= 0


def main(arguments: list[str] | None = None) -> None:
    """Measure, print and write what the module's docstring says."""
    # PyTorch's process needs its share of the memory; read when the device is first asked for.
    os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.6")
    options = parsed(arguments)
    budget = Budget(options.minutes)
    device = jax.devices()[0].device_kind
    name = f"accelerator_{slug(device)}"
    shown = ("images", "batch", "size", "width", "epochs")
    figures: dict[str, Any] = {"complete": False, **{o: getattr(options, o) for o in shown}}
    figures["cases"] = cases = {}

    def note(what: str, found: dict[str, Any], complete: bool = False) -> None:
        """Print what is new, and write all there is."""
        print(f"{what}: {found}", flush=True)
        figures["complete"] = complete
        figures["minutes"] = budget.spent_s() / 60
        figures["left_out_for_time"] = budget.left_out
        record.write_result(name, figures, LINE.command(options))

    def picture() -> None:
        title = f"Training steps under the roofs of {device}"
        drawn = roofline.draw(title, cases, rates, memory)
        if drawn is not None:
            from dcmu_jax.reporting.style import save_figure

            save_figure(drawn, record.RESULTS / f"{name}_roofline.png")

    by_size = {d: roofline.matrix_rates(d, options.matrix, options.round_s) for d in DTYPES}
    rates = {dtype: max(found.values()) for dtype, found in by_size.items()}
    memory = roofline.memory_rate(options.vector, options.round_s)
    roofs = {
        "matrix_tflops": {
            dtype: {size: rate / 1e12 for size, rate in found.items()}
            for dtype, found in by_size.items()
        },
        "bandwidth_gb_s": memory / 1e9,
    }
    figures.update(roofs)
    note(device, roofs)

    images, labels = random_images(options.images, options.size)
    examples = jax.tree.map(jax.numpy.asarray, Examples.of(images, labels))
    networks: dict[str, Classifier] = {}
    for dtype, model in itertools.product(options.dtype, options.models):
        if not budget.allows(label := f"{model} {dtype}"):
            continue
        shape = (options.size, options.size, 3)
        module = create(model, image_shape=shape, num_classes=10, dtype=dtype, width=options.width)
        networks[label] = classifier = fresh_classifier(module, dataset_of(images, labels), seed=0)
        case = cases[label] = speed(classifier, examples, options, rates)
        note(label, case)
        counted = roofline.step_costs(classifier, min(options.batch, len(labels)), Optimizer())
        case["roofline"] = roofline.place(counted, rates[dtype], memory)
        note(f"{label}, roofline", case["roofline"])
        picture()
        if budget.allows(f"{label}, PyTorch"):
            case["torch"] = baseline = torch_baseline(model, dtype, options, budget.left_s())
            if "median_s" in baseline:
                baseline["ratio_torch_to_ours"] = baseline["median_s"] / case["median_s"]
            note(f"{label}, PyTorch", baseline)
    for label, case in cases.items():
        if budget.allows(f"{label}, augmented"):
            seconds, _ = epochs_of(networks[label], examples, options, AUGMENTATION)
            case["augmented"] = found = epoch_summary(seconds[1:])
            found["times_the_plain_epoch"] = found["median_s"] / case["median_s"]
            note(f"{label}, augmented", found)
    if options.profile:
        one = argparse.Namespace(**{**vars(options), "epochs": 1})
        for label, classifier in networks.items():  # their epochs are compiled already
            with jax.profiler.trace(str(options.profile / slug(label))):
                epochs_of(classifier, examples, one)
    note("written", {"file": f"{name}.json"}, complete=not budget.left_out)


if __name__ == "__main__":
    main()

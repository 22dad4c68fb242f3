"""Benchmark: training steps on an H100, as the compiler for one sees them on a machine without.

Command:  python -m experiments.benchmarks.modelled   (from the root of the repository)
Needs:    JAX's wheels for CUDA, no device; about five minutes on 2 CPU cores, which compile.
Aim:      rates for ``experiments.run_all --plan --rates``, until experiments.benchmarks.accelerator
          has measured some. Nothing runs, so these are a model's, and say so in the plan.

A step is compiled ahead of time for the device. It is taken to last as long as its operations at
the rate of matrix products, and its bytes at the bandwidth of the memory, and its kernels' starts,
one after another: what overlaps on the device makes it faster. Seconds of compilation are those of
the processor of this machine; on the device autotuning is added to them.

Writes experiments/results/modelled_h100.json, with cases as accelerator_DEVICE.json has them.
"""

from __future__ import annotations

import importlib.util
import itertools
import math
import re
import time
from typing import Any

import jax
from jax.sharding import SingleDeviceSharding

from dcmu_jax.networks.catalogue import DTYPES, create
from dcmu_jax.platforms import compiling_for
from dcmu_jax.training.classifier import fresh_classifier
from dcmu_jax.training.epoch import batch_step
from dcmu_jax.training.flops import program_cost
from dcmu_jax.training.optimizers import Optimizer
from experiments.benchmarks import roofline
from experiments.benchmarks.absent import chips
from experiments.benchmarks.command import DRY, CommandLine
from experiments.benchmarks.images import dataset_of, random_images

LINE = CommandLine(
    "modelled",
    __doc__,
    models=["mlp", "cnn", "resnet18", "vgg16"],
    dtype={"nargs": "+", "choices": DTYPES, "default": ["bfloat16"], "help": "compute dtypes"},
    batch=256,
    rate=(600.0, "TFLOP/s of bfloat16 matrix products; of float32, half of them"),
    bandwidth=(3350.0, "GB/s of the memory"),
    dry=DRY,
    start=(2.5, "microseconds from one kernel to the next"),
)


def _bytes(shape: str) -> int:
    """Of one array of a program's text, or of all in a tuple."""
    total = 0
    for dtype, sizes in re.findall(r"\b([a-z]+\d+|pred)\[([\d,]*)\]", shape):
        width = 1 if dtype == "pred" else int(re.sub(r"\D", "", dtype)) / 8
        total += math.prod(int(n) for n in sizes.split(",") if n) * width
    return int(total)


def kernels(program: str) -> list[int]:
    """Bytes that each kernel of a compiled program reads and writes, what lies within left out."""
    entry = program[program.index("\nENTRY ") :]
    defined = re.findall(
        r"^  (?:ROOT )?%(\S+) = (\(.*?\)|\S+) ([\w-]+)\((.*?)\)", entry, re.MULTILINE
    )
    size = {name: _bytes(shape) for name, shape, _, _ in defined}
    return [
        size[name] + sum(size.get(of, 0) for of in re.findall(r"%([\w.-]+)", operands))
        for name, _, kind, operands in defined
        if kind in ("fusion", "custom-call", "copy")
    ]


def modelled(model: str, dtype: str, options: Any, target: Any) -> dict[str, float]:
    """A step of a network: its seconds, and what they are made of."""
    images, labels = random_images(options.batch, 32)
    module = create(model, image_shape=(32, 32, 3), num_classes=10, dtype=dtype)
    classifier = fresh_classifier(module, dataset_of(images, labels), seed=0)
    settings, *args = roofline.step_arguments(classifier, options.batch, Optimizer())
    flops = program_cost(batch_step, settings, *args).flops
    here = SingleDeviceSharding(target)
    there = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(jax.numpy.shape(x), x.dtype, sharding=here), args
    )
    with compiling_for("gpu"):
        began = time.process_time()
        traced = roofline.compiled_step.trace(settings, *there)
        compiled = traced.lower(lowering_platforms=("cuda",)).compile()
        seconds = time.process_time() - began
    moved = kernels(compiled.as_text())
    parts = {
        "arithmetic_s": flops / (1e12 * options.rate * (1.0 if dtype == "bfloat16" else 0.5)),
        "memory_s": sum(moved) / (1e9 * options.bandwidth),
        "starts_s": 1e-6 * options.start * len(moved),
    }
    step = sum(parts.values())
    return {
        "flops_of_a_step": flops,
        "kernels": len(moved),
        **parts,
        "step_s": step,
        "images_per_s": options.batch / step,
        "tflops": flops / step / 1e12,
        "compile_s": seconds,
    }


def main(arguments: list[str] | None = None) -> None:
    """Compile, print and write."""
    options = LINE.parse(arguments)
    if importlib.util.find_spec("jax_plugins") is None:
        print("left out: needs JAX's wheels for CUDA, which come with the extra 'cuda12'")
        return
    target, cases = chips("cuda")[0], {}
    for model, dtype in itertools.product(options.models, options.dtype):
        cases[f"{model} {dtype}"] = found = modelled(model, dtype, options, target)
        print(model, dtype, found, flush=True)
    shown = ("batch", "rate", "bandwidth", "start")
    figures = {"modelled": True, **{o: getattr(options, o) for o in shown}, "cases": cases}
    LINE.write("modelled_h100", figures, options)


if __name__ == "__main__":
    main()

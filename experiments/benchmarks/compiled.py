"""Benchmark: the library's programs, compiled for a TPU v5e and an H100 that are not there.

Command:  python -m experiments.benchmarks.compiled --target lower
          python -m experiments.benchmarks.compiled --target tpu
          python -m experiments.benchmarks.compiled --target cuda
Needs:    half a minute for ``lower``, and nothing else. The extra ``aot`` for ``tpu``; for ``cuda``
          an environment of its own with the extra ``cuda12``. No accelerator, and none is used.
Aim:      every limit below held: no convolution in float32 in a bfloat16 network, nothing that
          goes through the host, no sort in an epoch, one exchange of the gradients in a step on
          four chips. Cycles and memory at most what was reached.

``lower`` brings every program into the form that the compilers take, for both platforms. ``tpu``
and ``cuda`` compile it, and read the result. Milliseconds on the TPU are the compiler's estimate of
cycles at 1.5 GHz: nothing ran. Of a program that loops they are those of one step; of one with
several loops, of one pass through each. Gathers, sorts and select-and-scatter carry no estimate, so
a program that has some takes longer than is said; they are counted as ``without_estimate``.

Writes experiments/results/compiled_TARGET.json, and for the TPU compiled_tpu.png.
"""

from __future__ import annotations

import argparse
import dataclasses
import re
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, SingleDeviceSharding
from jax.sharding import PartitionSpec as P

from dcmu_jax.errors import InputError
from dcmu_jax.platforms import compiling_for
from experiments.benchmarks import compiled_programs as programs
from experiments.benchmarks import hlo
from experiments.benchmarks.absent import chips
from experiments.benchmarks.command import DRY, CommandLine
from experiments.benchmarks.compiled_programs import Net, Traceable

PLATFORM = {"tpu": "tpu", "cuda": "gpu"}
CHIP = {"tpu": "TPU v5e", "cuda": "NVIDIA H100 80GB HBM3"}
TPU_HZ, TPU_PEAK = 1.5e9, 197e12
"""Cycles and bfloat16 operations a second of a v5e."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """A program, and what it may be like at most.

    Attributes:
        build: gives it, for a mesh or none.
        sharded: whether it is compiled for four chips.
        reduced: whether its network computes in bfloat16, and no convolution may be in float32.
        sorts: in all of it.
        memory_gb: arguments, results and temporaries, by target.
        ms: of a step on the TPU.
        kernels: of a step on the GPU.
        collectives: of a step, by target; exactly so many.
    """

    build: Callable[[Mesh | None], Traceable]
    sharded: bool = False
    reduced: bool = True
    sorts: int = 0
    memory_gb: dict[str, float] = dataclasses.field(default_factory=dict)
    ms: float | None = None
    kernels: int | None = None
    collectives: dict[str, int] = dataclasses.field(default_factory=dict)

    def faults(self, found: dict[str, Any], target: str) -> list[str]:
        """What of ``describe`` is over a limit, in words."""
        said = []
        single = found["convolutions"].get("f32", 0)
        if self.reduced and single:
            said.append(f"{single} convolutions in float32")
        if found["host"]:
            said.append(f"{found['host']} passes through the host")
        if found["sorts"] > self.sorts:
            said.append(f"{found['sorts']} sorts, {self.sorts} allowed")
        if target not in PLATFORM:
            return said
        exchanges = sum(found["collectives"].values())
        if exchanges != self.collectives.get(target, 0):
            said.append(f"{exchanges} collectives, not {self.collectives.get(target, 0)}")
        limits = {
            "memory_gb": self.memory_gb.get(target),
            "ms": self.ms if target == "tpu" else None,
            "kernels": self.kernels if target == "cuda" else None,
        }
        return said + [
            f"{name} {found[name]:.4g}, {most:g} allowed"
            for name, most in limits.items()
            if most is not None and found[name] > most
        ]


CNN, SMALL = Net("cnn"), Net("cnn", width=0.25)
RESNET, VGG, OWN = Net("resnet18"), Net("vgg16_bn"), Net("own")


def _case(
    build: Callable[[Mesh | None], Traceable],
    ms: float,
    kernels: int,
    memory_gb: tuple[float, float],
    **more: Any,
) -> Case:
    """A case by its limits, what was reached and a little more; memory on the TPU and the GPU."""
    memory = dict(zip(PLATFORM, memory_gb, strict=True))
    return Case(build=build, ms=ms, kernels=kernels, memory_gb=memory, **more)


CASES: dict[str, Case] = {
    "step, CNN": _case(programs.step(CNN, 512), 1.9, 120, (0.19, 0.16)),
    "step, CNN, augmented": _case(programs.step(CNN, 512, augmented=True), 2.1, 126, (0.19, 0.16)),
    "step, CNN, float32": _case(
        programs.step(Net("cnn", "float32"), 512), 2.7, 114, (0.55, 0.27), reduced=False
    ),
    "step, ResNet18": _case(programs.step(RESNET, 512), 18.7, 435, (1.1, 1.5)),
    "step, VGG16": _case(programs.step(VGG, 512), 10.5, 350, (1.2, 1.2)),
    "step, own network": _case(programs.step(OWN, 512), 1.37, 73, (0.025, 0.24)),
    "step, CNN/4, four chips": _case(
        programs.step(SMALL, 1024),
        0.37,
        160,
        (0.013, 0.027),
        sharded=True,
        collectives={"tpu": 9, "cuda": 9},
    ),
    "step, CNN/4": _case(programs.step(SMALL, 512), 0.58, 120, (0.06, 0.036)),
    "epoch, CNN": _case(programs.epoch(CNN, 512), 1.94, 112, (1.1, 0.36)),
    "epoch, CNN from intermediate": _case(
        programs.epoch(CNN, 512, start="intermediate"), 0.5, 73, (1.4, 0.52)
    ),
    "population of 4, CNN/4": _case(
        programs.several(SMALL, 4, 512), 2.45, 118, (0.21, 0.18), sorts=1
    ),
    "evaluation, CNN": _case(programs.evaluated(CNN, 512), 0.29, 26, (0.02, 0.055)),
    "matching by Adam, CNN": _case(programs.matched(CNN, "adam"), 0.245, 39, (0.1, 0.05)),
    "matching by Newton, CNN": _case(programs.matched(CNN, "newton"), 0.82, 108, (0.2, 0.065)),
    "k-means, CNN": _case(programs.clustered(5000, 1024, 450), 5.1, 34, (1.5, 1.65), reduced=False),
    "OM, CNN": _case(programs.overfitting(CNN, 256), 2.7, 79, (0.02, 0.37)),
    "OM, ResNet18": _case(programs.overfitting(RESNET, 256), 6.1, 17, (1.95, 1.45)),
    "UM, CNN": _case(programs.unlearning(CNN, 200, 256), 0.99, 89, (0.2, 0.27)),
}


def _placed(tree: Any, sharding: Any) -> Any:
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=sharding), tree)


def lowered(case: Case, target: str) -> dict[str, Any]:
    """What a program is like before it is compiled; nothing of the platform is needed."""
    text = _lower(case.build(None), target).as_text()
    results = re.findall(r"stablehlo\.convolution.*-> tensor<[\dx]*([a-z]+\d+)>", text)
    calls = re.findall(r"custom_call @([\w.]+)", text)
    return {
        "convolutions": {dtype: results.count(dtype) for dtype in set(results)},
        "sorts": text.count("stablehlo.sort"),
        "host": sum("callback" in call for call in calls),
        "custom_calls": sorted(set(calls)),
    }


def _lower(program: Traceable, target: str) -> Any:
    return program.trace(*program.arguments).lower(lowering_platforms=(target,))


def compiled(case: Case, target: str, devices: list[Any]) -> dict[str, Any]:
    """What the compiler makes of a program; see ``hlo.describe``."""
    mesh = None
    sharding: Any = SingleDeviceSharding(devices[0])
    if case.sharded:
        mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,), devices=devices)
        sharding = NamedSharding(mesh, P())
    program = case.build(mesh)
    program = program._replace(arguments=_placed(program.arguments, sharding))
    ready = _lower(program, target)
    began = time.process_time()
    found = hlo.describe(ready.compile())
    found["compile_cpu_s"] = time.process_time() - began
    if target == "tpu" and found["cycles"]:
        found["ms"] = 1e3 * found["cycles"] / TPU_HZ
        flops = program.flops() if case.reduced else None
        if flops is not None:
            rate = flops / (found["cycles"] / TPU_HZ) / (mesh.size if mesh else 1)
            found["share_of_peak"] = rate / TPU_PEAK
    return found


def examined(target: str, only: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every program of ``only``, what it is like and what is wrong with it, under ``faults``."""
    devices = chips(target) if target in PLATFORM else []
    for one in [target] if devices else list(PLATFORM):
        with compiling_for(PLATFORM[one]):
            for name in only:
                case, found = CASES[name], dict[str, Any]()
                try:
                    found |= compiled(case, one, devices) if devices else lowered(case, one)
                    found["faults"] = case.faults(found, target)
                except Exception as error:  # of JAX or a compiler, of whatever kind
                    found["faults"] = [f"does not compile: {str(error).splitlines()[0]}"]
                yield (name if devices else f"{name}, {one}"), found


def draw(found: dict[str, dict[str, Any]]) -> Any:
    """Where the cycles of each program go, as bars."""
    from matplotlib.figure import Figure

    from dcmu_jax.reporting.style import method_colors

    shown = {name: one for name, one in found.items() if one.get("cycles")}
    kinds = list(dict.fromkeys(kind for one in shown.values() for kind in one["cycles_by_kind"]))
    kinds.sort(key=lambda kind: kind != hlo.PRODUCTS)
    colors = method_colors(kinds)
    figure = Figure(figsize=(9, 0.4 * len(shown) + 1.4), layout="constrained")
    axes = figure.subplots()
    names = list(shown)[::-1]
    left = [0.0] * len(names)
    for kind in kinds:
        shares = [100 * shown[n]["cycles_by_kind"].get(kind, 0) / shown[n]["cycles"] for n in names]
        axes.barh(names, shares, left=left, label=kind, color=colors[kind])
        left = [a + b for a, b in zip(left, shares, strict=True)]
    for row, name in enumerate(names):
        axes.text(101, row, f"{shown[name]['ms']:.3g} ms", va="center", fontsize=8)
    axes.set_xlim(0, 112)
    axes.set_xlabel("% of the cycles that the compiler expects")
    axes.set_title("TPU v5e: where the cycles of each program go", loc="left")
    figure.legend(loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    return figure


LINE = CommandLine(
    "compiled",
    __doc__,
    target={"choices": ("lower", *PLATFORM), "default": "lower"},
    only={"nargs": "+", "choices": list(CASES), "default": list(CASES), "metavar": "PROGRAM"},
    dry=DRY,
)


def main(arguments: list[str] | None = None) -> int:
    """Compile, compare with the limits, print and write; 1 where a limit is not held."""
    options: argparse.Namespace = LINE.parse(arguments)
    jax.config.update("jax_platforms", "cpu")
    found: dict[str, dict[str, Any]] = {}
    try:
        for name, one in examined(options.target, options.only):
            found[name] = one
            said = "; ".join(one["faults"]) or "ok"
            more = f", {one['ms']:.3g} ms" if "ms" in one else ""
            print(f"{name}: {said}{more}", flush=True)
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    figures = {"chip": CHIP.get(options.target, "none"), "programs": found}
    result = f"compiled_{options.target}"
    LINE.write(result, figures, options)
    if options.target == "tpu" and not options.dry:
        from dcmu_jax.reporting.style import save_figure
        from experiments.benchmarks.record import RESULTS

        save_figure(draw(found), RESULTS / f"{result}.png")
    return int(any(one["faults"] for one in found.values()))


if __name__ == "__main__":
    sys.exit(main())

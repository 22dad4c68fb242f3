"""What the steps of Table I are expected to take, in seconds, without running or compiling any."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from dcmu_jax.data.sources import load
from dcmu_jax.errors import InputError
from dcmu_jax.networks.catalogue import create
from dcmu_jax.runs.presets import PRESETS
from dcmu_jax.sweeps import Group, Sweep, means
from dcmu_jax.sweeps.cells import kind_of
from experiments.benchmarks import record
from experiments.writing import forward_flops, read_rows

_FORGOTTEN = 0.1
"""Share of the data, for the size of the retain set."""
_SMALL = "table1_small"
"""The table whose rows say what methods cost beside retraining."""


@dataclasses.dataclass(frozen=True)
class Rate:
    """What a network is assumed to reach on the device.

    Attributes:
        tflops: of training, TFLOP/s.
        compile_s: of a training program.
        source: where this is from.
    """

    tflops: float
    compile_s: float
    source: str


def read_rates(path: Path) -> dict[tuple[str, str], Rate]:
    """Network and dtype -> rate, of a result of the benchmarks ``accelerator`` or ``modelled``."""
    cases = json.loads(path.read_text())["figures"]["cases"]
    return {
        tuple(label.split()): Rate(case["tflops"], case["compile_s"], path.name)
        for label, case in cases.items()
        if "tflops" in case
    }


@functools.cache
def _costs() -> dict[bool, dict]:
    """Whether an MLP -> kind of request -> method -> means of the small table."""
    rows = read_rows(_SMALL, ("dataset", "model", "request", "method", "settings"))
    rows = [row | {"kind": kind_of(row["request"]), "mlp": row["model"] == "mlp"} for row in rows]
    return means(rows, ["mlp", "kind", "method"], ["flops_over_retraining", "compile_s"])


@functools.cache
def _clustering() -> dict[str, dict[str, float]]:
    """Way of clustering -> what 50,000 images of 512 features cost on a processor."""
    path = record.RESULTS / "clustering.json"
    return json.loads(path.read_text())["figures"]["dim_512"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Expected:
    """A step and its seconds.

    Attributes:
        words: as ``Piece.planned`` has it.
        train_s: of arithmetic.
        compile_s: 0 where an earlier seed has compiled the same.
        host_s: loading, measuring, writing; clustering on the host.
    """

    words: tuple[str, ...]
    train_s: float
    compile_s: float
    host_s: float

    @property
    def seconds(self) -> float:
        """Of all."""
        return self.train_s + self.compile_s + self.host_s


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """Assumptions, and the steps that follow from them.

    Attributes:
        rates: by network and dtype.
        tflops: of every network instead, if it is given,
        compile_s: and of a training program then.
        host_s: of measuring a cell.
    """

    rates: dict[tuple[str, str], Rate]
    tflops: float | None
    compile_s: float
    host_s: float

    def rate(self, group: Group) -> Rate:
        """What the network of a group is assumed to reach."""
        if self.tflops is not None:
            return Rate(self.tflops, self.compile_s, "--tflops and --compile-s")
        found = self.rates.get((group.model, group.dtype))
        if found is None:
            known = ", ".join(map(" ".join, self.rates)) or "nothing"
            raise InputError(
                f"A plan for {group.model} in {group.dtype} by the rates of {known}",
                "a rate of every network",
                "Give --tflops for all, or measure it for --rates with "
                "experiments.benchmarks.accelerator",
            )
        return found

    def steps(self, table: Sweep, methods: Sequence[str]) -> Iterator[Expected]:
        """All of a table, in its order."""
        seen: set[Group] = set()
        for group in table.groups:
            alike = dataclasses.replace(group, seed=0)
            first = alike not in seen
            seen.add(alike)
            yield from self._offline(group, table.presets, first)
            for request in (asked for of, asked in table.cells if of == group):
                for method in methods:
                    yield self._cell(group, request, method, first)

    def _offline(self, group: Group, presets: Sequence[str], first: bool) -> Iterator[Expected]:
        rate, flops = self.rate(group), of_training(group)
        compiled = rate.compile_s * first
        yield Expected(
            words=(group.name, "original"),
            train_s=flops / rate.tflops / 1e12,
            compile_s=compiled,
            host_s=self.host_s,
        )
        for name in presets:
            options = PRESETS[name](group.model)
            offline, clustered = options.offline, _clustering()[options.condensation.clustering]
            epochs = offline.rounds * offline.intermediate_epochs
            above = epochs / group.epochs * of_training(group, above=True)
            images = len(load_once(group.dataset).train)
            yield Expected(
                words=(group.name, name),
                train_s=above / rate.tflops / 1e12,
                compile_s=2 * compiled,
                host_s=self.host_s + clustered["cpu_s"] * images / 50_000,
            )

    def _cell(self, group: Group, request: str, method: str, first: bool) -> Expected:
        rate, costs = self.rate(group), _costs().get(group.model == "mlp", {})
        unit = costs.get("random", {}).get("retrain", {}).get("compile_s", {}).get("mean")
        cost = costs.get(kind_of(request), {}).get(method, {})

        def mean(field: str, otherwise: float) -> float:
            return cost[field]["mean"] if field in cost else otherwise

        untouched = method == "original"
        share = 0.0 if untouched else mean("flops_over_retraining", 1.0)
        programs = 0.0 if untouched else mean("compile_s", unit or 1.0) / (unit or 1.0)
        flops = (1 - _FORGOTTEN) * share * of_training(group)
        return Expected(
            words=(group.name, request, method),
            train_s=flops / rate.tflops / 1e12,
            compile_s=programs * rate.compile_s * first,
            host_s=self.host_s,
        )


@functools.cache
def load_once(dataset: str):
    """The data of a source, read once."""
    return load(dataset)


@functools.cache
def of_training(group: Group, above: bool = False) -> float:
    """Operations of training the original: three times its forward passes.

    Args:
        group: whose.
        above: of the parts above the first alone.
    """
    splits = load_once(group.dataset)
    model = create(
        group.model,
        image_shape=splits.image_shape,
        num_classes=splits.num_classes,
        width=group.width,
    )
    one = forward_flops(model, splits.image_shape)
    if above:
        one -= forward_flops(model, splits.image_shape, "intermediate")
    return 3 * one * group.epochs * len(splits.train)


def pieces(steps: Sequence[Expected], seconds: float) -> int:
    """How many pieces the steps fill, one after another, as one worker takes them."""
    count, used = 1, 0.0
    for step in steps:
        if used and used + step.seconds > seconds:
            count, used = count + 1, 0.0
        used += step.seconds
    return count


def show(
    plan: Plan, table: Sweep, methods: Sequence[str], minutes: float, workers: int = 1
) -> None:
    """Print assumptions, the seconds of every group, and how many pieces they fill."""
    steps = list(plan.steps(table, methods))
    print("Assumed:")
    for network in dict.fromkeys((g.model, g.dtype) for g in table.groups):
        group = next(g for g in table.groups if (g.model, g.dtype) == network)
        rate = plan.rate(group)
        print(
            f"  {' '.join(network):20} {rate.tflops:g} TFLOP/s, {rate.compile_s:.3g} s to compile "
            f"a training program ({rate.source})"
        )
    print(
        f"  {plan.host_s:g} s on the host for every cell and phase; clustering as in "
        f"clustering.json; methods beside retraining as in {_SMALL}.csv\n"
        "  one compilation cache: seeds share all programs, data sets and requests none"
    )
    for group in table.groups:
        mine = [step for step in steps if step.words[0] == group.name]
        print(
            f"{group.name:42} {of_training(group) / 1e12:8.1f} TFLOP to train  "
            f"{sum(s.seconds for s in mine):7.0f} s: {_parts(mine)}"
        )
    total = sum(step.seconds for step in steps)
    count = pieces(steps, 60 * minutes)
    longest = max(steps, key=lambda step: step.seconds)
    print(
        f"{len(steps)} steps, {total:.0f} s ({total / 3600:.2f} h): {_parts(steps)}; "
        f"{count} piece{'s' * (count > 1)} of {minutes:g} minutes for one worker\n"
        f"longest step: {' '.join(longest.words)}, {longest.seconds:.0f} s"
    )
    if workers > 1:
        trained = sum(step.train_s for step in steps)
        least = max(trained, total / workers)
        print(
            f"{workers} workers on one device: {least:.0f} s ({least / 3600:.2f} h) at least, as "
            "one compiles and measures while another trains"
        )


def _parts(steps: Sequence[Expected]) -> str:
    train, compiled, host = (
        sum(getattr(step, name) for step in steps) for name in ("train_s", "compile_s", "host_s")
    )
    return f"training {train:.0f}, compiling {compiled:.0f}, host {host:.0f}"

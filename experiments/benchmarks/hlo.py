"""What a compiled program is made of, read from the text of its optimised HLO."""

from __future__ import annotations

import collections
import dataclasses
import functools
import re
from collections.abc import Iterator
from typing import Any

_HEAD = re.compile(r"^(ENTRY )?%?([\w.\-]+) .*\{$")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?([\w.\-]+) = (.*)$")
_OPCODE = re.compile(r"(?:^| )([a-z][a-z0-9\-]*)\(")
_CYCLES = re.compile(r'"estimated_cycles":"?(\d+)')
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
_INNER = re.compile(r"(?:calls|to_apply)=%?([\w.\-]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}|(?:true|false)_computation=%?([\w.\-]+)")
_TARGET = re.compile(r'custom_call_target="([^"]*)"')
_COLLECTIVE = re.compile(r"^(all-reduce|all-gather|all-to-all|reduce-scatter|collective-permute)")
_HOST = ("infeed", "outfeed", "send", "recv")
# What runs as a kernel of its own on a GPU; the rest is bookkeeping.
_KERNELS = ("fusion", "custom-call", "copy", "sort", "reduce", "convert", "transpose", "scatter")
_DEAR = ("gather", "scatter", "sort", "select-and-scatter", "rng-bit-generator", "fusion")
PRODUCTS = "convolutions and products"
"""The kind of instruction that a program is for."""


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One line of a computation.

    Attributes:
        name: within its module.
        shape: the text of its type.
        opcode: as HLO spells it.
        line: all of it.
    """

    name: str
    shape: str
    opcode: str
    line: str

    @functools.cached_property
    def cycles(self) -> int | None:
        """What the compiler for TPUs expects it to take; ``None`` where it does not say."""
        found = _CYCLES.search(self.line)
        return int(found[1]) if found else None

    @functools.cached_property
    def target(self) -> str:
        """Of a custom call, what it calls."""
        found = _TARGET.search(self.line)
        return found[1] if found else ""

    @functools.cached_property
    def inner(self) -> str | None:
        """The computation that it fuses, calls or reduces with."""
        found = _INNER.search(self.line)
        return found[1] if found else None

    @property
    def dtype(self) -> str:
        """Of its first, or only, result."""
        return self.shape.lstrip("(").partition("[")[0]


Computations = dict[str, list[Instruction]]


def parse(text: str) -> tuple[Computations, str]:
    """The computations of a module by name, and the name of the one it starts with."""
    found: Computations = {}
    entry, current = "", None
    for line in text.splitlines():
        head = _HEAD.match(line)
        if head and " = " not in line.partition("(")[0]:
            current = found.setdefault(head[2], [])
            entry = head[2] if head[1] else entry
            continue
        one = _INSTRUCTION.match(line)
        if current is None or one is None:
            continue
        opcode = _OPCODE.search(one[2])
        if opcode:
            shape = one[2][: opcode.start()]
            current.append(Instruction(one[1], shape, opcode[1], line))
    return found, entry


@dataclasses.dataclass(frozen=True)
class Run:
    """An instruction of a program as it runs: how often in all, and within how many loops."""

    instruction: Instruction
    times: int
    depth: int


def runs(computations: Computations, name: str, times: int = 1, depth: int = 0) -> Iterator[Run]:
    """What runs when a computation does: with the bodies of its loops, calls and branches.

    Not with what is fused, which is one instruction. A loop whose length the compiler does not
    know counts once.
    """
    for one in computations.get(name, []):
        yield Run(one, times, depth)
        if one.opcode == "while":
            body, trips = re.search(r"body=%?([\w.\-]+)", one.line), _TRIPS.search(one.line)
            again = times * (int(trips[1]) if trips else 1)
            yield from runs(computations, body[1] if body else "", again, depth + 1)
        elif one.opcode == "conditional":
            for several, single in _BRANCHES.findall(one.line):
                for branch in (several or single).split(","):
                    yield from runs(computations, branch.strip().lstrip("%"), times, depth)
        elif one.opcode in ("call", "async-start") and one.inner:
            yield from runs(computations, one.inner, times, depth)


def within(computations: Computations, one: Instruction) -> Iterator[Instruction]:
    """An instruction, and all that it fuses."""
    yield one
    if one.inner and one.opcode in ("fusion", "call", "custom-call"):
        for other in computations.get(one.inner, []):
            yield from within(computations, other)


def _kind(computations: Computations, one: Instruction) -> str:
    """What an instruction mostly does, for a figure."""
    opcodes = {other.opcode for other in within(computations, one)}
    if "convolution" in opcodes or "dot" in opcodes:
        return PRODUCTS
    if "reduce" in opcodes or "reduce-window" in opcodes:
        return "sums and maxima"
    if "sort" in opcodes or "rng-bit-generator" in opcodes or "threefry" in one.line:
        return "order and random numbers"
    if opcodes & {"gather", "scatter", "dynamic-slice", "dynamic-update-slice"}:
        return "gathers and slices"
    if opcodes <= {
        "copy",
        "transpose",
        "bitcast",
        "fusion",
        "parameter",
        "copy-start",
        "copy-done",
    }:
        return "copies"
    return "element by element"


def _operands(one: Instruction) -> list[str]:
    """Names of what an instruction is given."""
    opcode = _OPCODE.search(one.line.partition(" = ")[2])
    given = one.line.partition(" = ")[2][opcode.end() :] if opcode else ""
    return re.findall(r"%([\w.\-]+)", given.partition(")")[0])


def _convolution_dtypes(computations: Computations) -> dict[str, int]:
    """How many convolutions there are, by the dtype of their first operand."""
    found: collections.Counter[str] = collections.Counter()
    for instructions in computations.values():
        dtypes = {one.name: one.dtype for one in instructions}
        for one in instructions:
            # On a TPU matrix products are convolutions, too: what the program calls one counts.
            ours = one.opcode == "convolution" and "dot_general" not in one.line
            if ours or one.target.startswith("__cudnn$conv"):
                found[next((dtypes[o] for o in _operands(one) if o in dtypes), "?")] += 1
    return dict(found)


def describe(compiled: Any) -> dict[str, Any]:
    """What is to be known of a compiled program.

    Of one that loops over steps: exchanges, kernels and cycles of one step.

    Args:
        compiled: of ``Lowered.compile()``, or a stand-in with its ``as_text`` and
            ``memory_analysis``.
    """
    computations, entry = parse(compiled.as_text())
    found = list(runs(computations, entry))
    every = [one for instructions in computations.values() for one in instructions]
    memory = compiled.memory_analysis()
    held = memory.argument_size_in_bytes + memory.output_size_in_bytes + memory.temp_size_in_bytes
    depth = min(1, max((run.depth for run in found), default=0))
    in_step = [run for run in found if run.depth >= depth]
    exchanges = collections.Counter(
        match[1]
        for run in in_step
        if (match := _COLLECTIVE.match(run.instruction.opcode))
        and not run.instruction.opcode.endswith("-done")
    )
    cycles: collections.Counter[str] = collections.Counter()
    for run in in_step:
        if run.instruction.cycles:
            cycles[_kind(computations, run.instruction)] += run.times * run.instruction.cycles
    unknown = collections.Counter(
        run.instruction.opcode
        for run in in_step
        if run.instruction.cycles is None and run.instruction.opcode in _DEAR
    )
    total = sum(cycles.values())
    around = sum(run.times * (run.instruction.cycles or 0) for run in found if run.depth < depth)
    return {
        "memory_gb": (held - memory.alias_size_in_bytes) / 1e9,
        "convolutions": _convolution_dtypes(computations),
        "collectives": dict(exchanges),
        "host": sum(one.opcode in _HOST or "callback" in one.target for one in every),
        "sorts": sum(one.opcode == "sort" or "Sort" in one.target for one in every),
        "custom_calls": dict(collections.Counter(one.target for one in every if one.target)),
        "kernels": sum(run.instruction.opcode in _KERNELS for run in in_step),
        "cycles": total or None,
        "cycles_around_the_loop": around,
        "cycles_by_kind": dict(cycles),
        "share_outside_products": 1 - cycles[PRODUCTS] / total if total else None,
        "without_estimate": dict(unknown),
    }

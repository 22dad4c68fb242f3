"""A sweep as a value: cells, and the variants of methods that are measured on each."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from dcmu_jax.runs.options import MethodOptions
from dcmu_jax.sweeps.cells import Bench, Group
from dcmu_jax.sweeps.piece import NoTimeError, Piece
from dcmu_jax.sweeps.pool import Step, run_in_pool
from dcmu_jax.sweeps.summaries import Row, scored_cells
from dcmu_jax.training.divergence import Diverged


@dataclasses.dataclass(frozen=True, kw_only=True)
class Variant:
    """A row of every cell: a method as it is set; see ``Bench.cell``.

    Attributes:
        name: of the row; where there is nothing else, of a method or a preset.
        settings: of a method.
        options: of modular unlearning.
        method: where the name is not that of the method.
        columns: added to the row, as what it is varied by.
    """

    name: str
    settings: Mapping[str, Any] | None = None
    options: MethodOptions | None = None
    method: str | None = None
    columns: Mapping[str, Any] = dataclasses.field(default_factory=dict, hash=False)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sweep:
    """All rows of a table; each is a file that is not measured again, in any order and process.

    Attributes:
        cells: a group and a request each, in the order in which they are measured.
        variants: gives the rows of a cell; of a module, where worker processes are to take it.
        out: the folder that all lies in.
        presets: whose offline phase all requests of a group share.
        left_out: nothing is evaluated on this many first test samples of each class.
        piece: the minutes there are for it, if they are limited.
    """

    cells: tuple[tuple[Group, str], ...]
    variants: Callable[[Bench, str], Iterable[Variant]]
    out: Path
    presets: tuple[str, ...] = ()
    left_out: int = 0
    piece: Piece | None = None

    @property
    def groups(self) -> tuple[Group, ...]:
        """Every group once."""
        return tuple(dict.fromkeys(group for group, _ in self.cells))

    def bench(self, group: Group) -> Bench:
        """Where the cells of a group are measured."""
        bench = Bench(group, self.out, self.piece)
        if self.left_out:
            bench.leave_out(self.left_out)
        return bench

    def prepare(self, group: Group) -> None:
        """Train the original of a group, and the offline phases, where they are not there."""
        self.bench(group).prepare(self.presets)

    def measure(self, group: Group, only: str | None = None) -> list[Row]:
        """The rows of a group, or of one of its requests, measured where they are not there yet.

        A method that diverges has no row, and so no place among the ranks.

        Raises:
            NoTimeError: after all that could end in what is left of the piece.
        """
        bench, rows, left_out = self.bench(group), [], None
        for request in (asked for of, asked in self.cells if of == group and only in (None, asked)):
            for variant in self.variants(bench, request):
                where = f"{group.name} {request} {variant.name}"
                try:
                    row = bench.cell(
                        request, variant.name, variant.settings, variant.options, variant.method
                    )
                except Diverged as error:
                    print(f"{where}: {error.given}", flush=True)
                    continue
                except NoTimeError as error:
                    left_out = error
                    continue
                rows.append({**row, **variant.columns})
                print(f"{where}: {_shown(row)}", flush=True)
        if left_out is not None:
            raise left_out
        return rows

    def so_far(self) -> Iterator[list[Row]]:
        """All rows, scored, after each of the groups."""
        rows: list[Row] = []
        for group in self.groups:
            rows += self.measure(group)
            yield scored_cells(rows)

    def rows(self) -> list[Row]:
        """All rows, scored."""
        return scored_cells(row for group in self.groups for row in self.measure(group))

    def steps(self) -> list[Step]:
        """What a group shares, then its requests, which share nothing else."""
        found = []
        for group in self.groups:
            alike = dataclasses.replace(group, seed=0)
            prepared = (alike, "prepared")
            found.append(Step(group.name, self.prepare, (group,), programs=prepared))
            for request in (asked for of, asked in self.cells if of == group):
                found.append(
                    Step(
                        (group.name, request),
                        self.measure,
                        (group, request),
                        after=(group.name,),
                        # A forget set of a class is as large as another.
                        programs=(alike, "measured"),
                    )
                )
        return found

    def run(self, workers: int) -> int:
        """Measure all that is missing in a pool of worker processes, see ``run_in_pool``."""
        ends = self.piece.ends if self.piece else math.inf
        return run_in_pool(self.steps(), workers, ends)


def _shown(row: Row) -> str:
    return (
        f"RA {row['retain_accuracy']:.2f} FA {row['forget_accuracy']:.2f} "
        f"TeA {row['test_accuracy']:.2f} MIA {row['mia']:.2f} UT {row['online_s'] or 0:.2f} s"
    )

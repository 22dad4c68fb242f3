"""What every experiment writes: table, result beside the command, pictures, captions; and plans."""

from __future__ import annotations

import csv
import functools
import math
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array

from dcmu_jax.errors import InputError
from dcmu_jax.files import write_rows, write_text
from dcmu_jax.networks.convolution import all_lax
from dcmu_jax.networks.partition import Part, Variables, apply_parts, initialise
from dcmu_jax.prng import key_of
from dcmu_jax.training.flops import program_flops
from experiments.benchmarks import record

if TYPE_CHECKING:  # a plan draws nothing, and importing what draws takes half a second
    from matplotlib.figure import Figure

    from dcmu_jax.reporting.sections import Conclusion


def without_folders(word: str) -> str:
    """A word of a command; of an archive the name alone, without the folders of this machine."""
    return f"npz:{Path(word[4:]).name}" if word.startswith("npz:") else word


def of_dtype(name: str, dtype: str) -> str:
    """The name of a result of networks that compute in ``dtype``: files of its own if not float32.

    >>> of_dtype("table1_full", "float32"), of_dtype("table1_full", "bfloat16")
    ('table1_full', 'table1_full_bfloat16')
    """
    return name if dtype == "float32" else f"{name}_{dtype}"


def command() -> str:
    """The command that is running, from the root of the repository."""
    words = ["python", "-m", f"experiments.{Path(sys.argv[0]).stem}"]
    return shlex.join([*words, *map(without_folders, sys.argv[1:])])


def write(
    name: str,
    figures: dict[str, Any],
    rows: Iterable[Mapping[str, Any]] = (),
    pictures: Mapping[str, Figure] | None = None,
) -> None:
    """Write NAME.json, the table NAME.csv if there are rows, and each picture under its name."""
    rows = list(rows)
    if rows:
        write_rows(record.RESULTS / f"{name}.csv", rows)
    record.write_result(name, figures, command())
    save(pictures or {})


def save(pictures: Mapping[str, Figure]) -> None:
    """Write each picture under its name."""
    from dcmu_jax.reporting.style import save_figure

    for stem, picture in pictures.items():
        save_figure(picture, record.RESULTS / f"{stem}.png")


def read_rows(name: str, words: Sequence[str]) -> list[dict[str, Any]]:
    """The rows of NAME.csv, none if there is no such table.

    Columns other than ``words`` are numbers, None where empty.
    """
    path = record.RESULTS / f"{name}.csv"
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [
            {k: v if k in words else (float(v) if v else None) for k, v in row.items()}
            for row in csv.DictReader(file)
        ]


def write_captions(name: str, title: str, captions: Mapping[str, Conclusion]) -> Path:
    """Write NAME.md with every picture and its two sentences, whole or not at all.

    Args:
        name: of the result, whose numbers lie in NAME.json.
        title: heading of the page.
        captions: name of a PNG file beside it, without its ending -> its two sentences.

    Raises:
        InputError: no captions, or one whose picture is not there.
    """
    folder = record.RESULTS
    missing = [each for each in captions if not (folder / f"{each}.png").is_file()]
    if missing or not captions:
        raise InputError(
            f"Captions of {len(captions)} figures, without a picture: {', '.join(missing) or '-'}",
            "one figure or more, each saved as a PNG file before",
            "Save the figures first",
        )
    parts = [
        f"# {title}",
        f"Written by `{command()}`. The numbers, with machine and versions: [{name}.json]"
        f"({name}.json).",
    ]
    for each, conclusion in captions.items():
        parts += [
            f"![{each.replace('_', ' ')}]({each}.png)",
            f"**What can be concluded.** {conclusion.can}",
            f"**What cannot.** {conclusion.cannot}",
        ]
    path = folder / f"{name}.md"
    write_text(path, "\n\n".join(parts) + "\n")
    return path


def _forward(program: tuple[nn.Module, Part | None], variables: Variables, x: Array) -> Array:
    model, stop = program
    return apply_parts(model, variables, x, stop=stop)[0]


@functools.cache
def forward_flops(
    model: nn.Module, image_shape: tuple[int, int, int], stop: Part | None = None
) -> float:
    """Operations of one image's way through a network, for plans; NaN where nobody counts them.

    Shapes are traced, nothing is computed or compiled.

    Args:
        model: in three parts.
        image_shape: of the image.
        stop: the part before which the way ends, if it does.
    """
    with all_lax():  # other forms of a convolution take longer to trace
        variables = jax.eval_shape(lambda: initialise(model, key_of(0), image_shape))
    x = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    return program_flops(_forward, (model, stop), variables, x) or math.nan

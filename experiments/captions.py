"""A page beside the results of an experiment: each picture with what it shows, and what not."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from dcmu_jax.errors import InputError
from dcmu_jax.files import written_aside
from dcmu_jax.reporting.sections import Conclusion
from experiments.benchmarks.record import RESULTS


def write_captions(
    name: str,
    title: str,
    figures: Mapping[str, Conclusion],
    command: str,
    folder: Path = RESULTS,
) -> Path:
    """Write NAME.md with every picture and its two sentences, whole or not at all.

    Args:
        name: of the result, whose numbers lie in NAME.json.
        title: heading of the page.
        figures: name of a PNG file in the folder, without its ending -> its two sentences.
        command: that wrote the result.
        folder: where all of it lies.

    Raises:
        InputError: no figures, or one whose picture is not there.
    """
    missing = [each for each in figures if not (folder / f"{each}.png").is_file()]
    if missing or not figures:
        raise InputError(
            f"Captions of {len(figures)} figures, without a picture: {', '.join(missing) or '-'}",
            "one figure or more, each saved as a PNG file before",
            "Save the figures first",
        )
    parts = [
        f"# {title}",
        f"Written by `{command}`. The numbers, with machine and versions: [{name}.json]"
        f"({name}.json).",
    ]
    for each, conclusion in figures.items():
        parts += [
            f"![{each.replace('_', ' ')}]({each}.png)",
            f"**What can be concluded.** {conclusion.can}",
            f"**What cannot.** {conclusion.cannot}",
        ]
    path = folder / f"{name}.md"
    with written_aside(path) as aside:
        aside.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return path

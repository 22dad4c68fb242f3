"""Figures have a file: what docstrings and comments name as their source is there."""

import re
from pathlib import Path

import dcmu_jax

ROOT = Path(dcmu_jax.__file__).parents[1]


def test_files_of_results_that_the_code_cites_are_there():
    cited = {
        (file.relative_to(ROOT).as_posix(), name)
        for file in sorted((ROOT / "dcmu_jax").rglob("*.py"))
        for name in re.findall(r"experiments/results/[\w.-]*\w", file.read_text())
    }
    assert len(cited) > 1
    assert not [(file, name) for file, name in cited if not (ROOT / name).exists()]

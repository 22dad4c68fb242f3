"""The map of the paper: every name on it exists, and every part of the paper is on it."""

import importlib
import importlib.util
import re
from pathlib import Path

import pytest

import dcmu_jax

PAGE = (Path(__file__).parents[1] / "docs" / "paper_map.md").read_text()
NAMES = sorted(set(re.findall(r"`((?:dcmu|dcmu_jax|experiments)\.[\w.]+)`", PAGE)))


def test_the_page_names_enough():
    assert len(NAMES) > 50


@pytest.mark.parametrize("name", NAMES)
def test_every_name_exists(name):
    if name.startswith("dcmu."):
        assert name.removeprefix("dcmu.") in dcmu_jax.__all__
        assert callable(getattr(dcmu_jax, name.removeprefix("dcmu.")))
    elif importlib.util.find_spec(name.rpartition(".")[0]) and not _is_module(name):
        module, _, attribute = name.rpartition(".")
        found = getattr(importlib.import_module(module), attribute)
        assert found.__doc__
    else:
        assert _is_module(name)


def _is_module(name):
    """Whether it is one; a name within a module that is no package has no specification."""
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def _numbers(cell):
    for low, high in re.findall(r"\((\d+)\)(?: to \((\d+)\))?", cell):
        yield from range(int(low), int(high or low) + 1)


def test_every_part_of_the_paper_is_there():
    equations = PAGE.split("## Equations")[1].split("## Applications")[0]
    rows = [line.split("|")[1] for line in equations.splitlines() if line.startswith("| (")]
    assert {number for row in rows for number in _numbers(row)} == set(range(1, 46))
    for number in range(1, 5):
        assert f"| Algorithm {number}," in PAGE
    figures = re.findall(r"\| Figures? (\d+)(?: and (\d+))?", PAGE)
    assert {int(n) for pair in figures for n in pair if n} == set(range(1, 12))
    assert "| Table I," in PAGE and "| Table II," in PAGE

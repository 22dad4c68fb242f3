"""Options of experiments: made by argparse alone, under the names that tyro would give them."""

import dataclasses
import importlib
import subprocess
import sys
from pathlib import Path

import pytest
import tyro

from experiments import run_all
from experiments.arguments import parse
from experiments.run_all import Options

NAMES = [path.stem for path in sorted(Path(run_all.__file__).parent.glob("*.py"))]


def _kinds():
    for name in NAMES:
        module = importlib.import_module(f"experiments.{name}")
        kind = getattr(module, "Options", None) or getattr(module, "Settings", None)
        if dataclasses.is_dataclass(kind) and kind.__module__ == module.__name__:
            yield pytest.param(kind, id=name)


@pytest.mark.parametrize("kind", _kinds())
def test_options_are_those_that_tyro_makes(kind):
    given = {
        "dataset": ["--dataset", "digits"],
        "seeds": ["--seeds", "7"],
        "out": ["--out", "here"],
        "plan": ["--no-plan"],
        "dtype": ["--dtype", "bfloat16"],
    }
    names = [field.name for field in dataclasses.fields(kind)]
    words = [word for name in names for word in given.get(name, ())]
    assert parse(kind, None, words) == tyro.cli(kind, args=words)


@pytest.mark.parametrize("kind", _kinds())
def test_networks_compute_in_either_dtype_by_either_name(kind):
    if "model" not in (names := [field.name for field in dataclasses.fields(kind)]):
        return
    words = ["--dataset", "digits"] * ("dataset" in names)
    for option in ("--dtype", "--network.dtype"):
        assert parse(kind, None, [*words, option, "bfloat16"]).dtype == "bfloat16"


def test_words_become_numbers_tuples_and_nothing():
    words = "--dataset a b --scale full --plan --together None --workers 2 --out runs/x".split()
    found = parse(Options, None, words)
    assert found == Options(
        dataset=("a", "b"), scale="full", plan=True, workers=2, out=Path("runs/x")
    )
    assert parse(Options, None, ["--dataset", "a", "--methods"]).methods == ()
    for bad in (["--workers", "two"], ["--scale", "huge"], ["--work", "2"]):
        with pytest.raises(SystemExit):
            parse(Options, None, ["--dataset", "a", *bad])


def test_experiments_run_where_neither_tyro_nor_the_data_sets_nor_frames_are_installed():
    code = (
        "import sys\n"
        "sys.modules |= dict.fromkeys(('tyro', 'tensorflow_datasets', 'pandas'))\n"
        f"for name in {NAMES}: __import__(f'experiments.{{name}}')\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

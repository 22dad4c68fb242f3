"""Every notebook runs from top to bottom in a fresh folder, and shows pictures."""

import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
SECONDS = 900  # of one cell, on a machine that is busy with other things


def named(path: Path) -> str:
    return path.stem


def test_there_are_notebooks():
    assert NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=named)
def test_notebook_is_stored_without_outputs(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert not cell.outputs and cell.execution_count is None, cell.id
    assert notebook.metadata.kernelspec == {
        "display_name": "Python 3",
        "language": "python",
        "name": "python3",
    }
    assert notebook.cells[0].cell_type == "markdown"
    code = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    assert "except ImportError as error:" in code and "%pip install" in code
    assert "jax.devices()" in code and "# @param" in code


@pytest.mark.filterwarnings("ignore")  # of the machinery that starts the kernel
@pytest.mark.parametrize("path", NOTEBOOKS, ids=named)
def test_notebook_runs_and_shows_pictures(path, tmp_path):
    notebook = nbformat.read(path, as_version=4)
    # As a user starts it: without the eight devices and the plotting backend of the tests.
    env = {k: v for k, v in os.environ.items() if k != "MPLBACKEND"}
    flags = [f for f in env["XLA_FLAGS"].split() if "device_count" not in f]
    env["XLA_FLAGS"] = " ".join(flags)  # compiling is most of the time
    env["IPYTHONDIR"] = str(tmp_path / "ipython")
    work = tmp_path / "work"
    work.mkdir()
    client = NotebookClient(
        notebook,
        timeout=SECONDS,
        kernel_name="python3",
        resources={"metadata": {"path": str(work)}},
    )
    client.execute(env=env)  # raises CellExecutionError at the first error
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert not [output for output in outputs if output.output_type == "error"]
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(pictures) >= 2
    assert list(work.iterdir()) == []  # what it writes goes to a temporary folder

"""What README.md prints is what is tested: its Python runs, its commands and names exist."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import dcmu_jax
from dcmu_jax import cli
from dcmu_jax.pipeline.presets import PRESETS
from dcmu_jax.unlearning.registry import METHODS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def test_the_python_of_the_readme_runs_as_printed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    face, library, own = blocks("python")
    steps = {}
    exec(compile(face, "README.md, step by step", "exec"), steps)
    assert [row.method for row in steps["rows"]] == ["original", "retrain", "modular"]
    capsys.readouterr()
    names = {"__name__": "readme"}

    exec(compile(library, "README.md, library", "exec"), names)
    printed = capsys.readouterr().out
    report = Path(printed.strip().splitlines()[-1])
    assert report.read_text().count("data:image/png;base64") >= 3
    assert "Asked to forget class:3" in printed
    served = names["served"].unlearned
    assert not np.isin(served.trained_ids, names["request"].ids).any()

    exec(compile(own, "README.md, your own", "exec"), names)
    assert (tmp_path / "mine.npz").is_file()
    run, unlearned = names["run"], names["unlearned"]
    assert isinstance(unlearned.classifier.model, names["Mine"])
    train, forgotten = run.splits.train, run.request("class:7").ids
    correct = unlearned.classifier.evaluate(train).correct
    known = np.isin(train.ids, forgotten)
    # Of ten classes: that it works at all is tested here, how well is measured elsewhere.
    assert correct[known].mean() < 0.2 and correct[~known].mean() > 0.8


def test_the_library_example_is_about_fifteen_lines():
    code = [line for line in blocks("python")[1].splitlines() if line.strip()]
    assert len(code) <= 17


def test_two_complete_commands_install_with_the_pins():
    marked = re.findall(
        r"^<!-- the (run|test) command -->\n```sh\n(.+)\n```$", README, re.MULTILINE
    )
    commands = dict(marked)
    assert set(commands) == {"run", "test"}
    for command in commands.values():
        assert command.startswith("python3 -m venv ")
        assert "pip install -c constraints.txt" in command
    assert commands["run"].endswith("/bin/dcmu run")
    assert "-m pytest" in commands["test"]


def test_the_ci_script_runs_the_test_command_of_the_readme():
    script = (ROOT / ".ci" / "run").read_text()
    assert "<!-- the test command -->" in script and os.access(ROOT / ".ci" / "run", os.X_OK)
    assert "pytest" not in script  # the README alone says how to test


@pytest.mark.parametrize("command", sorted(set(re.findall(r"^dcmu (\w+)", README, re.MULTILINE))))
def test_every_command_of_the_readme_exists(command, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main([command, "--help"])
    assert stop.value.code == 0
    flags = re.findall(rf"^dcmu {command} (.*)$", README, re.MULTILINE)
    shown = capsys.readouterr().out
    for flag in re.findall(r"--[a-z][a-z.-]+", " ".join(flags)):
        assert flag in shown, f"dcmu {command} has no {flag}"


def test_presets_and_methods_are_named():
    for name in (*PRESETS, *METHODS):
        assert f"`{name}`" in README or name == "modular"  # presets are its names


def test_links_lead_to_files_that_are_there():
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_every_promoted_name_is_there():
    for name in dcmu_jax.__all__:
        assert getattr(dcmu_jax, name) is not None
    assert set(dcmu_jax.__all__) <= set(dir(dcmu_jax))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = dcmu_jax.nothing


def test_the_bare_import_loads_no_jax():
    code = "import sys, dcmu_jax; assert 'jax' not in sys.modules, 'jax was imported'"
    subprocess.run([sys.executable, "-c", code], check=True)

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

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def test_the_python_of_the_readme_runs_as_printed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    own, _ = blocks("python")  # tests/test_guides.py runs the other, which a guide goes on from
    names = {"__name__": "readme"}
    exec(compile(own, "README.md, your own", "exec"), names)
    run, unlearned = names["run"], names["unlearned"]
    assert isinstance(unlearned.model, names["Mine"])
    train, forgotten = run.splits.train, run.request("class:7").ids
    correct = unlearned.evaluate(train).correct
    known = np.isin(train.ids, forgotten)
    # Of ten classes: that it works at all is tested here, how well is measured elsewhere.
    assert correct[known].mean() < 0.2 and correct[~known].mean() > 0.8


def test_it_is_short():
    assert len(README) <= 9000
    for code in blocks("python"):
        lines = [line for line in code.splitlines() if line.strip() and "import" not in line]
        assert len(lines) <= 12


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


def test_every_promoted_name_is_there():
    for name in dcmu_jax.__all__:
        assert getattr(dcmu_jax, name) is not None
    assert set(dcmu_jax.__all__) <= set(dir(dcmu_jax))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = dcmu_jax.nothing


def test_the_bare_import_loads_no_jax():
    code = "import sys, dcmu_jax; assert not {'jax', 'pandas'} & set(sys.modules), 'imported'"
    subprocess.run([sys.executable, "-c", code], check=True)

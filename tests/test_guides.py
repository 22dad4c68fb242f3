"""The guides are run: their Python as printed and their commands, save where a block is marked."""

import importlib.util
import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest

from dcmu_jax import cli
from dcmu_jax.baselines.registry import METHODS
from dcmu_jax.runs.presets import PRESETS

ROOT = Path(__file__).parents[1]
GUIDES = sorted((ROOT / "docs" / "guides").glob("*.md"))
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
BLOCK = re.compile(
    r"^(?P<mark><!-- not run: .+ -->\n)?```(?P<language>\w*)\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


def named(path):
    return path.stem


def blocks(path):
    """Whether it is run, language and code of every block, in order."""
    found = BLOCK.finditer(path.read_text())
    return [(m["mark"] is None, m["language"], m["code"]) for m in found]


def commands(code):
    """The words of every command of a shell block; comments left out, broken lines joined."""
    lines = re.sub(r"\\\n\s*", " ", code).splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def _steps_and_run(names, printed):
    """The step-by-step guide: its table, and what the run after it left."""
    assert names["rows"].index.tolist() == ["original", "retrain", "modular"]
    report = Path(printed.strip().splitlines()[-1])
    assert report.read_text().count("data:image/png;base64") >= 3
    assert "Asked to forget class:3" in printed
    served = names["served"].unlearned
    assert not np.isin(served.trained_ids, names["request"].ids).any()


def _steps_of_the_readme(capsys):
    """What the block of the README leaves, from which the step-by-step guide goes on."""
    [block] = [
        code
        for wanted, language, code in blocks(ROOT / "README.md")
        if wanted and language == "python" and "dcmu.collect" in code
    ]
    names = {"__name__": "readme"}
    exec(compile(block, "README.md, step by step", "exec"), names)
    assert names["rows"].index.tolist() == ["original", "modular"]
    assert "A random tenth forgotten" in capsys.readouterr().out
    return names


BEFORE = {"step_by_step": _steps_of_the_readme}
"""What a guide takes for granted."""

AFTER = {"step_by_step": _steps_and_run}
"""What must hold when the blocks of a guide have run, beside their own assertions."""


@pytest.mark.parametrize("path", GUIDES, ids=named)
def test_the_blocks_of_a_guide_run(path, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = BEFORE[path.stem](capsys) if path.stem in BEFORE else {}
    names |= {"__name__": path.stem}
    for number, (wanted, language, code) in enumerate(blocks(path)):
        if not wanted:
            compile(code if language == "python" else "", path.name, "exec")
            continue
        if language == "python":
            exec(compile(code, f"{path.name}, block {number + 1}", "exec"), names)
            continue
        assert language == "sh", f"a block of {language!r} that is not marked as not run"
        for program, *arguments in commands(code):
            assert program == "dcmu", f"{program} in a block that is not marked as not run"
            assert cli.main([*arguments, "--quiet"]) == 0
    if path.stem in AFTER:
        AFTER[path.stem](names, capsys.readouterr().out)


@pytest.mark.parametrize("path", GUIDES, ids=named)
def test_what_is_not_run_exists(path, monkeypatch):
    """Commands, their options, and modules; a sign of every option is in the help."""
    shown = {}
    for wanted, language, code in blocks(path):
        if wanted or language != "sh":
            continue
        for words in commands(code):
            words = [word for word in words if not re.fullmatch(r"[A-Z_]+=\S+", word)]
            if words[0] == "dcmu":
                shown.setdefault(words[1], []).extend(words[2:])
            elif words[:2] == ["python", "-m"]:
                assert importlib.util.find_spec(words[2]), words[2]
    for command, words in shown.items():
        printed = help_of(command, monkeypatch)
        for flag in words:
            if flag.startswith("--"):
                assert flag.split("=")[0] in printed, f"dcmu {command} has no {flag}"


def help_of(command, monkeypatch):
    """What ``dcmu COMMAND --help`` prints."""
    printed = []
    with monkeypatch.context() as patch, pytest.raises(SystemExit) as stop:
        patch.setattr(sys.stdout, "write", printed.append)
        cli.main([command, "--help"])
    assert stop.value.code == 0
    return "".join(printed)


def anchors(path):
    """What a link into a document may name after its ``#``: a heading as GitHub writes it."""
    text = re.sub(r"^```.*?^```$", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {
        re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings
    }


@pytest.mark.parametrize("path", DOCUMENTS, ids=named)
def test_links_lead_to_files_and_headings_that_are_there(path):
    for target, _, heading in re.findall(
        r"\]\((?!https?:)([^)#\s]*)(#([^)\s]+))?\)", path.read_text()
    ):
        found = path.parent / target if target else path
        assert found.exists(), target
        assert not heading or heading in anchors(found), f"{target}#{heading}"


def test_presets_and_methods_are_named():
    guide = (ROOT / "docs" / "guides" / "presets_and_methods.md").read_text()
    for name in (*PRESETS, *METHODS):
        assert f"`{name}`" in guide or name == "modular"  # presets are its names


def test_every_guide_is_named_in_the_readme():
    readme = (ROOT / "README.md").read_text()
    for path in GUIDES:
        assert f"docs/guides/{path.name}" in readme, path.name

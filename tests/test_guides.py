"""The guides are run: their Python as printed and their commands, save where a block is marked."""

import importlib.util
import re
import shlex
import sys
from pathlib import Path

import pytest

from dcmu_jax import cli

ROOT = Path(__file__).parents[1]
GUIDES = sorted((ROOT / "docs" / "guides").glob("*.md"))
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


@pytest.mark.parametrize("path", GUIDES, ids=named)
def test_the_blocks_of_a_guide_run(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": path.stem}
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


@pytest.mark.parametrize("path", [*GUIDES, ROOT / "docs" / "results.md"], ids=named)
def test_links_lead_to_files_that_are_there(path):
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", path.read_text()):
        assert (path.parent / target).exists(), target


def test_every_guide_is_named_in_the_readme():
    readme = (ROOT / "README.md").read_text()
    for path in GUIDES:
        assert f"docs/guides/{path.name}" in readme, path.name

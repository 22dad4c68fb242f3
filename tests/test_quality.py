"""The source as a whole: formatted, typed, one training loop, arrows that point one way."""

import ast
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "dcmu_jax"
FILES = sorted(PACKAGE.rglob("*.py"))


def _run(*command):
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("command", [("check",), ("format", "--check")], ids=" ".join)
def test_ruff_finds_nothing(command):
    if importlib.util.find_spec("ruff") is None:
        pytest.skip("ruff is not installed; it comes with the extra 'test'")
    done = _run(sys.executable, "-m", "ruff", *command, "--no-cache", ".")
    assert done.returncode == 0, done.stdout + done.stderr


def test_pyright_finds_nothing():
    if importlib.util.find_spec("pyright") is None:
        pytest.skip("pyright is not installed; it comes with the extra 'test'")
    done = _run(sys.executable, "-m", "pyright", "--pythonpath", sys.executable, "dcmu_jax")
    if "error" not in done.stdout and done.returncode not in (0, 1):
        # Its first start fetches a node runtime and the checker itself.
        pytest.skip(f"pyright cannot start here: {done.stderr.strip()[-200:]}")
    assert done.returncode == 0, done.stdout + done.stderr


def _names(file):
    """Every dotted name that is used in a file, such as ``optax.apply_updates``."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Attribute | ast.Name):
            yield ast.unparse(node)
        if isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_one_place_trains():
    users = {f.relative_to(PACKAGE).parts[0] for f in FILES if "optax.apply_updates" in _names(f)}
    assert users == {"training", "core"}  # the plain form of it stands in core


def test_the_plain_form_alone_freezes_by_masks():
    masks = {"optax.masked", "optax.apply_if", "optax.multi_transform"}
    users = [file.relative_to(PACKAGE).as_posix() for file in FILES if masks & set(_names(file))]
    assert users == ["core/modular.py"]


LAYERS = (
    ("errors",),
    (
        "extensions",
        "files",
        "locks",
        "outlets",
        "own_code",
        "platforms",
        "prng",
        "programs",
        "reading",
        "threads",
    ),
    ("data", "networks"),
    ("training", "theory"),
    ("fast",),
    ("condensation", "metrics"),
    ("unlearning",),
    ("baselines", "audits"),
    ("core",),
    ("applications", "runs"),
    ("service", "sweeps"),
    ("reporting",),
    ("face", "schedules"),
    ("cli",),
    ("__main__",),
)
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
SIDEWAYS = {("networks", "data"), ("metrics", "condensation"), ("audits", "baselines")}
"""Imports between neighbours of one layer; each goes one way only."""


def _imports(file):
    """The top-level parts of this package that a file imports, also inside functions."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            names = [node.module or ""]
            if node.module == "dcmu_jax":
                names = [f"dcmu_jax.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            parts = name.split(".")
            if parts[0] == "dcmu_jax" and len(parts) > 1:
                yield parts[1]


def _arrows():
    for file in FILES:
        own = file.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if own != "__init__":
            yield from ((own, other, file) for other in _imports(file) if other != own)


def test_every_package_has_its_layer():
    assert {own for own, *_ in _arrows()} | {o for _, o, _ in _arrows()} <= set(RANK)


def test_arrows_point_one_way():
    for own, other, file in _arrows():
        allowed = RANK[other] < RANK[own] or (own, other) in SIDEWAYS
        assert allowed, f"{file.relative_to(ROOT)} imports {other}"


def test_theory_stands_on_data_and_networks_alone():
    below = {other for own, other, _ in _arrows() if own == "theory"}
    assert below <= {"errors", "data", "networks"}


def test_quick_forms_name_their_plain_twin_and_the_test_of_both():
    for file in sorted((PACKAGE / "fast").glob("[!_]*.py")):
        text = ast.get_docstring(ast.parse(file.read_text()))
        twin, test = re.search(r"``core\.(\w+)", text), re.search(r"tests/[\w/]+\.py", text)
        assert twin and (PACKAGE / "core" / f"{twin[1]}.py").exists(), file
        assert test and (ROOT / test[0]).exists(), file


def test_files_say_their_job_and_leave_nothing_open():
    open_mark = re.compile(r"\b(TO" "DO|FIX" "ME|XX" r"X)\b")
    for file in FILES:
        text = file.read_text()
        docstring = ast.get_docstring(ast.parse(text))
        assert docstring and len(docstring.splitlines()[0]) <= 100, file
        assert not open_mark.search(text), file


def test_no_private_names_of_jax():
    for file in FILES:
        private = [name for name in _names(file) if name.startswith(("jax._", "jax.lax._"))]
        assert not private, f"{file}: {private}"


def test_no_path_of_a_machine():
    for file in [*FILES, *sorted((ROOT / "tests").rglob("*.py"))]:
        home = str(ROOT.parent)
        assert home == os.sep or f'"{home}/' not in file.read_text(), file

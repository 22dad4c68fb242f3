"""``.ci/run``: the test command with two Pythons, and what it says and returns."""

import os
import pathlib
import shutil
import subprocess

import pytest

RUN = pathlib.Path(__file__).parents[1] / ".ci" / "run"

README = """
<!-- the test command -->
```sh
python3 go && test -e README.md
```
"""

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


def _interpreter(path: pathlib.Path, version: str, status: int = 0) -> None:
    """A program that answers like a Python of this version, and ends a run with ``status``."""
    path.write_text(
        f"""#!/bin/sh
case "$2" in
  *ensurepip*) echo {version} ;;
  *sys.executable*) echo "$0" ;;
  *) echo "this is {version}"; exit {status} ;;
esac
"""
    )
    path.chmod(0o755)


def _run(tmp_path, **pythons: tuple[str, int]):
    checkout, names = tmp_path / "checkout", tmp_path / "names"
    (checkout / ".ci").mkdir(parents=True)
    names.mkdir()
    shutil.copy(RUN, checkout / ".ci" / "run")
    (checkout / "README.md").write_text(README)
    for name, (version, status) in pythons.items():
        _interpreter(names / name.replace("_", "."), version, status)
    shim = names / "python3.99"  # of a version that is not selected
    shim.write_text("#!/bin/sh\necho not found >&2\nexit 127\n")
    shim.chmod(0o755)
    for tool in ("awk", "bash", "dirname", "git", "grep", "mkdir", "mktemp", "chmod", "rm", "sh"):
        (names / tool).symlink_to(shutil.which(tool))
    for tool in ("sort", "tail", "tar", "test"):
        (names / tool).symlink_to(shutil.which(tool))
    environment = {**os.environ, "PATH": str(names)}
    subprocess.run(["git", "init", "-q", checkout], check=True)
    done = subprocess.run(
        [checkout / ".ci" / "run"], env=environment, capture_output=True, text=True
    )
    return done.returncode, done.stdout


@pytest.mark.parametrize("failing", [None, "3.11.4", "3.98.1"])
def test_both_run_whatever_the_first_gives(tmp_path, failing):
    given = {"python3": "3.11.4", "python3_12": "3.12.0", "python3_98": "3.98.1"}
    status, said = _run(
        tmp_path, **{name: (version, 3 * (version == failing)) for name, version in given.items()}
    )
    assert status == (failing is not None), said
    assert "this is 3.11.4" in said and "this is 3.98.1" in said and "3.12.0" not in said
    for version in ("3.11.4", "3.98.1"):
        outcome = "failed with status 3" if version == failing else "passed"
        assert f"Python {version}: {outcome} in " in said


def test_where_only_one_is_there_it_says_so(tmp_path):
    status, said = _run(tmp_path, python3=("3.12.3", 0), python3_12=("3.12.3", 0))
    assert (status, said.count("this is 3.12.3")) == (0, 1)
    assert "No other Python than 3.12 is installed that is newer: one run" in said

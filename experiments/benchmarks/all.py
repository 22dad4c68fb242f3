"""Runs every benchmark of this folder, one after another; what it knows of them is their headers.

Command:  python -m experiments.benchmarks.all --list
          python -m experiments.benchmarks.all --archives FOLDER   (from the root of the repository)

A benchmark is a module whose docstring begins with ``Benchmark:``. It runs by the first command of
its header, in a process of its own, and with ``--variants`` by the others, too. One that needs
PyTorch, a GPU or an archive of images that is not there is left out with a message. At the end
stands what was written and what failed, in which case the exit status is 1.
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import importlib.util
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from experiments.benchmarks import record

FOLDER = Path(__file__).parent
ROOT = Path(__file__).resolve().parents[2]
NUMBERS = {"half a": 0.5, "a": 1.0, "two": 2.0, "three": 3.0, "four": 4.0, "five": 5.0}
_MINUTES = re.compile(rf"\b(\d+|{'|'.join(NUMBERS)}) minutes?\b")
_CHOICE = re.compile(r"\b(or|else|if)\b")


def section(docstring: str, title: str) -> str:
    """The text under ``title:`` at the beginning of a line, and the indented lines after it."""
    found = re.search(rf"^{title}:[ ]+(.*(?:\n[ ]+.*)*)", docstring, re.MULTILINE)
    return "" if found is None else found.group(1)


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """A benchmark as its header has it.

    Attributes:
        name: of the module.
        docstring: of the module.
    """

    name: str
    docstring: str

    @property
    def commands(self) -> list[str]:
        """The commands of the header, the usual one first."""
        lines = section(self.docstring, "Command").split("\n")
        lines = [line.split("(")[0].strip() for line in lines]
        return [line for line in lines if line.startswith("python -m ")]

    @property
    def needs(self) -> str:
        """What it needs, in one line."""
        return " ".join(section(self.docstring, "Needs").split())

    @property
    def minutes(self) -> float | None:
        """Minutes that the usual command is expected to take; None if the header says none."""
        found = _MINUTES.search(self.needs)
        if found is None:
            return None
        return NUMBERS.get(found.group(1)) or float(found.group(1))

    def requires(self, what: str) -> bool:
        """Whether it cannot do without: a clause of its needs that leaves no choice names it."""
        clauses = re.split(r"[;.] ", self.needs)
        return any(what in clause and not _CHOICE.search(clause) for clause in clauses)

    def results(self) -> list[tuple[Path, str]]:
        """The result files that its commands wrote, with the date of each."""
        found = []
        for path in sorted(record.RESULTS.glob("*.json")):
            written = json.loads(path.read_text())
            command = written.get("command", "") if isinstance(written, dict) else ""
            if f"experiments.benchmarks.{self.name}" in str(command).split():
                found.append((path, written.get("date", "no date")))
        return found

    def listing(self) -> str:
        """What ``--list`` prints of it."""
        files = [f"{path.name} ({date})" for path, date in self.results()]
        minutes = "not said" if self.minutes is None else f"{self.minutes:g}"
        rows = {
            "needs": self.needs,
            "minutes": minutes,
            "results": ", ".join(files) or "none yet",
            "command": "\n             ".join(self.commands),
        }
        return "\n".join([self.name, *(f"    {title:9}{text}" for title, text in rows.items())])


def benchmarks() -> list[Benchmark]:
    """All of the folder, by name; their modules are read, not imported."""
    found = []
    for path in sorted(FOLDER.glob("*.py")):
        docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
        if docstring.startswith("Benchmark:"):
            found.append(Benchmark(path.stem, docstring))
    return found


def has_gpu() -> bool:
    """Whether JAX has one; asked in a process of its own, which gives its memory back."""
    ask = "import jax; print(jax.default_backend())"
    done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True)
    return done.stdout.split()[-1:] == ["gpu"]


def obstacle(benchmark: Benchmark, command: list[str], gpu: Callable[[], bool]) -> str | None:
    """Why a command cannot run here; None if it can.

    Args:
        benchmark: whose command it is.
        command: its words, archives as paths.
        gpu: says whether there is one.
    """
    if benchmark.requires("``bench``") and importlib.util.find_spec("torch") is None:
        return "needs PyTorch, which comes with the extra 'bench'"
    if benchmark.requires("a GPU") and not gpu():
        return "needs a GPU"
    for word in command:
        if word.endswith(".npz") and not Path(word).exists():
            return f"needs {Path(word).name} in the folder --archives"
    return None


def words_of(command: str, archives: Path) -> list[str]:
    """The command of a header as it is run here: this Python, archives in their folder."""
    words = [sys.executable, *shlex.split(command)[1:]]
    return [str(archives / word) if word.endswith(".npz") else word for word in words]


def run(chosen: list[Benchmark], archives: Path, variants: bool) -> int:
    """Run them, print the summary, return how many commands failed."""
    gpu: list[bool] = []

    def asked_once() -> bool:
        if not gpu:
            gpu.append(has_gpu())
        return gpu[0]

    summary, failures = [], 0
    for benchmark in chosen:
        for command in benchmark.commands if variants else benchmark.commands[:1]:
            words = words_of(command, archives)
            reason = obstacle(benchmark, words, asked_once)
            if reason is not None:
                summary.append(f"left out  {command}: {reason}")
                print(summary[-1], flush=True)
                continue
            print(f"running   {command}", flush=True)
            before = {path: path.stat().st_mtime_ns for path in record.RESULTS.iterdir()}
            status = subprocess.run(words, cwd=ROOT).returncode
            written = sorted(
                path.name
                for path in record.RESULTS.iterdir()
                if before.get(path) != path.stat().st_mtime_ns
            )
            failures += status != 0
            ended = "ran" if status == 0 else f"FAILED, status {status}"
            summary.append(f"{ended:9} {command}: wrote {', '.join(written) or 'nothing'}")
    print("\n" + "\n".join(summary))
    return failures


def main(arguments: list[str] | None = None) -> int:
    """List or run what was asked for; the exit status."""
    known = {benchmark.name: benchmark for benchmark in benchmarks()}
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="of benchmarks; all if not given")
    parser.add_argument("--list", action="store_true", help="say what there is, and run nothing")
    parser.add_argument("--archives", type=Path, default=Path(), help="folder of .npz archives")
    parser.add_argument("--variants", action="store_true", help="also the headers' other commands")
    options = parser.parse_args(arguments)
    if unknown := [name for name in options.names if name not in known]:
        parser.error(f"no benchmark {', '.join(unknown)}; there are {', '.join(known)}")
    chosen = [known[name] for name in options.names] or list(known.values())
    if options.list:
        print("\n\n".join(benchmark.listing() for benchmark in chosen))
        return 0
    return int(run(chosen, options.archives.resolve(), options.variants) > 0)


if __name__ == "__main__":
    sys.exit(main())

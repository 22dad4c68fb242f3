"""The one command for all benchmarks: its list, what it leaves out, what it says at the end."""

import json
import sys
from pathlib import Path

import pytest

from experiments.benchmarks import all as every
from experiments.benchmarks import record
from experiments.benchmarks.all import Benchmark, benchmarks
from experiments.benchmarks.command import DRY, CommandLine

HELPERS = {
    "absent",
    "compiled_programs",
    "hlo",
    *("all", "clock", "command", "images", "record", "roofline", "torch_baseline", "torch_twins"),
}
TOY = '''"""Benchmark: a toy.

Command:  python -m {module}   (from here)
          python -m {module} --wide
Needs:    the extra ``bench`` (PyTorch); about three minutes. An archive, else made-up images;
          or a GPU.
Aim:      none.
"""
'''


def _toy(needs="nothing; a minute"):
    return Benchmark("toy", f"Benchmark: a toy.\n\nCommand:  python -m toy\nNeeds:    {needs}\n")


def test_the_list_names_every_module_with_what_it_needs_and_takes(capsys):
    modules = {path.stem for path in every.FOLDER.glob("*.py")} - HELPERS
    found = benchmarks()
    assert {benchmark.name for benchmark in found} == modules
    for benchmark in found:
        expected = f"python -m experiments.benchmarks.{benchmark.name}"
        assert benchmark.commands[0].startswith(expected), benchmark.name
        assert benchmark.needs and 0 < (benchmark.minutes or 0) <= 30, benchmark.name
    assert every.main(["--list"]) == 0
    text = capsys.readouterr().out
    assert all(f"\n{name}\n" in f"\n{text}" for name in modules)
    written = json.loads((record.RESULTS / "training_step_cpu.json").read_text())
    assert f"training_step_cpu.json ({written['date']})" in text
    # Another experiment's file with a name that begins alike is no result of a benchmark.
    assert "deletion_batches" not in text


def test_what_benchmarks_cannot_do_without():
    found = {benchmark.name: benchmark for benchmark in benchmarks()}
    torch = {name for name, benchmark in found.items() if benchmark.requires("``bench``")}
    gpu = {name for name, benchmark in found.items() if benchmark.requires("a GPU")}
    assert torch == {"training_step"} and gpu == {"accelerator"}


def test_a_header_is_read():
    toy = Benchmark("toy", TOY.format(module="toy"))
    assert toy.commands == ["python -m toy", "python -m toy --wide"]
    assert toy.minutes == 3 and toy.requires("``bench``") and not toy.requires("a GPU")
    assert not toy.requires("An archive") and "none yet" in toy.listing()
    assert _toy("some 20 minutes").minutes == 20 and _toy("half a minute").minutes == 0.5
    assert _toy("nothing").minutes is None and "not said" in _toy("nothing").listing()


def test_obstacles(tmp_path, monkeypatch):
    words = every.words_of("python -m toy --data toy.npz", tmp_path)
    assert words == [sys.executable, "-m", "toy", "--data", str(tmp_path / "toy.npz")]
    assert "toy.npz" in every.obstacle(_toy(), words, lambda: False)
    (tmp_path / "toy.npz").write_bytes(b"")
    assert every.obstacle(_toy(), words, lambda: False) is None
    assert "GPU" in every.obstacle(_toy("a GPU"), words, lambda: False)
    assert every.obstacle(_toy("a GPU"), words, lambda: True) is None
    monkeypatch.setattr(every.importlib.util, "find_spec", lambda name: None)
    assert "PyTorch" in every.obstacle(_toy("the extra ``bench``"), words, lambda: True)


def test_all_run_though_one_fails_and_the_end_says_so(tmp_path, monkeypatch, capfd):
    results = tmp_path / "results"
    results.mkdir()
    (results / "old.json").write_text("{}")
    (tmp_path / "good.py").write_text(
        "import pathlib, sys\n"
        "name = 'good_wide' if '--wide' in sys.argv else 'good'\n"
        "pathlib.Path(f'results/{name}.json').write_text('{}')\n"
    )
    (tmp_path / "bad.py").write_text("raise SystemExit(3)\n")
    for name, value in (("ROOT", tmp_path), ("FOLDER", tmp_path)):
        monkeypatch.setattr(every, name, value)
    monkeypatch.setattr(record, "RESULTS", results)
    toys = {
        "bad": Benchmark("bad", "Command:  python -m bad\n"),
        "good": Benchmark("good", "Command:  python -m good\n          python -m good --wide\n"),
        "other": Benchmark("other", "Command:  python -m good --data gone.npz\n"),
    }
    monkeypatch.setattr(every, "benchmarks", lambda: list(toys.values()))
    assert every.main(["--archives", str(tmp_path)]) == 1
    said = capfd.readouterr().out
    assert "FAILED, status 3 python -m bad" in said
    assert "python -m good: wrote good.json\n" in said and "good_wide" not in said
    assert "needs gone.npz" in said
    assert every.main(["good", "--variants"]) == 0
    assert "good --wide: wrote good_wide.json" in capfd.readouterr().out
    with pytest.raises(SystemExit, match="2"):
        every.main(["gone"])


def test_the_command_of_a_benchmark_gives_the_same_again(tmp_path, monkeypatch, capsys):
    kinds = {"data": Path, "steps": [1, 2], "rate": (0.5, "help"), "one_more": int, "folder": Path}
    line = CommandLine("toy", "A toy.", dry=DRY, **kinds)
    plain = "python -m experiments.benchmarks.toy"
    assert line.command(line.parse([])) == plain
    given = f"--data {tmp_path}/a.npz --steps 3 4 --rate 0.5 --one-more 0 --folder {tmp_path}"
    asked = line.parse(given.split())
    assert line.command(asked) == f"{plain} --data a.npz --steps 3 4 --one-more 0"
    monkeypatch.setattr(record, "RESULTS", tmp_path)
    line.write("toy", {"a": 1}, line.parse(["--dry"]))
    assert not list(tmp_path.iterdir())
    line.write("toy", {"a": 1}, asked)
    assert json.loads((tmp_path / "toy.json").read_text())["figures"] == {"a": 1}
    assert capsys.readouterr().out == "written: toy.json\n"


def test_the_folder_of_the_repository_is_the_root():
    assert every.ROOT == Path(__file__).resolve().parents[2] == every.FOLDER.parents[1]

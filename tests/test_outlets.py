"""What surrounds a command: whatever happens to it, one message, a status, and the way on."""

import contextlib
import io
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dcmu_jax.cli import commands, main
from dcmu_jax.errors import InputError
from dcmu_jax.outlets import Interrupted, ended

DATA = "synthetic:classes=3,per_class=24,size=8,channels=1"
COMMAND = [sys.executable, "-m", "dcmu_jax.cli"]


def _start(*arguments, **environment):
    return subprocess.Popen(
        [*COMMAND, *arguments],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _catches(process, number):
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
            if line.startswith("SigCgt:"):
                return int(line.split()[1], 16) >> (number - 1) & 1
    return 0


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="asks Linux for handlers")
def test_a_signal_while_libraries_are_imported():
    process = _start("verify", "a folder")
    while not _catches(process, signal.SIGTERM):
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    out, said = process.communicate()
    assert (out, said) == ("", "Interrupted; go on with dcmu verify 'a folder'\n")
    assert process.returncode == 143


def test_ctrl_c_while_training_and_the_way_on(tmp_path):
    few = ["--method.remembrance.per-class", "2", "--network.width=0.05", "--baselines", "--quiet"]
    out = tmp_path / "run"
    arguments = ["train", "--dataset", DATA, "--training.epochs=200000", "--out", str(out), *few]
    process, log = _start(*arguments), out / "metrics.jsonl"
    while process.poll() is None and not (log.is_file() and log.stat().st_size):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate()
    assert process.returncode == 130, said
    assert said == f"Interrupted; go on with dcmu {' '.join(arguments)} --resume\n"
    assert all(json.loads(line) for line in log.read_text().splitlines())
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    left = {path.name for path in out.iterdir()} - {"original.unfinished"}
    assert left == {"config.json", "data.json", "environment.json", "metrics.jsonl", "run.lock"}


def test_a_second_signal_and_the_way_on():
    code = """
import os, signal, sys, time
from dcmu_jax.outlets import WayOn, ended
way_on = WayOn(["train", "--out", "r"])
def work():
    way_on.find = lambda: [*way_on.argv, "--resume"]
    try:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(9)
    finally:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(9)
sys.exit(ended(work, way_on))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 143
    assert done.stderr == "Interrupted; go on with dcmu train --out r --resume\n"


def _interrupt(monkeypatch, arguments, kind, do=lambda args: None):
    def handler(args, console):
        do(args)
        raise Interrupted(signal.SIGINT)

    monkeypatch.setitem(commands.COMMANDS, arguments[0], (handler, kind))
    return main(arguments)


def test_the_command_that_goes_on(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    kinds = {name: kind for name, (_, kind) in commands.COMMANDS.items()}

    def made(args):
        args.out.mkdir(parents=True)

    assert _interrupt(monkeypatch, ["run", "--quiet"], kinds["run"], made) == 130
    (run,) = Path("runs").iterdir()
    assert f"go on with dcmu run --quiet --out {run} --resume\n" in capsys.readouterr().err
    again = ["train", "--out", str(run), "--resume"]
    _interrupt(monkeypatch, again, kinds["train"])
    assert f"go on with dcmu train --out {run} --resume\n" in capsys.readouterr().err
    _interrupt(monkeypatch, ["train", "--out", "not yet"], kinds["train"])
    assert "go on with dcmu train --out 'not yet'\n" in capsys.readouterr().err
    _interrupt(monkeypatch, ["request", "w", "random:0.1"], kinds["request"])
    assert "go on with dcmu status w\n" in capsys.readouterr().err
    _interrupt(monkeypatch, ["request", "w", "class:1", "--reference", "a"], kinds["request"])
    assert "go on with dcmu request w class:1 --reference a\n" in capsys.readouterr().err


def test_no_device(monkeypatch, tmp_path):
    for platform in ("cuda", "nonsense"):
        process = _start("status", str(tmp_path), JAX_PLATFORMS=platform)
        _, said = process.communicate()
        if process.returncode == 2 and "no workspace" in said:
            continue  # there is such a device here
        assert process.returncode == 2 and said.count("\n") == 1
        assert f"JAX finds no device of JAX_PLATFORMS='{platform}'" in said
        assert "Set JAX_PLATFORMS=cpu, or unset it" in said


@pytest.mark.parametrize("failure", [MemoryError(), RuntimeError("RESOURCE_EXHAUSTED: 9 GiB")])
def test_exhausted_memory(failure, capsys):
    def work():
        raise failure

    assert ended(work, ["run"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("dcmu: Memory is exhausted") and "--training.batch-size" in said


def test_a_full_disk_is_not_called_memory(capsys):
    def work():
        raise OSError(None, "RESOURCE_EXHAUSTED: no room", "network")

    assert ended(work, ["run"]) == 2
    assert "network cannot be used (RESOURCE_EXHAUSTED: no room)" in capsys.readouterr().err


def test_other_failures_keep_their_trace():
    def work():
        raise KeyError("a fault of the program")

    with pytest.raises(KeyError):
        ended(work, ["run"])


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["run", "--help"]])
def test_a_full_disk(monkeypatch, capsys, arguments):
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert main(arguments) in (1, 2)
        monkeypatch.undo()
    said = capsys.readouterr().err
    assert said.startswith("dcmu: ") and said.count("\n") == 1
    assert "No space left on device" in said


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_disk_without_a_buffer(monkeypatch, capsys):
    """As PYTHONUNBUFFERED has it: what fails to be written is not kept for a second try."""
    raw = open("/dev/full", "wb", buffering=0)
    full = io.TextIOWrapper(raw, write_through=True)  # pyright: ignore[reportArgumentType]
    monkeypatch.setattr(sys, "__stdout__", full)
    monkeypatch.setattr(sys, "stdout", full)
    assert ended(lambda: print("said") or 0, ["status"]) == 1
    sys.stdout.close()
    monkeypatch.undo()
    said = capsys.readouterr().err
    assert said.startswith("dcmu: The output cannot be written (") and said.count("\n") == 1


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["run", "--help"]])
def test_a_reader_that_has_gone(monkeypatch, capsys, arguments):
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        assert main(arguments) == 141
        monkeypatch.undo()
    assert capsys.readouterr().err == ""


def _does(monkeypatch, command, do):
    kind = commands.COMMANDS[command][1]
    monkeypatch.setitem(commands.COMMANDS, command, (do, kind))


def takes_nothing(how):
    """A stream that fails, as the shell gives it."""
    if how == "full":
        return open("/dev/full", "w")
    if how == "closed":  # see ``outlets``
        return open(os.open(os.devnull, os.O_RDONLY), "w")
    reading, writing = os.pipe()
    os.close(reading)
    return open(writing, "w")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
@pytest.mark.parametrize(
    ("how", "status", "why"),
    [("full", 1, "No space left"), ("closed", 1, "Bad file descriptor"), ("gone", 141, "")],
)
def test_a_failed_output_stops_no_work(monkeypatch, capsys, how, status, why):
    done = []

    def work(args, console):
        console.print("begun")
        done.append(args)
        console.print("done")

    _does(monkeypatch, "status", work)
    with takes_nothing(how) as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        assert main(["status", "w"]) == status
        monkeypatch.undo()
    said = capsys.readouterr().err
    assert len(done) == 1 and why in said
    assert ("What the command did is done all the same" in said) == (status == 1)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_failure_beside_a_failed_output_is_not_taken_for_done(monkeypatch, capsys):
    def work(args, console):
        console.print("begun")
        raise OSError(28, "No space left on device", "metrics.jsonl")

    _does(monkeypatch, "status", work)
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert main(["status", "w"]) == 2
        monkeypatch.undo()
    said = capsys.readouterr().err
    assert "metrics.jsonl cannot be used" in said and "done all the same" not in said


@pytest.mark.skipif(os.name != "posix", reason="closes stdout in a shell")
def test_a_closed_output_is_told_of():
    command = f"exec {shlex.join([*COMMAND, '--version'])} >&-"
    done = subprocess.run(command, shell=True, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("dcmu: The output cannot be written (Bad file descriptor)")


@pytest.mark.parametrize("failure", ["raised", "told"])
def test_a_full_disk_and_the_way_on(monkeypatch, capsys, tmp_path, failure):
    full = OSError(28, "No space left on device", "a file")

    def work(args, console):
        args.out.mkdir()
        if failure == "raised":
            raise full
        raise InputError("It is full", "room", "Make room") from full

    _does(monkeypatch, "train", work)
    words = ["train", "--out", str(tmp_path / "run"), "--quiet"]
    assert main(words) == 2
    said = capsys.readouterr().err
    assert said.endswith(f"o on with dcmu {shlex.join([*words, '--resume'])}\n"), said
    _does(monkeypatch, "train", lambda args, console: (_ for _ in ()).throw(full))
    assert main(words) == 2  # what was there before is no run of this command
    assert "--resume" not in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1", "utf-8"])
def test_terminals_that_know_few_characters(monkeypatch, encoding):
    text = "loss 1 → 2 … ±3 ↓ ε “é” ┏━┓│ \udcff\n"

    def work():
        print(text, end="")
        return 0

    raw = io.BytesIO()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding, newline="\n"))
        assert ended(work, []) == 0
        sys.stdout.flush()
        told = raw.getvalue().decode(encoding)
        sys.stdout.detach()
    if encoding == "ascii":
        assert told == 'loss 1 -> 2 ... +/-3 v ? "e" +-+| ?\n'
    assert told.startswith("loss 1 → 2" if encoding == "utf-8" else "loss 1 -> 2")


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "--out", "x" * 300],
        ["train", "--dataset", "npz:" + "x" * 300],
        ["train", "--dataset", "npy:" + "x" * 300],
        ["train", "--model", "x" * 300],
        ["forget", "x" * 300],
        ["status", "x" * 300],
        ["train", "--training.optimizer.learning-rate", "nan"],
        ["train", "--data.mean", "nan", "--data.std", "1"],
        ["train", "--seed", "9" * 400],
        ["defend", "nowhere", "--share", "inf"],
        ["train", "--dataset", "synthetic:classes=" + "9" * 5000],
        ["train", "--coordinator", "h:" + "9" * 5000, "--processes", "2", "--process", "0"],
        ["train", "--dataset", "npz:~nobody of this name/x.npz"],
        ["train", "--dataset", "npy:~nobody of this name/x"],
        ["train", "--devices", "9" * 5000],
        ["condensed-model", "--devices", "9" * 5000],
    ],
    ids=lambda arguments: arguments[-1][:12] + arguments[1][-8:],
)
def test_names_and_numbers_beyond_bounds(arguments, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    try:
        assert main(arguments) == 2
        assert capsys.readouterr().err.startswith("dcmu: ")
    except SystemExit as stop:  # of the parser
        assert stop.code == 2 and "--devices" in arguments
    assert not list(tmp_path.iterdir())


def test_an_interrupted_command_ends_with_its_status_whatever_its_libraries_do_at_the_end():
    """Threads of a compiler that still work can bring an interpreter down that ends."""
    code = """
import atexit, os, signal, sys
from dcmu_jax.outlets import ended
sys.argv = ["/usr/bin/dcmu", "process", "w"]
atexit.register(lambda: os.kill(os.getpid(), signal.SIGSEGV))
def work():
    print("said before")
    os.kill(os.getpid(), signal.SIGINT)
sys.exit(ended(work, sys.argv[1:]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 130 and done.stdout == "said before\n"
    assert done.stderr == "Interrupted; go on with dcmu process w\n"

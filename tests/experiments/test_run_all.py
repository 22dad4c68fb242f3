"""All cells in pieces: the command itself, killed and started again, without what is not needed."""

import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dcmu_jax.errors import InputError
from dcmu_jax.sweeps import Piece
from experiments import plan, run_all, table1
from experiments.run_all import LEFT, ordered

ROOT = Path(run_all.__file__).parents[1]
ABSENT = ("tyro", "tensorflow_datasets", "pandas")
COMMAND = (
    *(sys.executable, "-m", "experiments.run_all", "--scale", "trial", "--dataset", "digits"),
    *("--methods", "retrain", "cf_k", "--network.dtype", "bfloat16"),
)


def _cells(out):
    return {path: path.stat().st_mtime_ns for path in out.glob("*/cells/*.json")}


def test_the_command_is_killed_and_goes_on_where_it_was(tmp_path):
    """On a machine that lacks some packages."""
    for name in ABSENT:
        (tmp_path / f"{name}.py").write_text("raise ModuleNotFoundError(__name__)\n")
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    settings = {"env": os.environ | {"PYTHONPATH": path, "JAX_PLATFORMS": "cpu"}, "cwd": tmp_path}
    out = tmp_path / "out"
    command = [*COMMAND, "--minutes", "9", "--out", str(out)]
    killed = subprocess.Popen(command, start_new_session=True, **settings)
    while not (first := _cells(out)) and killed.poll() is None:
        time.sleep(0.02)
    os.killpg(killed.pid, signal.SIGKILL)  # workers as well
    killed.wait()
    assert 0 < len(first) < 4
    again = subprocess.run(command, capture_output=True, text=True, check=True, **settings)
    assert len(_cells(out)) == 4 and first.items() <= _cells(out).items()
    assert "All is measured" in again.stdout


def test_a_piece_that_is_too_short_says_that_something_is_left(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [*COMMAND[2:], "--minutes", "0", "--out", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        run_all.main()
    assert ended.value.code == LEFT
    assert "3 steps are left: the same command" in capsys.readouterr().out
    assert not _cells(tmp_path)


def test_benchmarks_run_once_on_a_gpu_and_not_where_they_cannot_end(tmp_path, monkeypatch, capsys):
    ran = []
    monkeypatch.setattr(run_all.record, "RESULTS", tmp_path)
    monkeypatch.setattr(run_all, "gpus", lambda: ["0"])
    monkeypatch.setattr(run_all.subprocess, "run", lambda command, **rest: ran.append(command[2:]))
    options = run_all.Options(
        dataset=("npz:of/cifar10.npz",), scale="full", minutes=6, out=tmp_path / "out"
    )
    planned = {(name,): most for name, (_, _, most) in run_all.BENCHMARKS.items()}

    def piece(seconds):
        folder = options.out / run_all.TOOK
        return Piece(seconds=seconds, ends=time.time() + seconds, planned=planned, folder=folder)

    assert run_all.run_benchmarks(options, piece(360.0)) == 1  # the longer one waits
    assert "accelerator: not begun" in capsys.readouterr().out
    [[name, *words]] = ran
    assert name == "experiments.benchmarks.distribution_matching"
    assert words[1] == str(Path("of/cifar10.npz").resolve())
    (tmp_path / "accelerator_nvidia_h100.json").write_text("{}")
    assert run_all.run_benchmarks(options, piece(360.0)) == 0 and len(ran) == 1
    monkeypatch.setattr(run_all, "gpus", lambda: [])
    (tmp_path / "accelerator_nvidia_h100.json").unlink()
    assert run_all.run_benchmarks(options, piece(900.0)) == 0 and len(ran) == 1


def test_what_says_most_comes_first_in_pieces_and_the_dearest_without():
    chosen = table1.groups(table1.SCALES["full"], ("npz:a.npz", "npz:b.npz"), "bfloat16")
    first = [(g.model, g.dataset, g.seed) for g in ordered(chosen, 9)[:5]]
    assert first[:2] == [("cnn", "npz:a.npz", 1), ("resnet18", "npz:a.npz", 1)]
    assert first[4] == ("cnn", "npz:b.npz", 1)
    assert [g.model for g in ordered(chosen, None)][:2] == ["vgg16", "vgg16"]
    assert {g.dtype for g in chosen} == {"bfloat16"}


def test_the_plan_has_a_time_for_every_step_and_counts_compilation_once(capsys):
    scale = table1.Scale(networks=(("mlp", 0.05),), seeds=(1, 2), epochs=1)
    chosen = table1.groups(scale, ("digits",))
    table = table1.sweep("trial", chosen, ("retrain", "paper"))
    rates = {("mlp", "float32"): plan.Rate(1e-3, 7.0, "a file")}
    planned = plan.Plan(rates=rates, tflops=None, compile_s=20.0, host_s=0.5)
    steps = {step.words: step for step in planned.steps(table, ("retrain", "paper"))}
    one, two = (group.name for group in chosen)
    assert len(steps) == 2 * (1 + 1 + 2 * 2)
    assert steps[one, "original"].compile_s == 7 and steps[two, "original"].compile_s == 0
    retrained = steps[one, "random:0.1", "retrain"]
    assert retrained.train_s == pytest.approx(0.9 * steps[one, "original"].train_s)
    assert steps[one, "original"].train_s == pytest.approx(plan.of_training(chosen[0]) / 1e9)
    assert plan.of_training(chosen[0], above=True) < plan.of_training(chosen[0])
    plan.show(planned, table, ("retrain", "paper"), 9, workers=2)
    said = capsys.readouterr().out
    total = sum(step.seconds for step in steps.values())
    trained = sum(step.train_s for step in steps.values())
    assert f"2 workers on one device: {max(trained, total / 2):.0f} s" in said
    with pytest.raises(InputError, match="mlp in float32 by the rates of nothing"):
        list(dataclasses.replace(planned, rates={}).steps(table, ()))
    flat = dataclasses.replace(planned, tflops=2.0)
    assert flat.rate(chosen[0]).tflops == 2 and flat.rate(chosen[0]).compile_s == 20
    assert "0.001 TFLOP/s, 7 s to compile a training program (a file)" in said
    assert "1 piece of 9 minutes" in said


def test_pieces_are_filled_one_after_another():
    steps = [
        plan.Expected(words=(str(i),), train_s=seconds, compile_s=0.0, host_s=0.0)
        for i, seconds in enumerate((5.0, 4.0, 2.0, 30.0, 1.0))
    ]
    assert plan.pieces(steps, 10.0) == 4
    assert plan.pieces(steps, 100.0) == 1

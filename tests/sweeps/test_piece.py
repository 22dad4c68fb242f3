"""Pieces of minutes: what cannot end is not begun, what was done is not done again."""

import json
import time

import pytest

from dcmu_jax.runs.run import Run
from dcmu_jax.sweeps import Bench, Group, Piece, Sweep, Variant
from dcmu_jax.sweeps.piece import NoTimeError
from dcmu_jax.sweeps.pool import Step, environments, gpus, run_in_pool

GROUP = Group(dataset="digits", model="mlp", seed=3, width=0.05, epochs=1)


def piece(folder, seconds=100.0, **planned):
    found = {tuple(words.split("_")): value for words, value in planned.items()}
    return Piece(seconds=seconds, ends=time.time() + seconds, planned=found, folder=folder)


def test_a_step_begins_if_it_can_end_in_what_is_left(tmp_path):
    held = piece(tmp_path, short=99.0, long=101.0)
    with held.step("mlp", ("short",)):
        pass
    with held.step("mlp", ("not planned",)):
        pass
    with pytest.raises(NoTimeError, match=r"long: not begun, 101 s .* it wants 2 minutes"):
        with held.step("cnn", ("long",)):
            pytest.fail("begun")
    over = piece(tmp_path, seconds=-1.0)
    with pytest.raises(NoTimeError), over.step("mlp", ("not planned",)):
        pytest.fail("begun after the end")


def test_what_steps_took_corrects_the_plan_for_their_kind(tmp_path):
    held = piece(tmp_path, one=1.0, two=10.0)
    with held.step("mlp", ("one",)):
        time.sleep(0.05)
    [path] = tmp_path.iterdir()
    took = json.loads(path.read_text())["took_s"]
    assert took >= 0.05 and held.expected("mlp", ("two",)) == pytest.approx(10 * took)
    assert held.expected("cnn", ("two",)) == 10
    path.write_text(json.dumps({"planned_s": 1.0, "took_s": 20.0}))
    with pytest.raises(NoTimeError), held.step("mlp", ("two",)):
        pytest.fail("begun, though such steps take twenty times as long")


def test_a_sweep_measures_what_there_is_time_for_and_goes_on_with_the_rest(tmp_path, monkeypatch):
    measured = []
    monkeypatch.setattr(Run, "train", lambda run: type("", (), {"fingerprint": lambda self: "a"})())
    monkeypatch.setattr(Run, "has_original", lambda run: True)

    def measure(self, request, name, *rest):
        measured.append(name)
        return {
            "retain_accuracy": 1.0, "forget_accuracy": 1.0, "test_accuracy": 1.0, "mia": 1.0,
            "online_s": 1.0,
        }  # fmt: skip

    monkeypatch.setattr(Bench, "_measure", measure)
    monkeypatch.setattr(Bench, "of_method", lambda *args: {})
    words = {(GROUP.name, "class:3", name): 50.0 for name in ("cf_k", "eu_k")}
    words[GROUP.name, "class:3", "scrub"] = 500.0

    def sweep(seconds):
        held = Piece(
            seconds=seconds, ends=time.time() + seconds, planned=words, folder=tmp_path / "took"
        )
        variants = [Variant(name=name) for name in ("scrub", "cf_k", "eu_k")]
        return Sweep(
            cells=((GROUP, "class:3"),), variants=lambda *_: variants, out=tmp_path, piece=held
        )

    with pytest.raises(NoTimeError, match="scrub"):
        sweep(100.0).measure(GROUP)
    assert measured == ["cf_k", "eu_k"]
    for path in (tmp_path / "took").iterdir():
        path.unlink()  # they took no time at all
    assert len(sweep(501.0).measure(GROUP)) == 3
    assert measured == ["cf_k", "eu_k", "scrub"]


def _no_time():
    raise NoTimeError("cut")


def test_what_waits_for_a_step_that_was_cut_is_left_and_the_rest_is_done(tmp_path):
    steps = [
        Step("cut", _no_time),
        Step("waits", print, after=("cut",)),
        Step("other", (tmp_path / "done").touch),
    ]
    assert run_in_pool(steps, 1) == 2
    assert (tmp_path / "done").exists()
    assert run_in_pool(steps, 1, ends=time.time() - 1) == 3


def test_each_worker_has_a_gpu_of_its_own_while_there_are_as_many(monkeypatch):
    monkeypatch.delenv("XLA_PYTHON_CLIENT_MEM_FRACTION", raising=False)
    found = environments(4, ["2", "5"])
    assert [each["CUDA_VISIBLE_DEVICES"] for each in found] == ["2", "5", "2", "5"]
    assert {each["XLA_PYTHON_CLIENT_MEM_FRACTION"] for each in found} == {"0.45"}
    assert environments(2, []) == [{}, {}]
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    assert gpus() == ["2", "5"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert gpus() == []
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    assert gpus() == []
    monkeypatch.delenv("JAX_PLATFORMS")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setenv("PATH", "")
    assert gpus() == []

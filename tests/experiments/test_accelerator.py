"""The benchmark of an accelerator, tiny, on the CPU; its roofs, and the figures of PyTorch."""

import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dcmu_jax.networks import create
from experiments.benchmarks import accelerator, record, roofline, torch_baseline
from experiments.benchmarks.clock import epoch_summary, in_turn, least_seconds

TINY = "--models mlp --dtype float32 --width 0.03 --images 8 --batch 4 --size 16 --epochs 3"
ROOFS = "--matrix 16 32 --vector 1000 --round-s 0.001"


def _finite_and_positive(value):
    assert math.isfinite(value) and value > 0


@pytest.fixture(autouse=True)
def _share_of_memory(monkeypatch):
    """What the benchmark sets where it is not set, which other tests are not to see."""
    monkeypatch.setenv("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.6")


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Runs the benchmark and returns what it wrote."""
    monkeypatch.setattr(record, "RESULTS", tmp_path)

    def run(more=""):
        accelerator.main(f"{TINY} {ROOFS} {more}".split())
        return json.loads((tmp_path / "accelerator_cpu.json").read_text())

    return run


def test_one_run_writes_everything(written, tmp_path):
    record_ = written(f"--profile {tmp_path / 'trace'}")
    figures = record_["figures"]
    assert figures["complete"] and not figures["left_out_for_time"]
    for found in figures["matrix_tflops"].values():
        assert set(found) == {"16", "32"}
        for value in found.values():
            _finite_and_positive(value)
    _finite_and_positive(figures["bandwidth_gb_s"])
    (label,) = figures["cases"]
    case = figures["cases"][label]
    assert label == "mlp float32" and case["steps_of_an_epoch"] == 2
    for name in ("parameters", "median_s", "least_s", "images_per_s", "flops_of_a_step", "tflops"):
        _finite_and_positive(case[name])
    assert len(case["epochs_s"]) == len(case["augmented"]["epochs_s"]) == 2  # the first is left out
    best = max(figures["matrix_tflops"]["bfloat16"].values())
    assert case["share_of_matrix_rate"]["bfloat16"] == pytest.approx(case["tflops"] / best)
    per_second = case["steps_of_an_epoch"] * case["flops_of_a_step"] / case["median_s"]
    assert case["tflops"] == pytest.approx(per_second / 1e12)
    _finite_and_positive(case["augmented"]["times_the_plain_epoch"])
    _finite_and_positive(case["roofline"]["bound_tflops"])
    place = case["roofline"]
    assert 0 < place["intensity_unfused"] <= place["intensity_flop_per_byte"]
    assert 0 < place["product_bytes"] < place["before"]["bytes"]
    # The step that is looked at is the one that was trained.
    assert place["before"]["flops"] == case["flops_of_a_step"]
    assert case["torch"] == {"left_out": "no twin of mlp in PyTorch"}
    picture = (tmp_path / "accelerator_cpu_roofline.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert list((tmp_path / "trace" / "mlp_float32").rglob("*.pb"))
    # The command gives the same again, and names no folder of this machine.
    assert TINY in record_["command"].replace("0.030", "0.03")
    assert str(tmp_path) not in json.dumps(record_)


def test_what_there_is_no_time_for_is_left_out_and_said(written, tmp_path):
    figures = written("--minutes 0")["figures"]
    assert not figures["complete"] and figures["left_out_for_time"] == ["mlp float32"]
    assert figures["cases"] == {} and figures["bandwidth_gb_s"] > 0
    assert not list(tmp_path.glob("*.png"))


@pytest.mark.parametrize("bad", ["--epochs 1", "--images 0", "--matrix 0", "--dtype float16"])
def test_nonsense_is_refused(bad, tmp_path, monkeypatch):
    monkeypatch.setattr(record, "RESULTS", tmp_path)
    with pytest.raises(SystemExit, match="2"):
        accelerator.main([*TINY.split(), *bad.split()])
    assert not list(tmp_path.iterdir())


def test_the_name_of_a_device_in_a_file_name():
    assert accelerator.slug("NVIDIA H100 80GB HBM3") == "nvidia_h100_80gb_hbm3"
    assert accelerator.slug("TPU v5 lite/(x)") == "tpu_v5_lite_x"


@pytest.mark.parametrize(("intensity", "expected"), [(2, 20), (20, 100), (10, 100)])
def test_the_bound_is_the_lower_roof(intensity, expected):
    assert roofline.bound(100, 10, intensity) == expected


def test_bytes_of_products():
    def program(x, kernel, w):
        def step(total, _):
            return total + jnp.vdot(w, w), None

        y = jax.lax.conv_general_dilated(
            x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        return jax.jit(jnp.matmul)(y, w), jax.lax.scan(step, 0.0, None, length=5)

    x, kernel, w = jnp.ones((2, 4, 4, 3)), jnp.ones((3, 3, 3, 5)), jnp.ones((5, 7), jnp.bfloat16)
    found = roofline.product_bytes(jax.make_jaxpr(program)(x, kernel, w))
    convolution = 4 * (2 * 4 * 4 * 3 + 3 * 3 * 3 * 5 + 2 * 4 * 4 * 5)
    product = 4 * (2 * 4 * 4 * 5 + 2 * 4 * 4 * 7) + 2 * 5 * 7
    assert found == convolution + product + 2 * (2 * 35 + 1)


def test_the_place_of_a_step():
    before = {"flops": 1e12, "bytes": 1e12}
    counted = {"before": before, "after": {"flops": 9e11, "bytes": 5e11}, "product_bytes": 4e11}
    placed = roofline.place(counted, 1e13, 1e12)
    assert placed["intensity_flop_per_byte"] == 2 and placed["intensity_unfused"] == 1
    assert placed["bound_tflops"] == 2 and not placed["calls_uncounted"]
    # Convolutions that the compiler hands over to a library are missing in what it counts.
    counted["after"] = {"flops": 1e10, "bytes": 1e11}
    placed = roofline.place(counted, 1e13, 1e12)
    assert placed["calls_uncounted"] and placed["intensity_flop_per_byte"] == 2
    counted["after"] = {"flops": None, "bytes": None}
    assert "left_out" in roofline.place(counted, 1e13, 1e12)


def test_nothing_to_draw():
    cases = {"a": {"tflops": 1.0}, "b": {"roofline": {"left_out": "no count"}, "tflops": 1.0}}
    assert roofline.draw("nothing", cases, {"float32": 1e12}, 1e11) is None


def test_labels_of_a_figure_keep_apart():
    places = roofline._apart([0.5, 0.0, 0.01, 0.02], 0.1)
    assert np.allclose(places, [0.5, 0.0, 0.1, 0.2])


def test_the_clock_counts_all_rounds_but_the_first_and_repeats_short_calls():
    done = []
    times = in_turn({"a": lambda: done.append("a"), "b": lambda: done.append("b")}, rounds=2)
    assert done == ["a", "b"] * 3 and [len(pairs) for pairs in times.values()] == [2, 2]
    calls = []
    least = least_seconds({"short": lambda: calls.append(1)}, seconds=1e-3, rounds=2)
    assert len(calls) > 10 and 0 < least["short"] < 1e-3
    assert epoch_summary([3.0, 1.0, 8.0]) == {
        "median_s": 3.0,
        "least_s": 1.0,
        "epochs_s": [3.0, 1.0, 8.0],
    }


def test_the_fastest_way_of_pytorch_counts():
    output = "\n".join(
        [
            "a warning",
            '{"mode": "eager", "median_s": 2.0}',
            '{"mode": "default", "failed": "RuntimeError: no compiler"}',
            '{"mode": "reduce-overhead", "median_s": 1.5}',
        ]
    )
    found = torch_baseline.figures_of(output)
    assert found["fastest"] == "reduce-overhead" and found["median_s"] == 1.5
    assert found["modes"]["default"] == {"failed": "RuntimeError: no compiler"}
    assert torch_baseline.figures_of("nothing") == {"modes": {}}


@pytest.mark.parametrize("name", torch_baseline.TWINS)
def test_the_twin_has_the_same_parameters_and_logits_of_the_same_shape(name):
    torch = pytest.importorskip(
        "torch", reason="PyTorch is not installed; it comes with the extra 'bench'"
    )
    from experiments.benchmarks.torch_twins import parameters, twin

    model = create(name, image_shape=(32, 32, 3), num_classes=10, width=0.05)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    network = twin(model, 32)
    assert parameters(network) == sum(x.size for x in jax.tree.leaves(shapes["params"]))
    assert network(torch.zeros(2, 3, 32, 32)).shape == (2, 10)

"""The platform that programs are compiled for, and what depends on it."""

import pathlib

import jax
import jax.numpy as jnp
import pytest

from dcmu_jax import platforms
from dcmu_jax.errors import InputError
from dcmu_jax.networks.convolution import convolution_hook
from dcmu_jax.platforms import check_accelerator, compiling_for, platform


def _lowered(name, conv="auto"):
    """How many convolutions and products of matrices a program has that is made for ``name``."""
    x, kernel = jnp.zeros((2, 8, 8, 3)), jnp.zeros((3, 3, 3, 4))

    @jax.jit
    def program(x, kernel):
        numbers = ("NHWC", "HWIO", "NHWC")
        return convolution_hook(conv)(x, kernel, (1, 1), "SAME", dimension_numbers=numbers)

    text = program.trace(x, kernel).lower(lowering_platforms=(name,)).as_text()
    return text.count("stablehlo.convolution"), text.count("stablehlo.dot_general")


def test_programs_are_made_for_the_platform_that_is_compiled_for():
    with compiling_for("tpu"):
        assert platform() == "tpu"
        assert _lowered("tpu") == (1, 0)
        with pytest.raises(InputError, match=r"by 'dot' on a TPU[\s\S]*Set conv to 'auto'"):
            _lowered("tpu", "dot")
    assert platform() == jax.default_backend()
    with jax.default_device(jax.devices("cpu")[0]):
        assert platform() == "cpu"
        assert _lowered("cpu") == (0, 1)
        assert _lowered("cpu", "lax") == (1, 0)
    with pytest.raises(InputError, match="platform"), compiling_for("abacus"):
        pass


def test_nothing_asks_for_the_platform_of_this_machine():
    package = pathlib.Path(platforms.__file__).parent
    asking = [p.name for p in package.rglob("*.py") if "default_backend(" in p.read_text()]
    assert asking == ["platforms.py"]


@pytest.mark.parametrize(("name", "extra"), [("nvidia0", "cuda12"), ("accel3", "tpu")])
def test_an_accelerator_that_jax_does_not_use_is_told(name, extra, tmp_path, monkeypatch):
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
    (tmp_path / "nvidiactl").touch()  # of a driver without a card
    check_accelerator(tmp_path)
    (tmp_path / name).touch()
    with pytest.raises(InputError, match=rf"the extra \[{extra}\] and restart"):
        check_accelerator(tmp_path)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    check_accelerator(tmp_path)
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    check_accelerator(tmp_path)


def test_what_is_measured_has_full_precision_on_accelerators():
    x = jnp.ones((2, 2))

    def program():
        with platforms.full_precision():
            return jax.jit(jnp.matmul).trace(x, x).lower(lowering_platforms=("tpu",)).as_text()

    assert "HIGHEST" not in program()
    with compiling_for("tpu"):
        assert "HIGHEST" in program()
        with jax.default_matmul_precision("bfloat16"):
            assert "HIGHEST" not in program()

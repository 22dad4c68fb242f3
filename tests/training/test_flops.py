"""Operations and bytes of a program, counted on the CPU whatever the device."""

import jax
import jax.numpy as jnp
import pytest

from dcmu_jax.models import convolution
from dcmu_jax.training.flops import ProgramCost, compiler_cost, program_cost, program_flops

A, B = jnp.ones((8, 16)), jnp.ones((16, 4))
seen = []


def _product(scale, a, b):
    seen.append(jax.config.jax_default_device)
    return scale * (a @ b)


def test_a_known_program_counted_for_the_cpu():
    cost = program_cost(_product, 3, A, B)
    # The product; then each of its 32 entries times the scale.
    assert cost.flops == 2 * 8 * 16 * 4 + 32 == program_flops(_product, 3, A, B)
    assert cost.bytes >= A.nbytes + B.nbytes + 4 * 32
    # Plugins of GPUs count nothing before optimisation, so the device must not matter.
    assert seen == [jax.local_devices(backend="cpu")[0]]


def test_no_cpu_no_count(monkeypatch):
    def none(**_):
        raise RuntimeError("Unknown backend cpu")

    monkeypatch.setattr(jax, "local_devices", none)
    assert program_cost(_product, 5, A, B) == ProgramCost(None, None)


@jax.jit
def _convolved(precision, x, kernel):
    return convolution.convolve_dot(x, kernel, (1, 1), "SAME", precision)


def test_pieces_of_a_batch_are_counted_all(monkeypatch):
    x, kernel = jnp.ones((8, 6, 6, 2)), jnp.ones((3, 3, 2, 16))
    whole = program_flops(_convolved, None, x, kernel)
    assert whole == pytest.approx(2 * 8 * 36 * 18 * 16, rel=0.05)
    monkeypatch.setattr(convolution, "_PIECE_BYTES", 1)
    jax.clear_caches()
    _convolved(None, x, kernel)  # a trace that JAX keeps, with pieces on CPU
    x = jnp.concatenate([x, x])
    _convolved(None, x, kernel)
    assert program_flops(_convolved, None, x, kernel) == pytest.approx(2 * whole, rel=0.01)


@pytest.mark.parametrize(
    ("analysis", "flops", "count"),
    [
        (None, None, None),
        ([], None, None),
        ({}, None, None),
        ([{"flops": 3.0, "bytes accessed": 4.0}], 3.0, 4.0),
        ({"flops": -1.0, "bytes accessed": 0.0}, None, None),
        ({"flops": 5, "utilization": 1.0}, 5.0, None),
    ],
)
def test_what_compilers_say(analysis, flops, count):
    assert compiler_cost(analysis) == ProgramCost(flops, count)

"""Operations and bytes of a program, counted on the CPU whatever the device."""

import jax
import jax.numpy as jnp
import pytest

from dcmu_jax.networks import convolution, create
from dcmu_jax.networks.partition import apply_parts, initialise
from dcmu_jax.training.flops import (
    ProgramCost,
    compiler_cost,
    off_the_tally,
    program_cost,
    program_flops,
    spend,
    spend_on,
    tally,
    total,
)

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
    # Of 6 positions the outer two have a tap on the padding, which costs nothing.
    assert whole == 2 * 8 * (3 * 6 - 2) ** 2 * 2 * 16
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


def _repeated(times, a):
    def inner(x, _):
        return x @ a, None

    def outer(x, _):
        return jax.checkpoint(lambda x: jax.lax.scan(inner, x, length=times)[0])(x), None

    return jax.jit(lambda x: jax.lax.scan(outer, x, length=5)[0])(a)


def test_the_body_of_a_loop_counts_as_often_as_it_runs():
    a = jnp.ones((8, 8))
    assert program_flops(_repeated, 7, a) == pytest.approx(5 * 7 * 2 * 8**3, rel=0.02)
    # Each turn reads the matrix, too.
    assert program_cost(_repeated, 7, a).bytes > 5 * 7 * a.nbytes


def _logits(model, variables, x):
    return apply_parts(model, variables, x)[0]


def _gradient(model, variables, x):
    return jax.grad(lambda variables: apply_parts(model, variables, x)[0].sum())(variables)


def test_a_network_costs_the_same_however_it_convolves():
    shape, counted = (32, 32, 3), set()
    x = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    for conv in convolution.IMPLEMENTATIONS:
        model = create("cnn", image_shape=shape, num_classes=10, conv=conv)
        variables = jax.eval_shape(lambda model=model: initialise(model, jax.random.key(0), shape))
        # A trace that JAX keeps, of the way that the machine takes.
        jax.jit(_logits, static_argnums=0).eval_shape(model, variables, x)
        counted.add(tuple(program_flops(f, model, variables, x) for f in (_logits, _gradient)))
    ((forward, gradient),) = counted
    # Multiplications and additions of each tap that is on an image, then of the dense layers.
    sizes, channels = (32, 16, 8, 4), (3, 32, 64, 128, 256)
    by_hand = sum(
        2 * (3 * size - 2) ** 2 * here * out
        for size, here, out in zip(sizes, channels[:-1], channels[1:], strict=True)
    )
    by_hand += 2 * (2 * 2 * 256 * 1024 + 1024 * 10)
    assert forward == pytest.approx(by_hand, rel=0.03)
    # Twice as much back, but for the derivative by the image.
    back = 2 * by_hand - 2 * (3 * 32 - 2) ** 2 * 3 * 32
    assert gradient == pytest.approx(by_hand + back, rel=0.05)


def test_a_tally_holds_what_runs_within():
    spend(1.0)  # nobody counts
    with tally() as outer:
        spend_on(_product, 3, A, B, times=2)
        with off_the_tally():
            spend(7.0)
        with tally() as inner:
            spend(5.0)
        spend(1.0)
    assert (total(inner), total(outer)) == (5.0, 2 * program_flops(_product, 3, A, B) + 1)
    with tally() as unknown:
        spend(1.0)
        spend(None)
    assert total(unknown) is None

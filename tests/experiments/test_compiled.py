"""The library's programs for accelerators: brought to the compilers' form in every run.

What the compilers make of them is tested where the extra ``aot`` or ``cuda12`` is.
"""

import importlib.util

import flax.linen as nn
import jax
import pytest

from dcmu_jax.networks import layers
from dcmu_jax.networks.convolution import max_pool
from dcmu_jax.platforms import compiling_for
from experiments.benchmarks import compiled, hlo, record
from experiments.benchmarks import compiled_programs as programs
from experiments.benchmarks.compiled_programs import Net

QUICK = ["step, CNN, augmented", "epoch, CNN from intermediate", "matching by Adam, CNN"]


def test_every_program_has_the_form_that_it_should(capsys):
    assert compiled.main(["--dry"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 * len(compiled.CASES) and all(line.endswith(": ok") for line in lines)


def _of_four(function):
    """A program on four numbers."""
    return lambda _: programs.Traceable(jax.jit(function).trace, (programs._of((4,)),))


FAULTY = [
    (programs.step(Net("cnn", "float32", 0.1), 8), "11 convolutions in float32"),
    (_of_four(jax.lax.sort), "1 sorts, 0 allowed"),
    (_of_four(lambda x: jax.pure_callback(lambda x: x, x, x)), "does not compile"),
]


@pytest.mark.parametrize(("program", "said"), FAULTY)
def test_a_program_of_another_form_is_a_fault(program, said, monkeypatch, capsys):
    monkeypatch.setitem(compiled.CASES, "step, CNN", compiled.Case(build=program))
    assert compiled.main(["--dry", "--only", "step, CNN"]) == 1
    assert f"step, CNN, cuda: {said}" in capsys.readouterr().out


MODULE = """HloModule jit_step

%fused (p: f32[8]) -> f32[8] {
  %p = f32[8]{0} parameter(0)
  ROOT %c = bf16[8]{0} convolution(%p, %p), window={size=1}
}

%body (t: (f32[8], s32[])) -> (f32[8], s32[]) {
  %t = (f32[8]{0:T(128)}, s32[]) parameter(0)
  %a = f32[8]{0:T(128)} fusion(%t), calls=%fused, backend_config={"estimated_cycles":"30"}
  %r = f32[8]{0} all-reduce(%a), to_apply=%sum, backend_config={"estimated_cycles":"6"}
  %s = f32[8]{0} sort(%r), dimensions={0}
  ROOT %u = (f32[8]{0}, s32[]) tuple(%s, %t)
}

ENTRY %main (x: f32[8]) -> f32[8] {
  %x = f32[8]{0} parameter(0)
  %n = f32[8]{0} negate(%x), backend_config={"estimated_cycles":"5"}
  %w = (f32[8]{0}, s32[]) while(%n), condition=%cond, body=%body
  ROOT %g = f32[8]{0} get-tuple-element(%w), index=0
}
"""


class _Compiled:
    argument_size_in_bytes = output_size_in_bytes = 4 * 10**9
    temp_size_in_bytes, alias_size_in_bytes = 10**9, 3 * 10**9

    def as_text(self):
        return MODULE

    def memory_analysis(self):
        return self


def test_a_module_is_read_as_it_stands():
    found = hlo.describe(_Compiled())
    assert found["memory_gb"] == 6.0
    assert found["convolutions"] == {"f32": 1} and found["collectives"] == {"all-reduce": 1}
    assert (found["sorts"], found["host"], found["cycles"]) == (1, 0, 36)
    assert found["cycles_around_the_loop"] == 5 and found["without_estimate"] == {"sort": 1}
    assert found["cycles_by_kind"] == {hlo.PRODUCTS: 30, "element by element": 6}
    assert found["share_outside_products"] == pytest.approx(1 / 6)
    limits = {"memory_gb": {"tpu": 5.0}, "collectives": {"tpu": 2}, "ms": 1.0, "sorts": 1}
    case = compiled.Case(build=lambda _: None, reduced=False, **limits)
    assert case.faults(found | {"ms": 1.5}, "tpu") == [
        "1 collectives, not 2",
        "memory_gb 6, 5 allowed",
        "ms 1.5, 1 allowed",
    ]


@pytest.mark.parametrize(
    ("target", "needs"), [("tpu", "libtpu"), ("cuda", "jax_plugins.xla_cuda12")]
)
def test_limits_hold_for_what_the_compilers_make(target, needs, tmp_path, monkeypatch, capsys):
    try:
        found = importlib.util.find_spec(needs)
    except ModuleNotFoundError:
        found = None
    if found is None:
        monkeypatch.setattr(record, "RESULTS", tmp_path)
        assert compiled.main(["--target", target, "--only", *QUICK[:1]]) == 2
        assert f"--target {target}" in capsys.readouterr().err
        pytest.skip(f"the compiler for {compiled.CHIP[target]} is not installed: {needs}")
    assert compiled.main(["--target", target, "--dry", "--only", *QUICK]) == 0


class _Block(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        own = layers.Layers()
        return own.batch_norm(own.conv(x, 4, centred=train), train)


def test_a_bias_that_is_subtracted_again_costs_accelerators_nothing():
    x = jax.random.normal(jax.random.key(0), (8, 4, 4, 3))
    variables = _Block().init(jax.random.key(1), x, False)

    def gradient(train):
        def loss(params):
            given = {**variables, "params": params}
            y, _ = _Block().apply(given, x, train, mutable=["batch_stats"])
            return (y**3).sum()

        return jax.grad(loss)(variables["params"])

    on_cpu = gradient(True)
    with compiling_for("tpu"):
        training, evaluation = gradient(True), gradient(False)
    assert not training["Conv_0"]["bias"].any() and on_cpu["Conv_0"]["bias"].any()
    assert evaluation["Conv_0"]["bias"].any()
    for a, b in zip(jax.tree.leaves(training), jax.tree.leaves(on_cpu), strict=True):
        assert abs(a - b).max() <= 1e-4 * abs(on_cpu["Conv_0"]["kernel"]).max()
    assert layers._constant_bias(x, x, None, dtype=None)[2] is None


def test_pooling_has_one_value_and_gradient_on_every_platform():
    x = jax.random.normal(jax.random.key(0), (2, 5, 6, 3)).round(0)  # with ties

    def both():
        return max_pool(x), jax.grad(lambda x: (max_pool(x) ** 2).sum())(x)

    here = both()
    with compiling_for("tpu"):
        there = both()
    assert all((a == b).all() for a, b in zip(here, there, strict=True))

"""The bytes of a compiled program's kernels, by which steps on an absent device are modelled."""

from experiments.benchmarks import modelled
from experiments.benchmarks.modelled import kernels

PROGRAM = """HloModule step
%inside (p: f32[8]) -> f32[8] {
  %p.1 = f32[8]{0} parameter(0)
  ROOT %copy.9 = f32[8]{0} copy(%p.1)
}

ENTRY %main (x: bf16[4,3], n: u8[10]) -> f32[] {
  %x.1 = bf16[4,3]{1,0} parameter(0)
  %n.1 = u8[10]{0} parameter(1), metadata={op_name="n"}
  %conv.2 = (bf16[2]{0}, u8[6]{0}) custom-call(%x.1, %n.1), custom_call_target="x"
  %get.3 = bf16[2]{0} get-tuple-element(%conv.2), index=0
  ROOT %fused = f32[]{:T(256)} fusion(%get.3, %x.1), kind=kLoop, calls=%inside
}
"""


def test_a_kernel_reads_its_operands_and_writes_its_results_once():
    assert kernels(PROGRAM) == [24 + 10 + 4 + 6, 4 + 4 + 24]


def test_where_the_compiler_is_not_installed_it_is_left_out(monkeypatch, capsys):
    monkeypatch.setattr(modelled.importlib.util, "find_spec", lambda name: None)
    modelled.main(["--models", "mlp"])
    assert "left out: needs JAX's wheels for CUDA" in capsys.readouterr().out

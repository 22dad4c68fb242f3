"""What a tiny table compiles: nothing for another seed, little for a request of another size."""

import jax
import pytest
from toys import compiled

from dcmu_jax.sweeps import Group, Sweep, Variant

METHODS = ("retrain", "cf_k")


def variants(bench, request):
    """Retraining and a method that trains on the same images."""
    return [Variant(name=name) for name in METHODS]


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Measures the cells of a seed and a request; those of one seed are there already."""
    out = tmp_path_factory.mktemp("table")

    def measure(seed, request):
        group = Group(dataset="digits", model="mlp", seed=seed, width=0.02, epochs=1)
        return Sweep(cells=((group, request),), variants=variants, out=out).measure(group)

    measure(1, "random:0.1")
    return measure


def test_another_seed_compiles_nothing(table):
    with compiled() as found:
        assert len(table(2, "random:0.1")) == len(METHODS)
    assert found.programs == []


def test_another_process_reads_what_this_one_compiled(table):
    jax.clear_caches()
    with compiled() as found:
        table(3, "random:0.1")
    assert "jit(compiled_steps)" in found.programs
    assert found.kept == 0


def test_a_request_of_another_size_compiles_no_training(table):
    with compiled() as found:
        table(1, "random:0.09")
    # Of an array of the host, as it is brought to the device: nothing is computed in it.
    assert set(found.programs) <= {"jit(stage)"}

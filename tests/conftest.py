"""Settings of the whole test run: eight virtual devices, strict arithmetic, checked annotations.

Tiny programs by the hundred: compiling them without the last optimisations (level 1) saves a third
of the time, and by the former emitters of fused loops, which jaxlib 0.10 still has, a third of the
rest. Level 0 saves more, and gives NaN for gradients of ``lax`` convolutions.
"""

import gc
import os
import pathlib
from importlib.metadata import version

os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=1"
    # An unknown flag ends the process.
    + " --xla_cpu_use_fusion_emitters=false" * version("jaxlib").startswith("0.10."),
)
os.environ.setdefault("MPLBACKEND", "Agg")

import jax
import pytest
from jaxtyping import install_import_hook

# Before dcmu_jax is first imported: every annotated function then checks shapes and dtypes.
install_import_hook("dcmu_jax", "beartype.beartype")
jax.config.update("jax_numpy_rank_promotion", "raise")


def pytest_collection_modifyitems(items):
    """The notebooks first: begun last, they would leave the other workers waiting."""
    items.sort(key=lambda item: item.path.name != "test_notebooks.py")


@pytest.fixture(autouse=True, scope="module")
def few_compiled_programs():
    """Forget what was compiled now and then.

    Every compiled program takes some memory maps, of which Linux allows a process 65,530; beyond
    them the compiler crashes, and the whole suite compiles more than that.
    """
    yield
    maps = pathlib.Path("/proc/self/maps")
    if not maps.exists() or len(maps.read_bytes().splitlines()) > 25_000:
        jax.clear_caches()
        gc.collect()

"""Settings of the whole test run: eight virtual devices, strict arithmetic, checked annotations.

Tiny programs by the thousand: most of the time is compiling. Without optimisations (level 0) it
takes a fifth less of the processor than at level 1, which takes a third less than the default;
with the former emitters of fused loops, which jaxlib 0.10 still has, another third less; in one
piece, not in several at once, a tenth less.
"""

import atexit
import os
import shutil
import tempfile
from importlib.metadata import version

JAXLIB = version("jaxlib")
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"
    # An unknown flag ends the process: only for versions that are known to have it.
    + " --xla_cpu_use_fusion_emitters=false" * JAXLIB.startswith("0.10.")
    + " --xla_cpu_parallel_codegen_split_count=1" * JAXLIB.startswith(("0.10.", "0.12.")),
)
os.environ.setdefault("MPLBACKEND", "Agg")
# What one worker compiled the others need not: as long as one run of the tests lasts.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="compiled")
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)

import jax  # noqa: E402
import pytest  # noqa: E402
from jaxtyping import install_import_hook  # noqa: E402

collect_ignore = ["golden/unlearning.py"]  # makes golden values, by PyTorch; holds no test

# Before dcmu_jax is first imported: every annotated function then checks shapes and dtypes.
install_import_hook("dcmu_jax", "beartype.beartype")
jax.config.update("jax_numpy_rank_promotion", "raise")


def pytest_collection_modifyitems(items):
    """The notebooks first: begun last, they would leave the other workers waiting."""
    items.sort(key=lambda item: item.path.name != "test_notebooks.py")


@pytest.fixture(autouse=True, scope="module")
def few_compiled_programs():
    """Forget what was compiled now and then: the suite compiles more than a process may hold."""
    yield
    from dcmu_jax.programs import make_room  # not before the hook above is installed

    make_room()

"""Settings of the whole test run: eight virtual devices, strict arithmetic, checked annotations."""

import os

os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=8")
os.environ.setdefault("MPLBACKEND", "Agg")

import jax
from jaxtyping import install_import_hook

# Before dcmu_jax is first imported: every annotated function then checks shapes and dtypes.
install_import_hook("dcmu_jax", "beartype.beartype")
jax.config.update("jax_numpy_rank_promotion", "raise")

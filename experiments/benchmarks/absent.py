"""Chips that are not there, to compile for."""

from __future__ import annotations

import contextlib
import logging
import os
from typing import Any

from jax.experimental import topologies

from dcmu_jax.errors import InputError

_TPU_ALONE = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_WORKER_ID": "0",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}
"""What keeps libtpu from asking a machine of Google's for its place in a pod."""
H100 = """
gpu_device_info {
  name: "NVIDIA H100 80GB HBM3"
  cuda_compute_capability { major: 9 feature_extension: ACCELERATED_FEATURES }
  core_count: 132 fpus_per_core: 128 clock_rate_ghz: 1.98
  threads_per_warp: 32 threads_per_block_limit: 1024 threads_per_core_limit: 2048
  shared_memory_per_block: 49152 shared_memory_per_block_optin: 232448
  shared_memory_per_core: 233472 registers_per_core_limit: 65536 registers_per_block_limit: 65536
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  thread_dim_limit_x: 1024 thread_dim_limit_y: 1024 thread_dim_limit_z: 64
  memory_bandwidth: 3352320000000 device_memory_size: 84942979072 l2_cache_size: 52428800
  device_address_bits: 64
  driver_version: "12.8.0" runtime_version: "12.8.0" compile_time_toolkit_version: "12.8.0"
  dnn_version: "9.10.0"
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 10 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""
"""What the compiler has to know of the card, in the text form that it takes."""


def chips(target: str) -> list[Any]:
    """Devices to compile for, which are not there.

    Raises:
        InputError: the compiler for them is not installed.
    """
    remedy = "Install the extra 'aot'" if target == "tpu" else "Install the extra 'cuda12'"
    try:
        if target == "tpu":
            for name, value in _TPU_ALONE.items():
                os.environ.setdefault(name, value)
            topology = topologies.get_topology_desc(platform="tpu", topology_name="v5e:2x2")
        else:
            # Private, for want of a public way: JAX looks for plugins with the first device it is
            # asked for, and not for this one where the platform is set to cpu.
            from jax._src import xla_bridge

            logging.getLogger(xla_bridge.__name__).setLevel(logging.CRITICAL)  # of a second time
            with contextlib.suppress(Exception):
                xla_bridge.discover_pjrt_plugins()
            topology = topologies.get_topology_desc(
                platform="cuda", topology_name="h100", topology="1x1x4", target_config=H100
            )
    except Exception as error:
        raise InputError(
            f"--target {target}, for which JAX has no compiler here "
            f"({str(error).splitlines()[0][:120]})",
            "lower, which needs none",
            remedy,
        ) from error
    return list(topology.devices)

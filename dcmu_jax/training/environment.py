"""What a result may depend on besides settings and seeds: recorded, and checked on resuming."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
from collections.abc import Mapping
from typing import Any

import jax

from dcmu_jax.errors import InputError
from dcmu_jax.prng import IMPLEMENTATION

_PACKAGES = ("dcmu_jax", "jax", "jaxlib", "flax", "optax", "numpy", "scikit-learn")
_PACKAGES += ("orbax-checkpoint",)

ARITHMETIC = ("jax_enable_x64", "jax_threefry_partitionable", "jax_default_matmul_precision")
"""Options of JAX by which the same seeds give other draws, or other digits throughout."""


def environment() -> dict[str, str]:
    """Versions, device kind, cores and JAX options; nothing that identifies the machine."""
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    device = jax.devices()[0]
    return {
        **versions,
        "device": f"{jax.device_count()} x {device.device_kind} ({device.platform})",
        "cores": str(_cores()),
        "machine": f"{platform.system()} {platform.machine()}",
        **numerics(),
    }


def arithmetic() -> dict[str, str]:
    """The options of ``ARITHMETIC`` in this process."""
    return {name: str(getattr(jax.config, name)) for name in ARITHMETIC}


def numerics() -> dict[str, str]:
    """The generator, which is fixed, and what of JAX's options changes results, which is not."""
    # A flag may name a folder to dump to.
    flags = re.sub(r"=\S*[/\\]\S*", "=...", os.environ.get("XLA_FLAGS", ""))
    return {
        "random numbers": IMPLEMENTATION,
        **arithmetic(),
        "XLA_FLAGS": flags or "none",
    }


def check_arithmetic(recorded: Mapping[str, Any], where: str) -> None:
    """Raise unless this process computes as the one that wrote ``recorded`` did.

    Other cores, devices or versions may change the last digits; they are recorded, not refused.

    Args:
        recorded: an earlier ``environment``; what it does not name is not compared.
        where: what was made so, for the message.

    Raises:
        InputError: an option of ``ARITHMETIC`` has another value.
    """
    for name, now in arithmetic().items():
        then = str(recorded.get(name, now))
        if now != then:
            remedy = f"unset {name.upper()}" if then == "None" else f"set {name.upper()}={then}"
            raise InputError(
                f"{where} was made with {name} = {then}, and it is {now} now",
                "the option that it was made with, or its numbers would not be of one kind",
                f"In the shell, {remedy}; or start a new run",
            )


def _cores() -> int | None:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()

"""The platform that programs are compiled for, on which the form of a computation may depend."""

from __future__ import annotations

import contextlib
import contextvars
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax

from dcmu_jax.errors import InputError, unknown_name

PLATFORMS: tuple[str, ...] = ("cpu", "gpu", "tpu")
_chosen: contextvars.ContextVar[str | None] = contextvars.ContextVar("platform", default=None)


def platform() -> str:
    """``cpu``, ``gpu`` or ``tpu``: what a program that is traced now is compiled for.

    That of ``compiling_for``; else of the default device, where JAX is told one; else JAX's own.
    """
    chosen = _chosen.get()
    if chosen is not None:
        return chosen
    device = jax.config.jax_default_device  # pyright: ignore[reportAttributeAccessIssue]
    if device is None:
        return jax.default_backend()
    return device if isinstance(device, str) else device.platform


def on_cpu() -> bool:
    """Whether what was measured on CPU only holds."""
    return platform() == "cpu"


@contextlib.contextmanager
def full_precision() -> Iterator[None]:
    """Products and convolutions of float32 within are of float32 precision on every platform.

    JAX rounds their inputs to 8 bits on a TPU and to 11 on recent GPUs by default, which training
    bears, and what is measured, clustered or matched should not depend on. Nothing changes on CPU,
    for networks that compute in bfloat16, or where ``jax_default_matmul_precision`` was set.
    """
    set_by_user: Any = jax.config.jax_default_matmul_precision  # pyright: ignore[reportAttributeAccessIssue]
    if on_cpu() or set_by_user is not None:
        yield
        return
    with jax.default_matmul_precision("highest"):
        yield


def check_accelerator(devices: Path = Path("/dev")) -> None:
    """Raise where this machine has an accelerator that JAX does not use; nothing on a plain CPU.

    JAX falls back to the CPU where its plugin is missing or of another version than JAX itself, as
    an upgrade of one of them leaves it on Colab. For the first cell of a notebook.

    Args:
        devices: the folder in which Linux shows devices.

    Raises:
        InputError: there is a GPU of NVIDIA or a TPU, ``JAX_PLATFORMS`` does not say ``cpu``, and
            JAX computes on the CPU.
    """
    there = [
        (name, extra)
        for pattern, name, extra in (
            ("nvidia[0-9]*", "an NVIDIA GPU", "cuda12"),
            ("accel[0-9]*", "a TPU", "tpu"),
            ("vfio/[0-9]*", "a TPU", "tpu"),
        )
        if any(devices.glob(pattern))
    ]
    chosen = os.environ.get("JAX_PLATFORMS", "").startswith("cpu")
    if there and not chosen and jax.default_backend() == "cpu":
        name, extra = there[0]
        raise InputError(
            f"JAX on the CPU of a machine that has {name}",
            f"JAX with the plugin for {name}, of the version of JAX itself",
            f"Install dcmu_jax with the extra [{extra}] and restart this Python; or, to stay on "
            "the CPU, set JAX_PLATFORMS=cpu before JAX is imported",
        )


@contextlib.contextmanager
def compiling_for(name: str) -> Iterator[None]:
    """Programs that are traced within are meant for another platform than this machine's.

    For compiling ahead of time. JAX keeps traces, and would go on with those of the other platform:
    they are forgotten at either end.

    Raises:
        InputError: not ``cpu``, ``gpu`` or ``tpu``.
    """
    if name not in PLATFORMS:
        raise unknown_name("platform", name, PLATFORMS)
    token = _chosen.set(name)
    jax.clear_caches()
    try:
        yield
    finally:
        _chosen.reset(token)
        jax.clear_caches()

"""The platform that programs are compiled for, on which the form of a computation may depend."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator

import jax

from dcmu_jax.errors import unknown_name

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

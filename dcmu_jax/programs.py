"""Compiled programs: kept on disk for every process, and forgotten where one holds too many."""

from __future__ import annotations

import functools
import gc
import hashlib
import os
import platform
import sys
import tempfile
from pathlib import Path
from typing import Any

import jax
from jax.experimental.compilation_cache import compilation_cache

_MAPS, _MOST_MAPS = Path("/proc/self/maps"), Path("/proc/sys/vm/max_map_count")
_config: Any = jax.config  # whose type does not tell of what it holds


def default_folder() -> Path:
    """Where programs are kept unless JAX is told otherwise: a folder for each kind of processor.

    JAX does not tell CPUs apart: a program made for another may use instructions that this one
    lacks. The number of cores is no matter: work is divided among them when a program runs.
    """
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "dcmu_jax" / "compiled" / _machine()


def _machine() -> str:
    """A word for what a program for a CPU is made for."""
    said = [platform.machine(), platform.processor()]
    told = Path("/proc/cpuinfo")
    if told.exists():
        lines = told.read_text(errors="replace").splitlines()
        said += sorted({x for x in lines if x.startswith(("flags", "Features", "model name"))})
    return hashlib.sha256("\n".join(said).encode()).hexdigest()[:12]


def keep_programs(folder: Path | None = None) -> Path | None:
    """Have JAX keep compiled programs on disk, so that no process compiles what another has.

    A folder that JAX has been given (``JAX_COMPILATION_CACHE_DIR``, ``jax.config``) stays, and one
    that cannot be written is told of on stderr: everything is compiled then, and nothing fails.

    Args:
        folder: instead of ``default_folder()``.

    Returns:
        The folder that is used, or None.
    """
    if not _config.jax_enable_compilation_cache:
        return None
    given = _config.jax_compilation_cache_dir
    if given and "://" in given:
        return None  # a bucket, which JAX itself reports on
    chosen = Path(given) if given else folder
    try:
        chosen = chosen or default_folder()
        chosen.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=chosen):
            pass
    except (OSError, RuntimeError) as error:  # RuntimeError: there is no home folder
        why = (getattr(error, "strerror", None) or str(error)).lower()
        _note(f"in {chosen or 'a home folder'} ({why.rstrip('.')})")
        chosen = None
    if not (given and chosen):
        _config.update("jax_compilation_cache_dir", chosen and str(chosen.resolve()))
        compilation_cache.reset_cache()  # JAX looks once, when it first compiles
    # By default JAX keeps none that compiles in less than a second, as most do here.
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        _config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    return chosen


@functools.cache
def _note(where: str) -> None:
    """Say once that programs cannot be kept."""
    print(
        f"Note: compiled programs cannot be kept {where}, so this process compiles its own. Set "
        "JAX_COMPILATION_CACHE_DIR to a folder that can be written",
        file=sys.stderr,
    )


def make_room() -> None:
    """Forget compiled programs where this process holds as many as may hinder it.

    Linux allows a process 65,530 memory maps, a program takes up some 60, and beyond the limit
    the compiler crashes. At a third of it all programs are forgotten: the rest is for what is
    compiled until this is called again. Those that are on disk are only read again.
    """
    if not (_MAPS.exists() and _MOST_MAPS.exists()):
        return
    if _MAPS.read_bytes().count(b"\n") > int(_MOST_MAPS.read_text()) // 3:
        jax.clear_caches()
        gc.collect()

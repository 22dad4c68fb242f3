"""Devices: meshes over one or several processes, and communication between them.

Every process of a run executes the same program on the same data. Batches are split over the
devices of all of them; what a compiled program gives back is the same everywhere. Process 0, the
writer, is the only one that reads and writes the run's files; the others are told what it read.
With one process all of this is nothing.
"""

from __future__ import annotations

import functools
import json
import os
import zlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from dcmu_jax.errors import InputError


def check_platform() -> None:
    """Raise ``InputError`` where JAX finds no device of the platform that it was told to use."""
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:
        why = (str(error).strip() or "there is none here").splitlines()[0][:160]
        raise InputError(
            f"JAX finds no device of JAX_PLATFORMS={os.environ.get('JAX_PLATFORMS', '')!r} ({why})",
            "a platform that is installed and has a device; cpu always has one",
            "Set JAX_PLATFORMS=cpu, or unset it",
        ) from error


def is_writer() -> bool:
    """Whether this process writes the files of the run: process 0 does, no other."""
    return jax.process_index() == 0


def device_mesh(devices: int, axis: str = "data") -> Mesh | None:
    """A mesh of the first devices of every process, as many of each; ``None`` for one device.

    Args:
        devices: how many, over all processes.
        axis: its one axis.

    Raises:
        InputError: more devices than there are, or a number that the processes cannot share.
    """
    processes = jax.process_count()
    if devices % processes:
        raise InputError(
            f"devices = {devices} in {processes} processes",
            f"a multiple of {processes}, for each process has as many of them",
            f"Set devices to {-(-devices // processes) * processes}, or start other processes",
        )
    each = devices // processes
    own = [[d for d in jax.devices() if d.process_index == p] for p in range(processes)]
    least = min(map(len, own))
    if each > least:
        raise InputError(
            f"devices = {devices}",
            f"1..{least * processes}, what JAX sees here"
            + (f", {least} in each of {processes} processes" if processes > 1 else ""),
            f"Set --devices to {processes}, also on a run that was started with more "
            f"(in Python: Run.open(..., devices={processes}))",
        )
    if devices == 1:
        return None
    chosen = [device for devices_there in own for device in devices_there[:each]]
    return jax.make_mesh((devices,), (axis,), axis_types=(AxisType.Auto,), devices=chosen)


def local_mesh(mesh: Mesh | None, axis: str) -> Mesh | None:
    """The devices of ``mesh`` that belong to this process; ``None`` for one or none."""
    devices = [] if mesh is None else list(mesh.local_devices)
    if len(devices) < 2:
        return None
    return jax.make_mesh((len(devices),), (axis,), axis_types=(AxisType.Auto,), devices=devices)


def turn(mesh: Mesh | None) -> tuple[int, int]:
    """Among how many processes the work of a mesh is dealt, and which of them this one is.

    Returns:
        (number of this process, number of processes); (0, 1) where nothing is dealt.
    """
    if mesh is None or len({device.process_index for device in mesh.devices.flat}) == 1:
        return 0, 1
    return jax.process_index(), jax.process_count()


def placed(tree: Any, mesh: Mesh, spec: P) -> Any:
    """Arrays that every process has, laid over a mesh: each device takes its part.

    Unlike ``jax.device_put`` over several processes, nothing is sent or compared.
    """
    sharding = NamedSharding(mesh, spec)
    if sharding.is_fully_addressable:
        return jax.device_put(tree, sharding)

    def put(leaf):
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            data = put(jax.random.key_data(leaf))
            return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
        whole = np.asarray(leaf)
        return jax.make_array_from_callback(whole.shape, sharding, lambda index: whole[index])

    return jax.tree.map(put, tree)


def at_home(tree: Any) -> Any:
    """Replicated arrays as those of one device of this process.

    So what a program over a mesh returns can be used by any other, in one process or several.
    """
    return jax.tree.map(lambda leaf: leaf.addressable_data(0), tree)


def gathered(tree: Any) -> Any:
    """Arrays sharded over a mesh, gathered in this process."""

    def whole(leaf):
        if leaf.is_fully_addressable:
            return leaf
        return jnp.asarray(multihost_utils.process_allgather(leaf, tiled=True))

    return jax.tree.map(whole, tree)


def _summed(values: np.ndarray) -> np.ndarray:
    """The sum over processes of bytes ``(n,)``, of which one process at most has other than 0.

    They are added four at a time, as uint32: with at most one of each other than 0, none carries.
    """
    count = len(values)
    # Lengths rounded up, so that few programs are compiled.
    values = np.pad(values, (0, max(1024, 1 << (count - 1).bit_length()) - count)).view(np.uint32)
    firsts = {device.process_index: device for device in reversed(jax.devices())}
    mesh = Mesh(np.array([firsts[p] for p in range(jax.process_count())]), ("processes",))
    rows = NamedSharding(mesh, P("processes"))
    shape = (jax.process_count(), len(values))
    stacked = jax.make_array_from_callback(shape, rows, lambda _: values[None])
    return np.asarray(_column_sums(mesh)(stacked).addressable_data(0)).view(np.uint8)[:count]


@functools.cache
def _column_sums(mesh: Mesh) -> Any:
    """The compiled sum over the processes of a mesh."""
    return jax.jit(
        lambda rows: jnp.sum(rows, axis=0, dtype=rows.dtype),
        out_shardings=NamedSharding(mesh, P()),
    )


def merged(array: np.ndarray) -> np.ndarray:
    """An array of which every process has filled in a part of its own and left the rest 0.

    To the bit: the bytes are added, and all but one are 0.
    """
    if jax.process_count() == 1 or array.size == 0:
        return array
    array = np.ascontiguousarray(array)
    summed = _summed(array.reshape(-1).view(np.uint8))
    return summed.view(array.dtype).reshape(array.shape).copy()  # to be written to


def exchanged(make: Callable[[], bytes]) -> list[bytes]:
    """What ``make`` gives in each process, told to all of them.

    Raises:
        InputError: ``make`` raised one, here or in another process: all of them then raise it.
    """
    if jax.process_count() == 1:
        return [make()]
    try:
        message = b"+" + make()
    except InputError as error:
        message = b"-" + json.dumps([error.given, error.allowed, error.remedy]).encode()
    lengths = np.zeros(jax.process_count(), np.int32)
    lengths[jax.process_index()] = len(message)
    lengths = merged(lengths)
    table = np.zeros((len(lengths), int(lengths.max())), np.uint8)
    table[jax.process_index(), : len(message)] = np.frombuffer(message, np.uint8)
    rows = [row[:n].tobytes() for row, n in zip(merged(table), lengths, strict=True)]
    for number, row in enumerate(rows):
        if row[:1] == b"-":
            given, allowed, remedy = json.loads(row[1:])
            where = "" if len({*rows}) == 1 else f"Process {number}: "
            raise InputError(where + given, allowed, remedy)
    return [row[1:] for row in rows]


def from_writer(make: Callable[[], bytes]) -> bytes:
    """What ``make`` gives in process 0, where alone it is called; every process returns it.

    Raises:
        InputError: ``make`` raised one: every process then does.
    """
    if jax.process_count() == 1:
        return make()
    message = b""

    def length() -> bytes:
        nonlocal message
        message = make() if is_writer() else b""
        return str(len(message)).encode()

    size = int(exchanged(length)[0])
    whole = np.frombuffer(message, np.uint8) if is_writer() else np.zeros(size, np.uint8)
    return merged(whole).tobytes()


def arrays_from_writer(read: Callable[[], Any], like: Any) -> Any:
    """The tree of arrays that ``read`` gives in process 0, where alone it is called.

    Args:
        read: reads it.
        like: a tree of its structure, shapes and dtypes, which every process has.
    """
    if jax.process_count() == 1:
        return read()
    data = from_writer(lambda: b"".join(np.asarray(x).tobytes() for x in jax.tree.leaves(read())))
    leaves, structure = jax.tree.flatten(like)
    ends = np.cumsum([x.size * np.dtype(x.dtype).itemsize for x in leaves]).tolist()
    parts = [data[low:high] for low, high in zip([0, *ends], ends, strict=False)]
    arrays = [
        jnp.asarray(np.frombuffer(part, x.dtype).reshape(x.shape))
        for part, x in zip(parts, leaves, strict=True)
    ]
    return jax.tree.unflatten(structure, arrays)


def by_writer(do: Callable[[], object]) -> None:
    """Have process 0 do something; the others wait for it.

    Raises:
        InputError: it raised one: every process then does.
    """

    def done() -> bytes:
        do()
        return b""

    from_writer(done)


def check_same(what: str, make: Callable[[], bytes]) -> None:
    """Raise unless ``make`` returns the same in every process.

    Raises:
        InputError: it does not, or raised one in any of them.
    """
    seen = exchanged(make)
    other = [number for number, message in enumerate(seen) if message != seen[0]]
    if other:
        raise InputError(
            f"Process {other[0]} has other {what} than process 0",
            "the same command and the same data in every process",
            "Start all processes with the same options, on the same data",
        )


def check_same_arrays(what: str, tree: Any) -> None:
    """Raise unless a tree of arrays has the same bits in every process, by their CRC-32.

    A mesh over processes takes its copies for alike; if they were not, the result would be of
    neither. Machines of two kinds may round differently where each computes for itself.
    """
    if jax.process_count() == 1:
        return
    sums = [zlib.crc32(np.ascontiguousarray(leaf).tobytes()) for leaf in jax.tree.leaves(tree)]
    check_same(what, lambda: json.dumps(sums).encode())

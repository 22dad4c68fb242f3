"""Starting and ending a run of several processes, on JAX's distributed runtime."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import Literal

import jax

from dcmu_jax.errors import InputError, check_at_least
from dcmu_jax.training.devices import check_platform
from dcmu_jax.training.rendezvous import leave_the_lost, rendezvous, watch

LOOPBACK = ("localhost", "127.0.0.1")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProcessOptions:
    """Several processes for one run: the same command in each, but for `--process`.

    Attributes:
        distributed: auto: a scheduler that JAX knows (SLURM, Open MPI, Cloud TPU) says which
            process this is; off: the next three do, or there is one process.
        coordinator: HOST:PORT of process 0, a free port there that the others can reach.
        processes: how many there are.
        process: which of them this is, 0 or more.
        start_timeout: seconds in which all processes must have started.
        heartbeat_timeout: seconds of silence after which a process is taken for dead, and the run
            is ended.
    """

    distributed: Literal["off", "auto"] = "off"
    coordinator: str | None = None
    processes: int | None = None
    process: int | None = None
    start_timeout: int = 120
    heartbeat_timeout: int = 30

    @property
    def several(self) -> bool:
        """Whether this asks for more than a run of one process by itself."""
        return self.distributed == "auto" or self._named != (None, None, None)

    @property
    def _named(self) -> tuple[str | None, int | None, int | None]:
        return self.coordinator, self.processes, self.process

    def check(self) -> None:
        """Raise ``InputError`` for settings that do not go together."""
        check_at_least("start_timeout", self.start_timeout, 1)
        # JAX sends heartbeats every few seconds; fewer would take a busy machine for a dead one.
        check_at_least("heartbeat_timeout", self.heartbeat_timeout, 10)
        if self.distributed == "auto":
            if self._named != (None, None, None):
                raise InputError(
                    "--distributed auto with --coordinator, --processes or --process",
                    "one way of saying which process this is",
                    "Leave the other out",
                )
            return
        if None in self._named:
            raise InputError(
                "Only some of --coordinator, --processes and --process",
                "all three or none",
                "Give the others as well",
            )
        self.address()
        assert self.processes is not None and self.process is not None
        check_at_least("processes", self.processes, 1)
        if not 0 <= self.process < self.processes:
            raise InputError(
                f"process = {self.process} of {self.processes}",
                f"0..{self.processes - 1}",
                "Number the processes from 0 on",
            )

    def address(self) -> tuple[str, int]:
        """Host and port of the coordinator."""
        host, _, port = (self.coordinator or "").rpartition(":")
        if not host or not re.fullmatch("[0-9]{1,5}", port) or not 0 < int(port) < 2**16:
            raise InputError(
                f"coordinator = {(self.coordinator or '')[:80]!r}",
                "HOST:PORT with a port of 1..65535",
                "Name the host of process 0 and a free port there, such as 10.0.0.1:9876",
            )
        return host, int(port)


def start(options: ProcessOptions) -> None:
    """Join the other processes of the run; nothing for a run of one process.

    Must come before JAX computes anything. The rendezvous is on the coordinator's port, by
    plain TCP: JAX's runtime ends a process without a Python error if another does not come. The
    processes keep these connections, so that each knows at once when another ends (``watch``).

    Raises:
        InputError: options that do not go together; a coordinator that cannot be reached, a port
            that is taken, processes that did not come in time, came twice or count differently; no
            device of the platform that JAX was told to use.
    """
    if not options.several:
        return
    options.check()
    if options.distributed == "auto":
        try:
            jax.distributed.initialize(
                initialization_timeout=options.start_timeout,
                heartbeat_timeout_seconds=options.heartbeat_timeout,
            )
        except ValueError as error:
            raise InputError(
                f"--distributed auto, but JAX found no processes to join ({error})",
                "a job step of SLURM, Open MPI or Cloud TPU",
                "Start it there, or name --coordinator, --processes and --process",
            ) from error
        check_platform()
        return
    assert options.processes is not None and options.process is not None
    host, port = options.address()
    local = host in LOOPBACK
    peers = rendezvous(host, port, options.process, options.processes, options.start_timeout)
    jax.distributed.initialize(
        options.coordinator,
        options.processes,
        options.process,
        initialization_timeout=options.start_timeout,
        heartbeat_timeout_seconds=options.heartbeat_timeout,
        cluster_detection_method="deactivate",
        # Beyond this machine only where the others are beyond it.
        coordinator_bind_address=f"{host}:{port}" if local else None,
    )
    watch(peers, f"process {options.process} of {options.processes}")
    check_platform()


@contextlib.contextmanager
def ended_together(way_on: Callable[[], str] = lambda: "") -> Iterator[None]:
    """End this process, if it is one of several, with whatever error the block raises.

    Input errors pass: every process has raised them. Any other leaves the process at once, without
    waiting for the rest of the run, which would wait for it; theirs then fail likewise.

    Args:
        way_on: gives a line that is said after an interruption.
    """
    try:
        yield
    except InputError:
        raise
    except BaseException as error:
        if not _is_of_several():
            raise
        here = f"process {jax.process_index()} of {jax.process_count()}"
        if isinstance(error, KeyboardInterrupt):
            said = f"dcmu: {here} was interrupted; the others end as well"
            print(said, way_on(), sep="\n", file=sys.stderr, flush=True)
            os._exit(getattr(error, "status", 130))
        if _peer_is_gone(error):
            leave_the_lost(here, str(error).splitlines()[0][:120])
        traceback.print_exc()
        print(f"dcmu: {here} failed; the others end as well", file=sys.stderr, flush=True)
        sys.stdout.flush()
        os._exit(1)


def _is_of_several() -> bool:
    """Whether this process has joined others; JAX may have failed before it knows of any device."""
    try:
        return jax.distributed.is_initialized() and jax.process_count() > 1
    except RuntimeError:
        return False


def _peer_is_gone(error: BaseException) -> bool:
    """Whether a collective failed because a process that takes part in it is no more."""
    marks = ("Gloo", "NCCL", "UNAVAILABLE", "heartbeat", "Connection reset", "Connection closed")
    return isinstance(error, ValueError | RuntimeError) and any(m in str(error) for m in marks)

"""Starting and leaving a run of several processes, on JAX's own distributed runtime."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import socket
import sys
import time
import traceback
from collections.abc import Iterator
from typing import Literal

import jax

from dcmu_jax.errors import InputError, check_at_least

LOST = 3
"""Exit status of a process that ends because another one is gone."""

_LOOPBACK = ("localhost", "127.0.0.1")


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
                    "--distributed auto beside --coordinator, --processes or --process",
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
        if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
            raise InputError(
                f"coordinator = {self.coordinator!r}",
                "HOST:PORT with a port of 1..65535",
                "Name the host of process 0 and a free port there, such as 10.0.0.1:9876",
            )
        return host, int(port)


def start(options: ProcessOptions) -> None:
    """Join the other processes of the run; nothing for a run of one process.

    Must come before JAX computes anything. The processes first meet on the coordinator's port by
    plain TCP: JAX's runtime ends a process without a Python error if another does not come.

    Raises:
        InputError: options that do not go together; a coordinator that cannot be reached, a port
            that is taken, processes that did not come in time, came twice or count differently.
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
        except (ValueError, RuntimeError) as error:
            raise InputError(
                f"--distributed auto, but JAX found no processes to join ({error})",
                "a job step of SLURM, Open MPI or Cloud TPU",
                "Start it there, or name --coordinator, --processes and --process",
            ) from error
        return
    _meet(options)
    host, port = options.address()
    jax.distributed.initialize(
        options.coordinator,
        options.processes,
        options.process,
        initialization_timeout=options.start_timeout,
        heartbeat_timeout_seconds=options.heartbeat_timeout,
        cluster_detection_method="deactivate",
        # Beyond this machine only where the others are beyond it.
        coordinator_bind_address=f"{host}:{port}" if host in _LOOPBACK else None,
    )


@contextlib.contextmanager
def ended_together() -> Iterator[None]:
    """End this process, if it is one of several, with whatever error the block raises.

    Input errors pass: every process has raised them. Any other leaves the process at once, without
    waiting for the rest of the run, which would wait for it; theirs then fail likewise.
    """
    try:
        yield
    except InputError:
        raise
    except BaseException as error:
        if not jax.distributed.is_initialized() or jax.process_count() == 1:
            raise
        here = f"process {jax.process_index()} of {jax.process_count()}"
        if _peer_is_gone(error):
            print(
                f"dcmu: another process of this run is gone, and {here} ends with it. What was "
                "finished is saved: start all processes again with the same command and "
                f"--start-or-resume, or with --resume ({str(error).splitlines()[0][:120]})",
                file=sys.stderr,
            )
            status = LOST
        else:
            traceback.print_exc()
            print(f"dcmu: {here} failed; the others end as well", file=sys.stderr)
            status = 1
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _peer_is_gone(error: BaseException) -> bool:
    """Whether a collective failed because a process that takes part in it is no more."""
    marks = ("Gloo", "UNAVAILABLE", "heartbeat", "Connection reset", "Connection closed")
    return isinstance(error, ValueError | RuntimeError) and any(m in str(error) for m in marks)


def _meet(options: ProcessOptions) -> None:
    """Return once every process of the run is there; see ``start``."""
    deadline = time.monotonic() + options.start_timeout
    host, port = options.address()
    try:
        address = socket.getaddrinfo(host, port, socket.AF_INET, socket.SOCK_STREAM)[0][4]
    except OSError as error:
        raise InputError(
            f"coordinator = {options.coordinator!r} ({error})",
            "a host that is known here",
            "Check the name",
        ) from error
    if options.process == 0:
        _receive(options, address if host in _LOOPBACK else ("", port), deadline)
    else:
        _report(options, address, deadline)


def _receive(options: ProcessOptions, address: tuple, deadline: float) -> None:
    """Process 0: wait for all others, then tell each of them that all are there, or what is not."""
    with contextlib.ExitStack() as open_sockets:
        server = open_sockets.enter_context(socket.socket())
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            server.bind(address)
            server.listen(options.processes or 1)
        except OSError as error:
            raise InputError(
                f"coordinator = {options.coordinator!r}, where process 0 cannot listen ({error})",
                "a free port of the machine that process 0 runs on",
                "Choose another port, or start process 0 on that machine",
            ) from error
        there: dict[int, socket.socket] = {}
        fault: InputError | None = None
        while fault is None and len(there) + 1 < (options.processes or 1):
            server.settimeout(max(0.01, deadline - time.monotonic()))
            try:
                peer = open_sockets.enter_context(server.accept()[0])
                peer.settimeout(5)
                said = json.loads(_line(peer))
                number, processes = int(said["process"]), int(said["processes"])
            except TimeoutError:
                if time.monotonic() < deadline:
                    continue  # somebody connected and said nothing
                missing = [str(i) for i in range(1, options.processes or 1) if i not in there]
                fault = InputError(
                    f"Of {options.processes} processes, {', '.join(missing)} did not come within "
                    f"{options.start_timeout} s",
                    "all processes started within --start-timeout",
                    "Start them, or set --processes to how many there are",
                )
                continue
            except (OSError, ValueError, KeyError, TypeError):
                continue  # not one of ours
            if processes != options.processes:
                fault = InputError(
                    f"Process {number} of {processes}, where process 0 counts {options.processes}",
                    "the same --processes everywhere",
                    "Start all processes with the same --processes",
                )
            elif number in there or number == 0:
                fault = InputError(
                    f"Two processes with --process {number}",
                    "each number once",
                    f"Number the processes 0..{processes - 1}",
                )
            there.setdefault(number if fault is None else -1 - number, peer)
        answer = [] if fault is None else [fault.given, fault.allowed, fault.remedy]
        for peer in there.values():
            with contextlib.suppress(OSError):
                peer.sendall(json.dumps(answer).encode() + b"\n")
                peer.recv(1)  # until it has hung up: the port is then free for JAX's runtime
        if fault is not None:
            raise fault


def _report(options: ProcessOptions, address: tuple, deadline: float) -> None:
    """Any other process: report to process 0, and hear whether all are there."""
    hello = json.dumps({"process": options.process, "processes": options.processes})
    reason = "no answer"
    while time.monotonic() < deadline:
        try:
            with socket.create_connection(address[:2], timeout=5) as peer:
                peer.sendall(hello.encode() + b"\n")
                peer.settimeout(max(0.01, deadline + 5 - time.monotonic()))
                answer = json.loads(_line(peer))
        except (OSError, ValueError) as error:
            reason = str(error)
            time.sleep(0.1)
            continue
        if answer:
            raise InputError(*map(str, answer))
        return
    raise InputError(
        f"coordinator = {options.coordinator!r}, which cannot be reached within "
        f"{options.start_timeout} s ({reason})",
        "the host and port where process 0 of this run waits",
        "Start process 0 there, check the address, or raise --start-timeout",
    )


def _line(peer: socket.socket) -> bytes:
    """What the other side says up to the end of the line."""
    said = b""
    while not said.endswith(b"\n") and len(said) < 10_000:
        more = peer.recv(4096)
        if not more:
            raise OSError("it hung up")
        said += more
    return said

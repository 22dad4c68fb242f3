"""How the processes of a run find each other, and notice when one of them is no more."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import selectors
import socket
import sys
import threading
import time
from typing import NoReturn

from dcmu_jax.errors import InputError

LOST = 3
"""Exit status of a process that ends because another one is gone."""

_BYE = b"bye"


def rendezvous(
    host: str, port: int, process: int, processes: int, timeout: int
) -> list[socket.socket]:
    """Return once every process of the run is there, connected to process 0.

    Args:
        host: of process 0.
        port: where it waits; free again when this returns.
        process: the number of this one.
        processes: how many there are.
        timeout: seconds to wait for them.

    Returns:
        Of process 0 a connection to every other process, of any other one to process 0.

    Raises:
        InputError: see ``processes.start``; every process that came raises one.
    """
    deadline = time.monotonic() + timeout
    try:
        address = socket.getaddrinfo(host, port, socket.AF_INET, socket.SOCK_STREAM)[0][4][:2]
    except OSError as error:
        raise InputError(
            f"coordinator = '{host}:{port}' ({error})", "a host known here", "Check the name"
        ) from error
    if process:
        return [_report(address, process, processes, timeout, deadline)]
    # Beyond this machine only where the others are beyond it.
    local = str(address[0]).startswith("127.")
    return _receive(address if local else ("", port), processes, timeout, deadline)


def watch(peers: list[socket.socket], here: str) -> None:
    """End this process, with a message and status ``LOST``, as soon as a peer is gone.

    A peer that ends in order says so first, and so does this process. One whose machine is gone
    says nothing at all: that is for the heartbeats of JAX's runtime to find out.

    Args:
        peers: of ``rendezvous``.
        here: what this process is called in the message.
    """

    def look_out() -> None:
        with selectors.DefaultSelector() as selector:
            for peer in peers:
                peer.settimeout(None)
                selector.register(peer, selectors.EVENT_READ)
            while selector.get_map():
                for key, _ in selector.select():
                    try:
                        said = key.fileobj.recv(len(_BYE))  # type: ignore[union-attr]
                    except OSError:
                        said = b""
                    if said != _BYE:
                        leave_the_lost(here, "its connection is closed")
                    selector.unregister(key.fileobj)

    def say_bye() -> None:
        for peer in peers:
            with contextlib.suppress(OSError):
                peer.sendall(_BYE)

    if peers:
        atexit.register(say_bye)
        threading.Thread(target=look_out, name="lookout", daemon=True).start()


def leave_the_lost(here: str, why: str) -> NoReturn:
    """Say that another process is gone, and end this one at once.

    Without JAX's orderly end, which would wait for the other.
    """
    print(
        f"dcmu: another process of this run is gone ({why}), and {here} ends with it. What was "
        "finished is saved: start all processes again with the same command and "
        "--start-or-resume, or with --resume",
        file=sys.stderr,
        flush=True,
    )
    sys.stdout.flush()
    os._exit(LOST)


def _receive(address: tuple, processes: int, timeout: int, deadline: float) -> list[socket.socket]:
    """Process 0: wait for all others, then tell each of them that all are there, or what is not."""
    there: dict[int, socket.socket] = {}
    strangers: list[socket.socket] = []
    fault: InputError | None = None
    with socket.socket() as server:
        # Inherited by the connections: JAX's runtime can then listen on the port while they last.
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            server.bind(address)
            server.listen(processes)
        except OSError as error:
            raise InputError(
                f"coordinator = port {address[1]}, where process 0 cannot listen ({error})",
                "a free port of the machine that process 0 runs on",
                "Choose another port, or start process 0 on that machine",
            ) from error
        while fault is None and len(there) + 1 < processes:
            left = deadline - time.monotonic()
            if left <= 0:
                missing = ", ".join(str(i) for i in range(1, processes) if i not in there)
                fault = InputError(
                    f"Of {processes} processes, {missing} did not come within {timeout} s",
                    "all processes started within --start-timeout",
                    "Start them, or set --processes to how many there are",
                )
                break
            server.settimeout(left)
            try:
                peer = server.accept()[0]
                strangers.append(peer)
                peer.settimeout(5)
                said = json.loads(_line(peer))
                number, count = int(said["process"]), int(said["processes"])
            except (OSError, ValueError, KeyError, TypeError):
                continue  # nobody yet, or not one of ours
            fault = _misfit(number, count, processes, there)
            if fault is None:
                there[number] = strangers.pop()
    answer = [] if fault is None else [fault.given, fault.allowed, fault.remedy]
    for peer in (*there.values(), *strangers):
        with contextlib.suppress(OSError):
            peer.sendall(json.dumps(answer).encode() + b"\n")
    if fault is not None:
        strangers += there.values()
    for peer in strangers:
        peer.close()
    if fault is not None:
        raise fault
    return list(there.values())


def _misfit(
    number: int, count: int, processes: int, there: dict[int, socket.socket]
) -> InputError | None:
    """What is wrong with a process that came, if anything."""
    if count != processes:
        return InputError(
            f"Process {number} of {count}, where process 0 counts {processes}",
            "the same --processes everywhere",
            "Start all processes with the same --processes",
        )
    if number in there or number == 0:
        return InputError(
            f"Two processes with --process {number}",
            "each number once",
            f"Number the processes 0..{processes - 1}",
        )
    return None


def _report(
    address: tuple, process: int, processes: int, timeout: int, deadline: float
) -> socket.socket:
    """Any other process: report to process 0, and hear whether all are there."""
    hello = json.dumps({"process": process, "processes": processes}).encode() + b"\n"
    reason = "no answer"
    while time.monotonic() < deadline:
        with contextlib.ExitStack() as unless_all_is_well:
            try:
                peer = socket.create_connection(address, timeout=5)
                unless_all_is_well.callback(peer.close)
                peer.sendall(hello)
                peer.settimeout(max(0.01, deadline + 5 - time.monotonic()))
                answer = json.loads(_line(peer))
            except (OSError, ValueError) as error:
                reason = str(error)
                time.sleep(0.1)
                continue
            if answer:
                raise InputError(*map(str, answer))
            unless_all_is_well.pop_all()
            return peer
    raise InputError(
        f"coordinator = '{address[0]}:{address[1]}', which cannot be reached within {timeout} s "
        f"({reason})",
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

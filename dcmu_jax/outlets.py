"""What can stop a command from outside: broken or limited streams, signals, exhausted memory."""

from __future__ import annotations

import codecs
import contextlib
import errno
import io
import os
import shlex
import signal
import sys
import threading
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

from dcmu_jax.errors import InputError

PIPE_CLOSED = 141
"""Exit status of a command whose reader has gone, as a shell gives it (128 + SIGPIPE)."""
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_ASCII = dict(
    zip(
        "→←↑↓–—−…“”‘’±×≤≥•─━═│┃║",  # noqa: RUF001
        "-> <- ^ v - - - ... \" \" ' ' +/- x <= >= * - - - | | |".split(),
        strict=True,
    )
)


class Interrupted(KeyboardInterrupt):
    """Ctrl-C or SIGTERM.

    Attributes:
        status: the exit status that says which.
    """

    def __init__(self, signum: int):
        self.status = 128 + signum
        super().__init__(signal.Signals(signum).name)


class OutputFailed(Exception):
    """A command did all its work, but stdout did not take what it printed.

    Attributes:
        error: why.
    """

    def __init__(self, error: OSError):
        self.error = error
        super().__init__(str(error))


class WayOn:
    """The command that resumes an interrupted one: the same command, unless ``find`` knows better.

    Attributes:
        argv: the arguments of the command.
        find: returns the arguments of the command that resumes.
        begun: whether the command has begun its work; from then on a failed output raises nothing
            (``cli.output``).
    """

    def __init__(self, argv: Sequence[str]):
        self.argv = list(argv)
        self.find: Callable[[], list[str]] = lambda: self.argv
        self.begun = False

    def __str__(self) -> str:
        return shlex.join(["dcmu", *self.find()])

    def is_another(self) -> bool:
        """Whether the command that resumes has other arguments."""
        found = self.find()
        return found != self.argv and found[:1] == self.argv[:1]


def interrupted(words: Sequence[str]) -> str:
    """The message for an interrupted command, with the command that resumes it."""
    return f"Interrupted; go on with {shlex.join(['dcmu', *words])}"


def _leave(number: int, words: Sequence[str]) -> NoReturn:
    """Print the message for an interrupted command, and end the process at once."""
    with contextlib.suppress(OSError):
        os.write(2, (interrupted(words) + "\n").encode(errors="replace"))
    os._exit(128 + number)


@contextlib.contextmanager
def _handled(handler: Any) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may
        return
    before = {number: signal.signal(number, handler) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, signal.SIG_DFL if old is None else old)


def _is_the_command() -> bool:
    """Whether this process is ``dcmu`` itself, not a program that calls it."""
    by_module = os.path.join("dcmu_jax", "cli", "__main__.py")
    return os.path.basename(sys.argv[0]) in ("dcmu", "-m") or sys.argv[0].endswith(by_module)


@contextlib.contextmanager
def quiet_imports() -> Iterator[None]:
    """If this process is ``dcmu``, a signal within the block ends it with one message.

    At once: nothing has begun yet, and an exception within an import is often taken for a
    failed import.
    """

    def leave(number: int, frame: object) -> None:
        _leave(number, sys.argv[1:])

    if _is_the_command():
        with _handled(leave):
            yield
    else:
        yield


@contextlib.contextmanager
def interruptible(way_on: WayOn) -> Iterator[None]:
    """Raise ``Interrupted`` on a signal within the block; a second signal ends the process."""

    def leave(number: int, frame: object) -> None:
        _leave(number, way_on.find())

    def stop(number: int, frame: object) -> None:
        for each in _SIGNALS:
            signal.signal(each, leave)
        raise Interrupted(number)

    with _handled(stop):
        yield


def _plain(error: UnicodeError) -> tuple[str, int]:
    """ASCII for characters that the encoding of a stream lacks."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    told = []
    for character in error.object[error.start : error.end]:
        near = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
        box = "+" if "\u2500" <= character <= "\u257f" else "?"
        told.append(_ASCII.get(character) or near or box)
    return "".join(told), error.end


codecs.register_error("dcmu", _plain)


def _prepare_streams() -> None:
    """Reserve the numbers of closed streams, and let the others print what their encoding can.

    Output to a closed stdout is reported like a full disk; that to a closed stderr is dropped.

    An unbuffered stdout (PYTHONUNBUFFERED) gets a line buffer: without one, what could not be
    written would be lost, and a second try would not report it.
    """
    raw = getattr(sys.stdout, "buffer", None)
    if sys.stdout is sys.__stdout__ and isinstance(raw, io.RawIOBase):
        buffered: Any = io.BufferedWriter(raw)
        sys.stdout = io.TextIOWrapper(buffered, encoding=sys.stdout.encoding, line_buffering=True)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:  # or the next file that is opened would get what is printed
            os.open(os.devnull, os.O_RDONLY if number == 1 else os.O_RDWR)
            if name == "stdout" and sys.stdout is None:
                sys.stdout = open(1, "w", closefd=False)
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "r+" if name == "stdin" else "w"))
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError, OSError):
            stream.reconfigure(errors="dcmu")  # pyright: ignore[reportAttributeAccessIssue]


def _say(message: str) -> None:
    """Print one message on stderr, if that works."""
    try:
        print(message, file=sys.stderr, flush=True)
    except OSError:
        _swallow(sys.stderr)


def _failed_output() -> OSError | None:
    """Why stdout failed, or None. After a failure its output is dropped."""
    try:
        sys.stdout.flush()
    except OSError as error:
        _swallow(sys.stdout)
        return error
    except ValueError:  # closed
        return None
    return None


def _swallow(stream: Any) -> None:
    """Send a failed stream to the null device, or its buffer would fail again when Python ends."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)


def _ended_output(error: OSError, status: int = 0) -> int:
    """The exit status for a failed stdout; with a message, unless the reader closed the pipe.

    Args:
        error: why it failed.
        status: of the command, if that failed as well.
    """
    if isinstance(error, BrokenPipeError) or error.errno == errno.EPIPE:
        return status or PIPE_CLOSED
    done = "" if status else " What the command did is done all the same."
    _say(
        f"dcmu: The output cannot be written ({error.strerror}).{done} "
        "Send it to a file on a disk with room, or to a pipe"
    )
    return status or 1


def _failure(error: Exception, way_on: WayOn) -> InputError | None:
    """The message for a failure of the machine; None for one of the program."""
    first = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
    # A full disk that TensorStore tells of has the mark of the device's memory, too.
    device = "RESOURCE_EXHAUSTED" in str(error) and not isinstance(error, OSError)
    if isinstance(error, MemoryError) or device:
        return InputError(
            f"Memory is exhausted ({first})",
            "work that fits",
            "Lower --training.batch-size or --network.width when you start a run, or give the "
            "images as npy:FOLDER, where they stay on disk",
        )
    if isinstance(error, OSError):
        return InputError(
            f"{error.filename or 'The output, or a file,'} cannot be used ({error.strerror})",
            "files and folders that can be read and written, on a disk with room",
            f"Mend that, and go on with {way_on}",
        )
    return None


def ended(work: Callable[[], int], argv: Sequence[str] | WayOn) -> int:
    """Do the work of a command, and say how it ended if it did not end well.

    Args:
        work: gives the exit status.
        argv: the arguments of the command, or how to go on with it.

    Returns:
        The exit status; see ``cli.main``.

    Raises:
        SystemExit: of the parser, after ``--help`` or arguments that it refused.
    """
    way_on = argv if isinstance(argv, WayOn) else WayOn(argv)
    _prepare_streams()
    status, by_parser = 0, None
    try:
        with interruptible(way_on):
            status = work()
    except SystemExit as stop:  # the parser has said why; what it printed may not have come out
        by_parser = stop
    except InputError as error:
        then = isinstance(error.__cause__, OSError) and way_on.is_another()
        _say(f"dcmu: {error}. Go on with {way_on}" if then else f"dcmu: {error}")
        status = 2
    except OutputFailed as failed:
        _failed_output()
        return _ended_output(failed.error)
    except Interrupted as stop:
        _say(interrupted(way_on.find()))
        status = stop.status
        if _is_the_command():
            # Work goes on in threads of the compiler and of checkpoints, which can bring the
            # interpreter down while it ends. All that must be closed was, on the way here.
            _failed_output()
            os._exit(status)
    except Exception as error:
        broken = _failed_output()
        if not way_on.begun and (broken is not None or isinstance(error, BrokenPipeError)):
            return _ended_output(broken or BrokenPipeError())
        said = _failure(error, way_on)
        if said is None:
            raise
        _say(f"dcmu: {said}")
        status = 2 if isinstance(error, OSError) else 1
    broken = _failed_output()
    if broken is not None:
        return _ended_output(broken, status)
    if by_parser is not None:
        raise by_parser
    return status

"""Objects of the user's own by name: ``file.py:attribute`` or ``package.module:attribute``."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.metadata
import inspect
import sys
import traceback
import types
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from dcmu_jax.errors import InputError, kind_of, unknown_name


def is_reference(name: Any) -> bool:
    """Whether a name says where an object is.

    >>> is_reference("mine.py:Method"), is_reference("scrub")
    (True, False)
    """
    return isinstance(name, str) and ":" in name


def load_reference(name: str, kind: str) -> Any:
    """The object that a reference names.

    Args:
        name: ``file.py:attribute``, the file relative to the working directory; or
            ``package.module:attribute``.
        kind: what it shall be, for messages.

    Raises:
        InputError: no such file, module or attribute, or a file that fails when it is run.
    """
    where, _, attribute = name.rpartition(":")
    try:
        module = (
            _from_file(Path(where)) if where.endswith(".py") else importlib.import_module(where)
        )
    except FileNotFoundError as error:
        if Path(where).is_file() or not where.endswith(".py"):  # another, which it wants to read
            raise _unrunnable(name, kind, where, error) from error
        raise InputError(
            f"The {kind} {name!r}: there is no file {where!r}",
            "file.py:attribute, the file being there",
            "Check the path, which is relative to the directory you are in",
        ) from error
    except (Exception, SystemExit) as error:  # whatever a user's file may raise
        raise _unrunnable(name, kind, where, error) from error
    if not hasattr(module, attribute):
        public = {one: held for one, held in vars(module).items() if not one.startswith("_")}
        usable = [one for one, held in public.items() if callable(held)]  # no imported modules
        homes = {one: getattr(public[one], "__module__", None) for one in usable}
        here = [one for one in usable if homes[one] == module.__name__]
        if not usable:
            raise InputError(
                f"The {kind} {name!r}: {where} holds no {attribute}",
                "the name of a function or class in it",
                f"Write def {attribute}(...): ... in it" if attribute else "Add its name",
            )
        raise unknown_name(f"attribute of {where}", attribute, here or usable)
    return getattr(module, attribute)


def _unrunnable(name: str, kind: str, where: str, error: BaseException) -> InputError:
    return InputError(
        f"The {kind} {name!r}: {where} cannot be run ({said_of(error)})",
        "a Python file or module that can be imported",
        "Mend it: python -m py_compile FILE, or import it, shows the whole error",
    )


def entry_point(group: str, name: str) -> Any:
    """The object of an installed entry point in a group, or ``None``.

    Raises:
        InputError: it fails when it is imported.
    """
    for entry in importlib.metadata.entry_points(group=group):
        if entry.name != name:
            continue
        try:
            return entry.load()
        except (Exception, SystemExit) as error:  # whatever another's package may raise
            raise InputError(
                f"The entry point {name!r} of {group} cannot be loaded ({said_of(error)})",
                f"an object that can be imported from {entry.value!r}",
                "Mend the package that names it, or take it out of the environment",
            ) from error
    return None


def entry_names(group: str) -> list[str]:
    """The names of all entry points in a group, installed with any package."""
    return sorted({entry.name for entry in importlib.metadata.entry_points(group=group)})


def unknown_own(kind: str, name: Any, known: Sequence[str], also: str = "") -> InputError:
    """An error for a name that is none of those known, where it may be of the user's own, too.

    Args:
        kind: what it shall be, for the message.
        name: as it was given.
        known: all names there are.
        also: what else gives a name.
    """
    error = unknown_name(kind, name, known)
    own = f"file.py:attribute or package.module:attribute{also}"
    remedy = error.remedy
    if str(name).endswith(".py"):
        remedy = f"Name the function in it: {name}:FUNCTION"
    elif not known:
        remedy = f"Say where the function is, as in mine.py:{kind}"
    allowed = f"{error.allowed}; or one of your own, as {own}" if known else own
    return InputError(error.given, allowed, remedy)


def named_object(name: str, kind: str, group: str) -> Any:
    """What a name stands for: a reference, or an entry point.

    Args:
        name: ``file.py:attribute``, ``package.module:attribute``, or that of an entry point.
        kind: what it shall be, for messages.
        group: of the entry points.

    Raises:
        InputError: it names nothing, or what cannot be imported.
    """
    if is_reference(name):
        return load_reference(name, kind)
    found = entry_point(group, name)
    if found is None:
        raise unknown_own(kind, name, entry_names(group))
    return found


def check_takes(what: str, target: Any, given: Sequence[str], named: Sequence[str], write: str):
    """Raise unless a user's object is no class and can be called with such arguments.

    Args:
        what: it is, for the message, with its name.
        target: the object.
        given: names of the arguments that it is given by position.
        named: of those that it is given by name.
        write: what to do.

    Raises:
        InputError: it cannot be called so.
    """
    if not callable(target) or inspect.isclass(target):
        raise InputError(
            f"The {what}, which is {kind_of(target)}",
            "a function, or an instance that can be called",
            write,
        )
    try:
        inspect.signature(target).bind(*given, **dict.fromkeys(named))
    except TypeError as error:
        shown = ", ".join([*given, "*", *named] if named else given)
        raise InputError(
            f"The {what} cannot be called with {', '.join([*given, *named])} ({error})",
            f"the arguments ({shown})",
            write,
        ) from error
    except ValueError:  # a builtin that does not say what it takes
        pass


@contextlib.contextmanager
def calling(what: str, returns: str, ours: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Call a user's function in this block: what it raises becomes an ``InputError``.

    Args:
        what: it is, for the message, with its name.
        returns: what it should return.
        ours: errors that pass as they are, as the function calls what raises them.

    Raises:
        InputError: it raised, or ended the program. Memory that is exhausted is told of elsewhere.
    """
    try:
        yield
    except (Exception, SystemExit) as error:  # whatever a user's function may raise
        if isinstance(error, (MemoryError, *ours)) or "RESOURCE_EXHAUSTED" in str(error):
            raise
        frames = traceback.extract_tb(error.__traceback__)
        own = frames[min(2, len(frames) - 1)].filename  # below this block: of the user's function
        last = [frame for frame in frames if frame.filename == own][-1]
        raise InputError(
            f"The {what} fails ({said_of(error)}, {last.filename}, line {last.lineno})",
            returns,
            "Mend it, and do the same again: a run finds what it trained",
        ) from error


def said_of(error: BaseException) -> str:
    """The type of an error and the first line of its message."""
    said = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
    return f"{type(error).__name__}: {said}"


def _from_file(path: Path) -> Any:
    """The module of a file, run once for each state of the file; no compiled copy is kept of it."""
    source = path.read_bytes()
    name = f"dcmu_own_{hashlib.sha256(str(path.resolve()).encode() + source).hexdigest()[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    module = types.ModuleType(name)
    module.__file__ = str(path)
    sys.modules[name] = module  # dataclasses look their module up there
    try:
        exec(compile(source, str(path), "exec"), module.__dict__)
    except BaseException:
        del sys.modules[name]
        raise
    return module

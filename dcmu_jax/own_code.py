"""What identifies code of the user's own: the text of all files of the user's that it is made of.

Imports are read from the text of the files; nothing is imported or run to find them.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import hashlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

_NOT_OWN = sys.stdlib_module_names | {"dcmu_jax"}
_INSTALLED = {"site-packages", "dist-packages"}
_READ: dict[str, tuple[Any, bytes]] = {}
"""Name of an imported module -> its ``__spec__`` and its file, as it was when first asked for."""


def source_of(name: str, target: Any) -> str:
    """SHA-256 (hex) of the code of an object: what was made by other code differs.

    Of the file that a reference names; of the files in which the object is defined, and what it
    calls behind decorators, ``functools.partial`` and bound methods; and of all that these import
    and that is neither installed nor of the standard library; of an installed package that is named
    itself, its own files. Of what was typed in a notebook, of its own text; of an object that is
    not named by a reference, also of what ``partial`` holds; "" where there is nothing of all this.

    What is imported already counts as it was when it was first asked for, as that is what runs.

    Args:
        name: ``file.py:attribute``, ``package.module:attribute``, or any other.
        target: the object.
    """
    where = name.rpartition(":")[0]
    found = first = _defined_in(target)
    pieces = list(_pieces(target))
    texts = {_text_alone(piece) for piece in pieces}
    modules = [str(getattr(piece, "__module__", "")) for piece in pieces]
    named, whole = b"", [*modules, ""][0]
    if where.endswith(".py"):
        named = Path(where).read_bytes()
        found = hashlib.sha256((_digest(named) + first).encode()).hexdigest()
        modules += _imports(named, "")
        whole = ""
    elif where:
        modules.append(where)
        whole = where
    else:
        texts |= {_held(piece) for piece in _pieces(target, partials=True)}
    texts |= _files(modules, whole.partition(".")[0])
    rest = {_digest(text) for text in texts if text} - {first, _digest(named)}
    if rest:  # else as earlier versions had it
        found = hashlib.sha256("".join([found, *sorted(rest)]).encode()).hexdigest()
    return found


def _digest(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()


def _kind(target: Any) -> Any:
    """What the code of an object stands in: itself, or its class."""
    return target if inspect.isclass(target) or inspect.isroutine(target) else type(target)


def _defined_in(target: Any) -> str:
    with contextlib.suppress(TypeError, OSError):
        path, module = Path(inspect.getfile(_kind(target))), _kind(target).__module__
        return _digest(_read(module, path) if path == _path_of(module) else path.read_bytes())
    return _digest(_text_alone(target)) if _text_alone(target) else ""


def _text_alone(target: Any) -> bytes:
    """The own text of what stands in no file, as in a notebook."""
    with contextlib.suppress(TypeError, OSError):
        if not Path(inspect.getfile(_kind(target))).is_file():
            return inspect.getsource(_kind(target)).encode()
    return b""


def _held(piece: Any) -> bytes:
    """The arguments that a ``partial`` holds, as text without the addresses of objects."""
    if not isinstance(piece, functools.partial):
        return b""
    text = repr((piece.args, sorted(piece.keywords.items())))
    return re.sub(r" at 0x[0-9a-f]+", "", text).encode()


def _pieces(target: Any, partials: bool = False) -> Iterator[Any]:
    """Functions and classes that an object is made of, each once.

    Args:
        target: the object.
        partials: give the ``partial`` among them as well.
    """
    todo, seen = [target], []
    while todo:
        one = todo.pop(0)
        if any(one is other for other in seen):
            continue
        seen.append(one)
        if isinstance(one, functools.partial):
            todo += [one.func, *filter(callable, (*one.args, *one.keywords.values()))]
            if partials:
                yield one
        elif inspect.ismethod(one):
            todo += [one.__func__, _kind(one.__self__)]
        elif inspect.isclass(one):
            todo += [base for base in one.__mro__ if base is not object]
            if one.__module__ == "__main__":  # whose text a notebook does not tell
                todo += filter(inspect.isfunction, vars(one).values())
            yield one
        elif inspect.isroutine(one):
            todo += _behind(one)
            yield one
        elif hasattr(one, "__wrapped__"):  # a compiled function, say
            todo.append(one.__wrapped__)
        else:
            todo += [type(one), *filter(callable, getattr(one, "__dict__", {}).values())]


def _behind(function: Any) -> list[Any]:
    """What a function wraps: what a decorator says, and what it holds without saying so."""
    found = [function.__wrapped__] if hasattr(function, "__wrapped__") else []
    for cell in getattr(function, "__closure__", None) or ():
        with contextlib.suppress(ValueError):  # an empty one
            found += filter(callable, [cell.cell_contents])
    return found


def _files(modules: Iterable[str], whole: str) -> set[bytes]:
    """The files of modules and of all that they import, as far as they are the user's own.

    Args:
        modules: names of modules; of others nothing is found.
        whole: package that counts though it may be installed.
    """
    todo, found, foreign = list(modules), dict[str, bytes](), set(_NOT_OWN)
    while todo:
        name = todo.pop(0)
        top = name.partition(".")[0]
        if name in found or top in foreign:
            continue
        path = _path_of(name)
        if path is None:
            found[name] = b""
            continue
        if top != whole and _INSTALLED & set(path.parts):
            foreign.add(top)
            continue
        found[name] = _read(name, path)
        if path.suffix == ".py":
            package = name if path.name == "__init__.py" else name.rpartition(".")[0]
            todo += _imports(found[name], package)
    return set(found.values())


def _path_of(name: str) -> Path | None:
    """The file of a module; None where there is none."""
    parent, _, last = name.rpartition(".")
    if name in sys.modules:
        found = [getattr(sys.modules[name], "__file__", None)]
    elif parent:
        ends = (f"{last}/__init__.py", f"{last}.py")
        found = [Path(folder, end) for folder in _folders(parent) for end in ends]
    else:
        found = [getattr(_spec(name), "origin", None)]
    return next((Path(one) for one in found if one and Path(one).is_file()), None)


def _folders(name: str) -> list[str]:
    """Where the modules of a package are."""
    parent, _, last = name.rpartition(".")
    if name in sys.modules:
        return list(getattr(sys.modules[name], "__path__", ()))
    if parent:
        return [str(Path(folder, last)) for folder in _folders(parent)]
    return list(getattr(_spec(name), "submodule_search_locations", None) or ())


def _spec(name: str) -> Any:
    """Of what is in no package and not imported yet; None where there is nothing."""
    with contextlib.suppress(ImportError, ValueError):
        return importlib.util.find_spec(name)
    return None


def _read(name: str, path: Path) -> bytes:
    """The file of a module; of one that is imported as it was when first read."""
    if name not in sys.modules:
        return path.read_bytes()
    spec = getattr(sys.modules[name], "__spec__", None)  # another one after a reload
    if name not in _READ or _READ[name][0] is not spec:
        _READ[name] = spec, path.read_bytes()
    return _READ[name][1]


@functools.lru_cache(maxsize=1024)
def _imports(text: bytes, package: str) -> list[str]:
    """Names that a file imports, within functions, too: modules, what they are in, and others."""
    found: set[str] = set()
    with contextlib.suppress(SyntaxError, ValueError):
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                with contextlib.suppress(ImportError):  # above the package
                    where = "." * node.level + (node.module or "")
                    where = importlib.util.resolve_name(where, package)
                    found |= {f"{where}.{alias.name}" for alias in node.names}
    parts = [name.split(".") for name in found]
    return sorted({".".join(each[:upto]) for each in parts for upto in range(1, len(each) + 1)})

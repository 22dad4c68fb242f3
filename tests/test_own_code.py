"""Code of the user's own is known by all files of the user's that it is made of."""

import functools
import hashlib
import importlib
import itertools
import sys
from pathlib import Path

import pytest

from dcmu_jax.extensions import load_reference
from dcmu_jax.own_code import source_of

FILES = {
    "__init__.py": "",
    "named.py": """
import functools
from . import parts
from .deco import plain, shown


@plain
def hidden(network, members):
    return 1


@shown
def wrapped(network, members):
    return 1


def late(network, members):
    from .lazy import score
    return score()


held = functools.partial(parts.score, 2)
method = parts.Scorer().score
instance = parts.Scorer()
simple = parts.score
""",
    "deco.py": """
import functools


def plain(function):
    def call(network, members):
        return function(network, members)
    return call


def shown(function):
    @functools.wraps(function)
    def call(network, members):
        return function(network, members)
    return call
""",
    "parts.py": """
from .deep.numbers import ONE
import numpy


def score(by, network=None, members=None):
    return ONE


class Scorer:
    def __call__(self, network, members):
        return ONE

    def score(self, network, members):
        return ONE
""",
    "lazy.py": "def score():\n    return 1\n",
    "deep/numbers.py": "ONE = 1\n",  # in a folder without __init__.py
    "apart.py": "",
}
NAMES = ("hidden", "wrapped", "late", "held", "method", "instance", "simple")
_FRESH = itertools.count()


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A folder with a package of the user's own, which no other test has imported."""
    folder = tmp_path / f"mine{next(_FRESH)}"
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    yield folder
    _forget(folder.name)


def _forget(name):
    for module in [one for one in sys.modules if one.split(".")[0] == name]:
        del sys.modules[module]
    importlib.invalidate_caches()


def _sources(package):
    """As another process would find them."""
    _forget(package.name)
    names = [f"{package.name}.named:{name}" for name in NAMES]
    return {name: source_of(name, load_reference(name, "condenser")) for name in names}


@pytest.mark.parametrize("file", ["named.py", "deco.py", "parts.py", "lazy.py", "deep/numbers.py"])
def test_every_file_of_ones_own_counts(package, file):
    before = _sources(package)
    assert all(len(source) == 64 for source in before.values()) and before == _sources(package)
    (package / file).write_text(FILES[file] + "\nANOTHER = 2\n")
    assert not set(before.values()) & set(_sources(package).values())


@pytest.mark.parametrize(
    ("file", "names"), [("named.py", NAMES[:3]), ("deep/numbers.py", NAMES)], ids=["named", "deep"]
)
def test_it_is_found_behind_what_wraps_it(package, file, names):
    """Of an object by itself, as where an entry point names it, or ``register_method``."""

    def sources():
        _forget(package.name)
        module = importlib.import_module(f"{package.name}.named")
        return {name: source_of("mine", getattr(module, name)) for name in names}

    before = sources()
    assert before == sources()
    (package / file).write_text(FILES[file] + "\nANOTHER = 2\n")
    assert not set(before.values()) & set(sources().values())


def test_what_is_not_imported_does_not_count(package):
    before = _sources(package)
    (package / "apart.py").write_text("ONE = 2\n")
    assert before == _sources(package)


def test_imports_of_a_named_file_count(package):
    (package.parent / "mine.py").write_text(f"from {package.name}.named import hidden\n")

    def source():
        _forget(package.name)
        return source_of("mine.py:hidden", load_reference("mine.py:hidden", "metric"))

    before = source()
    (package / "deep" / "numbers.py").write_text("ONE = 2\n")
    other = source()
    (package / "deco.py").write_text(FILES["deco.py"] + "\n# changed\n")
    assert len({before, other, source()}) == 3


def test_what_is_imported_counts_as_it_runs(package):
    name = f"{package.name}.named:simple"
    target = load_reference(name, "condenser")
    before = source_of(name, target)
    (package / "parts.py").write_text(FILES["parts.py"] + "\n# changed\n")
    assert source_of(name, target) == before
    importlib.reload(sys.modules[f"{package.name}.parts"])
    assert source_of(name, target) != before


def test_what_a_partial_holds_counts_where_no_file_says_it():
    def made(network, members, by):
        return by

    one, other = (functools.partial(made, by=by) for by in (1, 2))
    assert source_of("mine", one) != source_of("mine", other)
    assert source_of("mine", one) == source_of("mine", functools.partial(made, by=1))


def test_code_in_one_file_has_the_name_that_it_always_had(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "one.py").write_text(
        "import math\nimport jax\n\n\ndef forget(task, hooks):\n    1\n"
    )
    target = load_reference("one.py:forget", "method")
    text = hashlib.sha256(Path("one.py").read_bytes()).hexdigest()
    found = hashlib.sha256((text + text).encode()).hexdigest()
    assert source_of("one.py:forget", target) == found

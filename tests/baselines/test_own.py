"""Methods of the user's own: by file, by name, and what is refused at the door."""

import dataclasses
import importlib.metadata
import json
import re
import sys
import types

import pytest
from baselines.setting import make_task
from cli.test_cli import DATA, TINY, _dcmu
from service.toy import CONFIG
from toys import same_bits

from dcmu_jax.baselines import own
from dcmu_jax.baselines.registry import build_method
from dcmu_jax.errors import InputError
from dcmu_jax.runs.config import RunConfig
from dcmu_jax.runs.meant import check_meant
from dcmu_jax.runs.results import read_results
from dcmu_jax.runs.run import Run
from dcmu_jax.training.divergence import Diverged
from dcmu_jax.unlearning.task import Hooks

FILE = '''
from __future__ import annotations

import dataclasses

import jax


@dataclasses.dataclass(frozen=True)
class Shrink:
    """Every parameter times a factor."""

    factor: float = 0.5
    sees_forget_set = False

    def __call__(self, task, hooks):
        variables = jax.tree.map(lambda x: self.factor * x, task.original.variables)
        return dataclasses.replace(task.original, variables=variables)


class Plain:
    def __call__(self, task, hooks):
        return task.original


def nothing(task, hooks):
    return task.original


def wrong(task, hooks):
    return task.original.variables


def few(task):
    return task.original


def loss(network, *, forget, **rest):
    return network.evaluate(forget).losses.mean()


def mean(network, members):
    return [each.images.mean(axis=0) for each in members]


def text(network, **sets):
    return "high"


number = 3
'''


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(FILE)
    return tmp_path


@pytest.fixture(scope="module")
def task():
    return make_task()


@pytest.mark.parametrize("name", ["mine.py:nothing", "mine.py:Plain"])
def test_a_callable_that_returns_a_network_is_a_method(here, task, name):
    method = build_method(name)
    found = method(task, Hooks())
    assert same_bits(found.classifier.variables, task.original.variables)
    # Nothing was counted, which is not nothing.
    assert method.sees_forget_set and found.reduction is None and found.flops is None
    assert found.online_s >= 0 and sorted(found.trained_ids) == sorted(task.known().ids)


def test_the_fields_of_a_dataclass_are_settings(here, task):
    method = build_method("mine.py:Shrink", {"factor": 0.0})
    assert not method.sees_forget_set and method.settings == {"factor": 0.0}
    found = method(task, Hooks()).classifier.variables["params"]["final"]
    assert all(not leaf.any() for leaf in found.values() if hasattr(leaf, "any"))
    with pytest.raises(InputError, match="Did you mean 'factor'"):
        build_method("mine.py:Shrink", {"facto": 1.0})
    with pytest.raises(InputError, match=r"no settings.*make the method a dataclass"):
        build_method("mine.py:Plain", {"factor": 1.0})


def test_names_are_registered(here, task):
    try:
        own.register_method("mine", lambda task, hooks: task.original)
        assert build_method("mine").name == "mine"
    finally:
        own._REGISTERED.clear()
    for name in ("retrain", "a/b", "", ".hidden", "a:b", 3):
        with pytest.raises(InputError, match="for a method of your own"):
            own.register_method(name, lambda task, hooks: task.original)


def test_one_that_is_passed_as_it_is_has_the_name_of_its_function_or_class():
    def mine(task, hooks):
        return task.original

    class Kept:
        def __call__(self, task, hooks):
            return task.original

    try:
        kept = Kept()
        assert [own.name_of(one) for one in (mine, kept, "scrub")] == ["mine", "Kept", "scrub"]
        assert (own.own_target("mine"), own.own_target("Kept")) == (mine, kept)
        with pytest.raises(InputError, match=r"no name .*register_method"):
            own.name_of(lambda task, hooks: task.original)
        with pytest.raises(InputError, match="cannot be called with a task and hooks"):
            own.name_of(lambda task: task.original)
    finally:
        own._REGISTERED.clear()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"baselines": (own.name_of,)}, r"holding a function, name_of.*register_method.*file\.py:"),
        ({"baselines": own.name_of}, "holding a function, name_of"),
        ({"metrics": (own.name_of,)}, r"metrics holding a function.*'file\.py:attribute'.*compare"),
    ],
)
def test_settings_take_names_and_say_how_to_give_one(given, message):
    with pytest.raises(InputError, match=message):
        check_meant(types.SimpleNamespace(**vars(RunConfig()) | given))


def test_a_misspelt_name_of_ones_own_is_told_with_those_there_are(monkeypatch, here):
    entry = importlib.metadata.EntryPoint("minimal", "nowhere:forget", own.GROUP)
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [entry])
    try:
        own.register_method("mine", lambda task, hooks: task.original)
        for wrong, right in (("minee", "mine"), ("minimall", "minimal")):
            with pytest.raises(InputError) as told:
                RunConfig(baselines=(wrong,)).check()
            assert "mine, minimal, " in str(told.value)
            assert told.value.remedy == f"Did you mean {right!r}?"
            with pytest.raises(InputError, match=f"Did you mean '{right}'"):
                build_method(wrong)
        with pytest.raises(InputError, match=r"Name the function in it: mine\.py:FUNCTION"):
            build_method("mine.py")
    finally:
        own._REGISTERED.clear()


def test_what_a_file_imports_is_no_choice(here):
    with pytest.raises(InputError) as told:
        build_method("mine.py:jaxx")
    assert "Shrink" in told.value.allowed and "jax" not in told.value.allowed


def test_entry_points_of_other_packages_are_methods(monkeypatch, task):
    entry = importlib.metadata.EntryPoint("theirs", "own_method_of_a_package:forget", own.GROUP)
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [entry])
    module = types.ModuleType("own_method_of_a_package")
    module.forget = lambda task, hooks: task.original
    monkeypatch.setitem(sys.modules, module.__name__, module)
    assert build_method("theirs")(task, Hooks()).classifier is task.original


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("other.py:nothing", r"there is no file 'other\.py'"),
        ("mine.py:nothin", r"Did you mean 'nothing'"),
        ("mine.py:number", r"which is an int"),
        ("mine.py:few", r"cannot be called with a task and hooks"),
        ("no_such_module:forget", r"no_such_module cannot be run \(ModuleNotFoundError"),
        ("broken.py:forget", r"broken\.py cannot be run \(SyntaxError"),
        ("nothing", r"Unknown unlearning method 'nothing'"),
    ],
)
def test_what_is_no_method(here, name, message):
    (here / "broken.py").write_text("def forget(:\n")
    with pytest.raises(InputError, match=message):
        build_method(name)


def test_a_wrapped_method_is_known_by_the_file_that_is_named(here):
    text = "import functools\nfrom base import base\npart = functools.partial(base, epochs={})\n"
    (here / "base.py").write_text("def base(task, hooks, epochs=1):\n    return task.original\n")
    sys.path.insert(0, str(here))
    try:
        sources = set()
        for epochs in (1, 2):  # the same size, within a second
            (here / "wrapped.py").write_text(text.format(epochs))
            method = build_method("wrapped.py:part")
            sources.add(method.source)
            assert method._call.keywords == {"epochs": epochs}
        assert len(sources) == 2
    finally:
        sys.path.remove(str(here))
        sys.modules.pop("base", None)


def test_a_file_that_ends_the_program_is_refused(here, task):
    (here / "ends.py").write_text("import sys\nsys.exit(0)\n")
    with pytest.raises(InputError, match=r"ends\.py cannot be run \(SystemExit"):
        build_method("ends.py:forget")
    (here / "later.py").write_text("import sys\ndef forget(task, hooks):\n    sys.exit(0)\n")
    with pytest.raises(InputError, match=r"'later\.py:forget' fails \(SystemExit: 0.*line 3\)"):
        build_method("later.py:forget")(task, Hooks())


@pytest.mark.parametrize("error", [KeyError("x"), Diverged("not finite"), MemoryError()])
def test_a_method_that_raises(here, task, error):
    def forget(task, hooks):
        raise error

    wrapped = own.wrapped("mine", forget, forget)
    with pytest.raises((InputError, MemoryError)) as caught:
        wrapped(task, Hooks())
    if isinstance(error, KeyError):
        assert "The method 'mine' fails (KeyError: 'x'" in str(caught.value)
    else:  # of a training, or of the machine: told of as such
        assert caught.value is error


def test_what_a_method_may_not_return(here, task):
    with pytest.raises(InputError, match=r"returned a dict.*Return the network"):
        build_method("mine.py:wrong")(task, Hooks())


def test_a_run_finds_it_again_until_its_file_changes(here):
    name = "mine.py:Shrink"
    config = dataclasses.replace(CONFIG, baselines=(name,), settings={name: {"factor": 0.25}})
    run = Run.create("run", config)
    first = run.unlearn("class:2", name)
    assert Run.open("run").unlearn("class:2", name).directory == first.directory
    assert first.directory.name == "mine.py-Shrink"
    (here / "mine.py").write_text(FILE.replace("self.factor * x", "0 * self.factor * x"))
    second = Run.open("run").unlearn("class:2", name)
    assert second.directory != first.directory
    assert not same_bits(
        second.unlearned.classifier.variables, first.unlearned.classifier.variables
    )


def test_the_comparison_of_the_command_line(here, capsys):
    tiny = [option for option in TINY if option != "--baselines"]
    given = ["run", "--dataset", DATA, "--out", "run", *tiny]
    mine = ["--metrics", "mine.py:loss", "--method.condensation.condenser", "mine.py:mean"]
    assert _dcmu(*given, "--baselines", "mine.py:nothing", *mine) == 0
    printed = capsys.readouterr().out
    assert "mine.py:nothing" in printed and "Metrics of your own" in printed
    report = (here / "run" / "report.html").read_text()
    assert "mine.py:nothing" in report and "<dt>mine.py:loss</dt>" in report
    identity = json.loads((here / "run" / "prepared" / "recommended" / "identity.json").read_text())
    assert identity["made_of"]["condensation"]["condenser"] == "mine.py:mean"
    assert identity["made_of"]["source"]
    rows = read_results(here / "run").set_index("method")["own.mine.py:loss"]
    log = (here / "run" / "metrics.jsonl").read_text().splitlines()
    lines = [json.loads(line) for line in log]
    logged = {line["method"]: line["own.mine.py:loss"] for line in lines if "method" in line}
    assert rows.to_dict() == logged
    retrained, value = logged["retrain"], logged["original"]
    assert re.search(
        rf"original +{value:.4g} +" + re.escape(f"({value - retrained:+.3g})"), printed
    )
    assert _dcmu("forget", "run", "--method", "mine.py:nothing", "--quiet") == 0
    printed = capsys.readouterr().out
    assert "trained on an unknown share of the retain set" in printed
    assert f"mine.py:loss: {value:.4g} before, {value:.4g} after" in printed
    assert _dcmu("forget", "run", "--metrics", "mine.py:text", "--quiet") == 2
    assert "'mine.py:text' returned a str" in capsys.readouterr().err
    assert _dcmu("compare", "run", "--metrics", "mine.py:los", "--quiet") == 2
    assert "Did you mean 'loss'" in capsys.readouterr().err
    assert _dcmu(*given, "--baselines", "absent.py:nothing") == 2
    assert _dcmu(*given, "--method.condensation.condenser", "absent.py:mean") == 2

"""What messages advise exists: every option, command, setting and name in them."""

import ast
import contextlib
import dataclasses
import functools
import io
import re
from pathlib import Path

import jax
import pytest
from cli.test_cli import DATA, TINY, _dcmu
from toys import toy_splits

import dcmu_jax
from dcmu_jax.applications.condensed_model_run import CondensedModelConfig
from dcmu_jax.baselines.registry import METHODS
from dcmu_jax.cli import COMMANDS
from dcmu_jax.cli.service import SERVICE_COMMANDS
from dcmu_jax.data.tfds_source import _absent
from dcmu_jax.errors import InputError
from dcmu_jax.runs.config import RunConfig, check_method_name
from dcmu_jax.runs.options import RemembranceOptions
from dcmu_jax.runs.presets import preset
from dcmu_jax.runs.run import Run
from dcmu_jax.runs.stages import usable_tests

PACKAGE = Path(dcmu_jax.__file__).parent
_UNKNOWN = "\x00"
"""Stands for what a message computes."""


def _texts(node):
    """Every text within an expression, computed parts as ``_UNKNOWN``."""
    if isinstance(node, ast.JoinedStr):
        parts = [v.value if isinstance(v, ast.Constant) else _UNKNOWN for v in node.values]
        yield "".join(map(str, parts))
        for value in node.values:
            if isinstance(value, ast.FormattedValue):
                yield from _texts(value.value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    else:
        for child in ast.iter_child_nodes(node):
            yield from _texts(child)


def _messages():
    """File and text of every literal that may reach a message: all but docstrings."""
    for file in sorted(PACKAGE.rglob("*.py")):
        tree = ast.parse(file.read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                node.value = ast.Constant(None)
        name = file.relative_to(PACKAGE).as_posix()
        yield from ((name, text) for text in _texts(tree))


def _found(pattern):
    """Words of messages that match, without those that are computed in part."""
    for file, text in _messages():
        for match in re.finditer(pattern, text):
            around = text[max(0, match.start() - 1) : match.end() + 1]
            if _UNKNOWN not in around:
                yield file, match


@pytest.fixture(scope="module")
def options():
    """Every option of every command, from its help as it is printed."""
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", "400")  # no option is broken over two lines
        for command in COMMANDS:
            text = io.StringIO()
            with contextlib.redirect_stdout(text):
                assert _dcmu(command, "--help") == 0
            found[command] = set(re.findall(r"--[a-z][\w.-]*", text.getvalue()))
    return found


def test_options_exist(options):
    said = [(file, m[0].rstrip(".")) for file, m in _found(r"(?<![\w-])--[a-z][\w.-]*")]
    assert len(said) > 30
    for file, word in said:
        of = _commands_of(file)
        every = set().union(*(options[name] for name in of)) | {"--help", "--version"}
        # The beginning of several, such as --method.
        assert any(option == word or option.startswith(f"{word}.") for option in every), (
            file,
            word,
        )


def _commands_of(file):
    """The commands that can say what a file of the package says."""
    if file == "cli/condensed_model.py":
        return ["condensed-model"]
    if file.startswith("service/") or file == "cli/service.py":
        return list(SERVICE_COMMANDS)
    return list(COMMANDS)


def test_commands_exist():
    said = [(file, m[1]) for file, m in _found(r"\bdcmu ([a-z][\w-]*)")]
    assert len(said) > 5
    assert not [(file, word) for file, word in said if word not in COMMANDS]


def test_an_option_said_with_its_command_is_one_of_it(options):
    for file, match in _found(r"\bdcmu ([a-z][\w-]*)(?: [A-Zw]+)?:? (--[a-z][\w.-]*)"):
        assert match[2].rstrip(".") in options[match[1]], (file, match[0])


def _has(value, path):
    try:
        functools.reduce(getattr, path.split("."), value)
    except AttributeError:
        return False
    return True


def test_settings_exist():
    known = (RunConfig(), CondensedModelConfig())
    fields = {
        field.name
        for config in known
        for field in dataclasses.fields(config)
        if dataclasses.is_dataclass(getattr(config, field.name))
    }
    pattern = rf"(?<![\w./-])(?:{'|'.join(sorted(fields))})(?:\.[a-z]\w*)++(?!\w*[/(])"
    said = [(file, m[0]) for file, m in _found(pattern)]
    said = [(f, word) for f, word in said if not word.endswith((".json", ".npz", ".txt", ".csv"))]
    assert len(said) > 4
    assert not [(f, word) for f, word in said if not any(_has(c, word) for c in known)]


def test_names_of_python_exist():
    said = list(_found(r"(?<![\w.])(Run|RunConfig|Workspace|CondensedBank)\.([a-z]\w*)"))
    assert said
    for file, match in said:
        named = getattr(dcmu_jax, match[1], None)
        fields = getattr(named, "__dataclass_fields__", {})
        assert match[2] in fields or _has(named, match[2]), (file, match[0])


def test_a_run_of_two_devices_goes_on_on_one_as_the_message_says(tmp_path, capsys, monkeypatch):
    out = tmp_path / "run"
    new = ("train", "--dataset", DATA, "--out", out, *TINY)
    assert _dcmu(*new, "--devices", "2") == 0
    capsys.readouterr()
    assert _dcmu("forget", out, "--devices", "3", "--quiet") == 2
    said = capsys.readouterr().err
    option = re.search(r"Set (--devices) to (\d)", said)
    assert option and "Set it" not in said, said  # no other option can be given now
    assert _dcmu("forget", out, option[1], option[2], "--quiet") == 0
    monkeypatch.setattr("jax.devices", lambda *_: _one())
    for command in (("prepare", out), ("forget", out), ("compare", out), ("audit", out)):
        capsys.readouterr()
        assert _dcmu(*command, "--quiet") == 2
        said = capsys.readouterr().err
        option = re.search(r"Set (--devices) to (\d)", said)
        assert option, said
        if command[0] in ("prepare", "forget"):
            assert _dcmu(*command, option[1], option[2], "--quiet") == 0
    assert _dcmu("train", "--resume", "--out", out, "--quiet") == 2
    assert _dcmu("train", "--resume", "--out", out, "--quiet", "--devices", "1") == 0
    assert _dcmu(*new, "--start-or-resume", "--devices=1") == 0
    with pytest.raises(InputError, match=r"Set --devices to 1.*Run\.open\(..., devices=1\)"):
        Run.open(out)
    assert Run.open(out, devices=1).config.devices == 1


@functools.cache
def _one():
    return jax.local_devices()[:1]


def test_the_way_to_a_data_set_is_an_option(options):
    remedy = _absent("cifar10", None, "absent").remedy
    assert "--data.download" in options["run"] and "--data.download" in remedy
    assert "--download" in options["condensed-model"]
    assert "--data.directory" in options["train"] and "--data.directory" in remedy


def test_too_many_remembrance_samples_are_lowered_as_the_messages_say(options):
    splits = toy_splits(per_class=40)  # 10 test samples of each class
    with pytest.raises(InputError) as caught:
        usable_tests(RunConfig(), splits, ("recommended",))
    option, most = re.search(r"Lower (--\S+) to (\d+)", caught.value.remedy).groups()
    assert option in options["train"]
    *_, group, name = option.removeprefix("--").replace("-", "_").split(".")
    fewer = RemembranceOptions(**{name: int(most)})
    method = dataclasses.replace(RunConfig().method, **{group: fewer})
    lowered = RunConfig(method=method, baselines=("paper",))
    assert usable_tests(lowered, splits, ("recommended",)).sum() == splits.num_classes
    both = ("recommended", "paper")
    with pytest.raises(InputError, match=r"per_class of paper \(RunConfig.settings;.* to 9"):
        usable_tests(lowered, splits, both)
    lowered = dataclasses.replace(lowered, settings={"paper": {group: {name: 9}}})
    with pytest.raises(InputError, match=r"Leave paper out of --baselines, lower --method"):
        usable_tests(lowered, splits, both)


def test_options_of_the_method_say_whom_they_reach(tmp_path, capsys):
    baselines = [word for word in TINY if word not in ("--baselines", "--quiet")]
    arguments = ["train", "--dataset", "digits", "--model", "mlp", *baselines, "--quiet"]
    out = tmp_path / "run"
    assert _dcmu(*arguments, "--out", out, "--baselines", "paper", "condensed") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "--method options are settings of recommended alone; paper, condensed among" in said
    assert _dcmu(*arguments, "--out", tmp_path / "other", "--baselines", "retrain") == 0
    assert "--method options" not in capsys.readouterr().out


def test_settings_reach_presets_among_the_baselines():
    config = RunConfig(
        baselines=("paper",),
        settings={"paper": {"online": {"rounds": 20, "tail": 3}, "offline": {"rounds": 0}}},
    )
    config.check()
    changed, published = config.options_of("paper"), preset("paper", "mlp")
    assert (changed.online.rounds, changed.online.tail, changed.offline.rounds) == (20, 3, 0)
    assert changed.online.round_steps == published.online.round_steps
    assert changed.online_classes == published.online_classes
    assert config.options_of("recommended") == config.method


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"paper": {"onlin": {}}}, "Unknown setting of paper 'onlin'.*Did you mean 'online'"),
        ({"paper": {"online": {"round": 3}}}, "setting of paper.online 'round'"),
        ({"paper": {"online": {"rounds": "many"}}}, "online.rounds = 'many' for the preset"),
        ({"papr": {}}, "Unknown baseline in settings 'papr'.*Did you mean 'paper'"),
        ({"recommended": {}}, "the preset of the run itself.*Give them as method"),
        ({"paper": {"online": {"rounds": "3"}}}, "online.rounds = '3' for the preset 'paper'"),
        ({"retrain": {"epochs": 3}}, "'retrain', which has no settings.*Leave them out"),
        ({"cf_k": {"epochs": -1}}, "epochs = -1 for the method 'cf_k'"),
        ({"cf_k": {"epochs": "3"}}, "epochs = '3' for the method 'cf_k'. Allowed: a valid integer"),
        ({"cf_k": {"epochs": True}}, "epochs = True for the method"),
        ({"cf_k": {"optimizer": {"learning_rate": -1}}}, "learning_rate = -1"),
        ({"cf_k": {"k": 3}}, "k = 3 last parts for the method"),
        ({"sparsity": {"epochs": -1}}, "epochs = -1 for the method 'sparsity'"),
        ({"scrub": {"epochs": 1}}, "max_epochs = 2 of 1 epochs"),
        ({"prune_and_unlearn": {"density": 0.0}}, "density = 0.0"),
        ({"distillation": {"temperature": 0}}, "temperature = 0.0"),
        ({"saliency": {"share": 2}}, "share = 2.0"),
        ({"boundary_shrink": {"epsilon": 0}}, "epsilon = 0.0"),
        ({"negative_gradient": {"alpha": 1}}, "alpha = 1.0"),
        ({"selective_synaptic_dampening": {"alpha": 0}}, "alpha = 0.0"),
        ({"fast_retraining": {"training": {"epochs": 0}}}, "training.epochs = 0"),
        ({"fast_retraining": {"training": {"batch_size": 0}}}, "batch_size = 0"),
    ],
    ids=str,
)
def test_settings_of_baselines_are_checked_at_the_door(settings, message):
    baselines = ("paper", *(name for name in settings if name in METHODS and name != "retrain"))
    with pytest.raises(InputError, match=message):
        RunConfig(baselines=baselines, settings=settings).check()


def test_names_of_methods_that_a_run_allows_can_be_given():
    with pytest.raises(InputError) as caught:
        RunConfig(baselines=("foo",)).check()
    names, *_ = caught.value.allowed.partition(";")
    for name in names.split(", "):
        RunConfig(baselines=(name,)).check()
    for check in (
        RunConfig(baselines=("modular",)).check,
        lambda: check_method_name("m", "modular"),
    ):
        with pytest.raises(InputError, match="Name the preset"):
            check()

"""The command line: the main job in one and by stages, and every bad input by its message."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from data.bad_archives import BAD_ARCHIVES, good_arrays
from toys import Plain, fresh

from dcmu_jax import cli
from dcmu_jax.applications.condensed_model_bench import CondensedModelBench
from dcmu_jax.applications.condensed_model_recipes import recipe
from dcmu_jax.cli import commands, main
from dcmu_jax.metrics.overfitting import overfitting_metric
from dcmu_jax.runs.run import Run
from dcmu_jax.training.checkpoints import load_classifier
from dcmu_jax.training.classifier import fresh_classifier

DATA = "synthetic:classes=3,per_class=24,size=8,channels=1"
TINY = [
    "--network.width=0.05",
    "--training.epochs=2",
    "--training.batch-size=24",
    "--method.remembrance.per-class=2",
    "--method.condensation.matching.steps=2",
    "--method.condensation.clusters-per-class=6",
    "--baselines",
    "--quiet",
]


def _dcmu(*arguments):
    """The exit status; argument errors of the parser leave by SystemExit."""
    try:
        return main([str(argument) for argument in arguments])
    except SystemExit as stop:
        return stop.code


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A run with its original trained and nothing more."""
    out = tmp_path_factory.mktemp("runs") / "saved"
    assert _dcmu("train", "--dataset", DATA, "--out", out, "--forget", "class:1", *TINY) == 0
    return out


def test_the_stages_of_a_saved_run(saved, capsys):
    assert _dcmu("prepare", saved, "--quiet") == 0
    assert "18 condensed images of 72 samples" in capsys.readouterr().out
    assert _dcmu("forget", saved, "--forget", "random:0.1", "--quiet") == 0
    out = capsys.readouterr().out
    assert "7 samples forgotten in " in out
    network = re.search(r"new model in (.*)", out)
    assert network and Path(network[1]).is_dir()
    assert _dcmu("forget", saved, "--method", "retrain", "--quiet") == 0
    assert "24 samples forgotten in " in capsys.readouterr().out
    assert not (saved / "report.html").exists()
    assert _dcmu("compare", saved, "--quiet") == 0
    out = capsys.readouterr().out
    assert all(name in out for name in ("original", "retrain", "recommended", "report.html"))
    assert (saved / "report.html").is_file() and (saved / "table.csv").is_file()


def test_an_audit_of_a_saved_run(saved, capsys):
    assert _dcmu("audit", saved, "--oracles", "4", "--quiet") == 0
    out = capsys.readouterr().out
    assert "Audit of forgetting class:1" in out and "passed" in out
    (found,) = saved.rglob("audit.json")
    audits = {audit["kind"]: audit for audit in json.loads(found.read_text())}
    assert list(audits) == ["original", "retrain", "recommended"]
    numbers = audits["original"]["statistics"]["lira_auc"]
    assert numbers["low"] <= numbers["oracles_mean"] <= numbers["high"]
    assert "What is left of the forgotten class" in out and "relearning" in out
    for audit in audits.values():
        trace = audit["traces"]["linear_class"]
        assert trace["within"] == (trace["low"] <= trace["value"] <= trace["high"])
    page = (saved / "report.html").read_text()
    assert "Networks compared with ones that never saw the forgotten samples" in page
    assert "What is left of the forgotten class in features" in page
    assert (saved / "figures" / "audit.png").is_file()
    oracles = {path: path.stat().st_mtime_ns for path in saved.rglob("oracle-*.npz")}
    assert _dcmu("audit", saved, "--oracles", "4", "--quiet") == 0
    assert oracles == {path: path.stat().st_mtime_ns for path in saved.rglob("oracle-*.npz")}


def test_the_defence_of_a_saved_run(saved, capsys):
    (saved / "report.html").touch()  # as if the run had been compared
    asked = ("defend", saved, "--rule", "quantile", "--share", "0.25", "--epochs", "2", "--quiet")
    assert _dcmu(*asked) == 0
    out = capsys.readouterr().out
    assert "18 of 72 samples (25.0 %) lie at or below the threshold" in out
    (folder,) = (saved / "defence").iterdir()
    found = json.loads((folder / "defence.json").read_text())
    run = Run.open(saved)
    values = overfitting_metric(run.train(), run.splits.train).values
    chosen = np.isin(run.splits.train.ids, found["ids"])
    assert chosen.sum() == 18 and values[chosen].max() < values[~chosen].min()
    assert found["before"]["train_accuracy"] == pytest.approx(
        100 * run.train().evaluate(run.splits.train).correct.mean()
    )
    like = fresh_classifier(run.model, run.splits.train, 0)
    network = load_classifier(folder / "network", run.model, like)
    assert network.fingerprint() != run.train().fingerprint()
    usable = run.usable_tests()
    accuracy = 100 * network.evaluate(run.splits.test).correct[usable].mean()
    assert found["after"]["test_accuracy"] == pytest.approx(accuracy)
    for figure in ("histogram", "attack"):
        assert (folder / f"{figure}.png").read_bytes().startswith(b"\x89PNG")
    page = (folder / "defence.html").read_text()
    assert "25.0\N{NO-BREAK SPACE}%" in page and page.count("What cannot.") == 2
    report = (saved / "report.html").read_text()
    assert "rule quantile, share 0.25, 2 epochs, recommended</h2>" in report
    assert "18 of 72 training samples (25.0 %) lie at or left of the dashed line" in report
    audited = bool(list(saved.rglob("audit.json")))  # its section stays where it was
    assert ("What is left of the forgotten class in features" in report) == audited
    files = [*folder.rglob("*"), saved / "report.html"]
    times = [path.stat().st_mtime_ns for path in files]
    assert _dcmu(*asked) == 0  # done, and not done again
    assert times == [path.stat().st_mtime_ns for path in files]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--share", "1.5"), "share = 1.5"),
        (("--epochs", "1"), "epochs = 1"),
        (("--preset", "papper"), "Did you mean 'paper'"),
        (("--rule", "lira", "--shadows", "5"), "shadows = 5"),
    ],
    ids=lambda value: value[-2] if isinstance(value, tuple) else "",
)
def test_a_defence_that_makes_no_sense(saved, capsys, arguments, message):
    assert _dcmu("defend", saved, *arguments, "--quiet") == 2
    assert message in capsys.readouterr().err
    assert _dcmu("defend", saved / "nowhere", "--quiet") == 2
    assert "is no run directory" in capsys.readouterr().err


def test_the_whole_job_in_a_process_of_its_own(tmp_path):
    command = [sys.executable, "-m", "dcmu_jax.cli", "run", "--dataset", DATA, *TINY]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (out,) = (tmp_path / "runs").iterdir()  # the default directory
    assert re.fullmatch(r"\d{8}-\d{6}-synthetic-mlp-recommended", out.name)
    assert f"Run directory: runs/{out.name}" in done.stdout
    for file in ("config.json", "metrics.jsonl", "table.csv", "report.html"):
        assert (out / file).stat().st_size > 0
    again = subprocess.run(
        [*command, "--forget", "class:7", "--out", "runs/other"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert again.returncode == 2
    assert again.stderr.startswith("dcmu: There is no class '7'. Allowed: one of the 3 classes")
    assert "Traceback" not in again.stderr
    assert not (tmp_path / "runs" / "other").exists()


def test_resume_goes_on_with_the_saved_settings(saved, capsys):
    before = (saved / "config.json").read_text()
    assert _dcmu("train", "--resume", "--out", saved, "--quiet") == 0
    assert "accuracy on the whole test split" in capsys.readouterr().out
    assert (saved / "config.json").read_text() == before


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["--seed", "7"], r"--seed = 7 where the run has 0"),
        (["--seed=7", "--forget", "class:0"], r"--forget = 'class:0' .*--seed = 7"),
        (["--preset", "paper"], r"--preset = 'paper' where the run has 'recommended'"),
        (["--model", "cnn"], r"--model = 'cnn'"),
        (["--baselines", "scrub"], r"--baselines = \['scrub'\] where"),
        (["--rivals=scrub"], r"--baselines = \['scrub'\] where"),
        (
            ["--method.online.closing-steps.0.epochs", "77"],
            r"--method\.online\.closing-steps\.0\.epochs = 77 where the run has",
        ),
    ],
)
def test_other_settings_beside_resume_are_refused(saved, capsys, given, says):
    _refused(capsys, says, "train", "--resume", "--out", saved, "--quiet", *given)


def test_a_new_default_beside_resume_is_another_setting(tmp_path, capsys):
    out = tmp_path / "run"
    assert _dcmu("train", "--dataset", DATA, "--out", out, *TINY, "--seed", "3") == 0
    _refused(
        capsys, r"--seed = 0 where the run has 3", "train", "--resume", "--out", out, "--seed=0"
    )
    assert _dcmu("train", "--resume", "--out", out, *TINY, "--seed", "3", "--devices", "1") == 0
    says = r"other settings \(dataset = .*, seed = 3, not 0\)"
    _refused(capsys, says, "train", "--start-or-resume", "--out", out, *TINY)


def test_help_and_version(capsys):
    assert _dcmu("--version") == 0
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", capsys.readouterr().out)
    assert _dcmu("--help") == 0
    assert "compare" in capsys.readouterr().out
    assert _dcmu() == 2
    capsys.readouterr()
    assert _dcmu("run", "--model", "cnn", "--preset", "paper", "--help") == 0
    shown = capsys.readouterr().out
    for flag in ("--dataset", "--model", "--forget", "--preset", "--seed", "--out"):
        assert flag in shown
    # The defaults shown are those of the preset and the model: S = 30, tau = 25 for the CNN.
    assert "(default: 30)" in shown and "(default: 25)" in shown


def test_the_overview_says_what_the_handlers_say_and_loads_none_of_them():
    told = {name: handler.__doc__ for name, (handler, _) in commands.COMMANDS.items()}
    assert list(told.items()) == list(cli.COMMANDS.items())
    code = "import sys; from dcmu_jax.cli import main; main(['--help']); print(*sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"jax", "numpy", "pandas", "tyro", "dcmu_jax.cli.commands"} & set(shown.stdout.split())
    assert "compare" in shown.stdout and not heavy


def _refused(capsys, message, *arguments):
    """Exit status 2, one message in three parts, no traceback."""
    capsys.readouterr()
    assert _dcmu(*arguments) == 2
    printed = capsys.readouterr().err
    assert "Traceback" not in printed
    assert re.search(message, printed), printed
    assert re.match(r"dcmu: .+\. Allowed: .+\. .+\n$", printed, re.DOTALL), printed


@pytest.mark.parametrize("kind", BAD_ARCHIVES)
def test_bad_archives(tmp_path, capsys, kind):
    write, message = BAD_ARCHIVES[kind]
    archive = tmp_path / "bad.npz"
    write(archive)
    out = tmp_path / "runs" / "run"
    _refused(capsys, message, "train", "--dataset", f"npz:{archive}", "--out", out, *TINY)
    assert not out.parent.exists()


_FILES = {
    "text.txt": "1 2 three",
    "empty.txt": "",
    "one.txt": "1",
    "twice.txt": "1 2 2",
    "unknown.txt": "1 2 999999",
    "all.txt": "\n".join(map(str, range(96))),
}

BAD_NEW_RUNS = {
    "unknown dataset": (["--dataset", "sintetic"], r"source 'sintetic'.*Did you mean 'synthetic'"),
    "npz without prefix": (["--dataset", "mine.npz"], r"Unknown source 'mine\.npz'.*npz:mine\.npz"),
    "npy without folder": (["--dataset", "npy:none"], r"There is no folder none"),
    "unknown model": (["--model", "resnet"], r"Unknown model 'resnet'.*Did you mean 'resnet18'"),
    "unknown preset": (["--preset", "papper"], r"Unknown preset 'papper'.*Did you mean 'paper'"),
    "unknown baseline": (["--baselines", "retrane"], r"method 'retrane'.*Did you mean 'retrain'"),
    "small images": (["--model", "vgg16"], r"Images of 8x8 pixels for the model 'vgg16'.*32x32"),
    "unknown class": (["--forget", "class:3"], r"There is no class '3'.*0, 1, 2"),
    "unknown term": (["--forget", "klass:1"], r"request 'klass'.*Did you mean 'class'"),
    "empty request": (["--forget", ""], r"Forget request '' is empty"),
    "fraction 0": (["--forget", "random:0"], r"random:0\. .*strictly between"),
    "fraction 1": (["--forget", "random:1"], r"random:1\. .*strictly between"),
    "fraction of no sample": (["--forget", "random:0.001"], r"is no sample"),
    "no fraction": (["--forget", "random:some"], r"random:some.*Write random:0\.1"),
    "all classes": (["--forget", "class:0+class:1+class:2"], r"asks for all 72 training samples"),
    "ids missing": (["--forget", "ids:none.txt"], r"There is no file of ids 'none\.txt'"),
    "ids as text": (["--forget", "ids:text.txt"], r"text\.txt holds something other than ids"),
    "no ids": (["--forget", "ids:empty.txt"], r"empty\.txt holds no id"),
    "one id": (["--forget", "ids:one.txt"], r"One forgotten sample is too few.*dcmu forget RUN"),
    "duplicate ids": (["--forget", "ids:twice.txt"], r"twice\.txt holds duplicates: 2"),
    "unknown ids": (["--forget", "ids:unknown.txt"], r"Unknown id\(s\): 999999"),
    "test fraction": (["--data.test-fraction", "1.5"], r"test_fraction = 1\.5"),
    "K of 0": (["--method.condensation.clusters-per-class", "0"], r"clusters_per_class = 0"),
    "expected fraction": (
        ["--method.condensation.expected-fraction", "2"],
        r"expected_fraction = 2",
    ),
    "crop": (["--training.crop", "-1"], r"crop_padding = -1"),
    "large crop": (["--training.crop", "8"], r"training\.crop = 8 on images of 8 pixels"),
    "no epochs": (["--training.epochs", "0"], r"training\.epochs = 0"),
    "width": (["--network.width", "0"], r"width = 0"),
    "mean alone": (["--data.mean", "0.5"], r"Only one of data\.mean and data\.std"),
    "std of two": (["--data.mean", "0.5", "--data.std", "1", "1"], r"1 finite number,"),
    "devices": (["--devices", "99"], r"devices = 99"),
    "uneven batch": (
        ["--devices", "8", "--training.batch-size", "20"],
        r"A batch of 20 over 8 devices",
    ),
    "much remembrance": (
        ["--method.remembrance.per-class", "6"],
        r"6 remembrance samples per class, but class 0 has only 6",
    ),
    "seed": (["--unlearning-seed", "-1"], r"unlearning_seed = -1"),
    "tail": (
        ["--preset", "paper", "--method.online.tail", "30"],
        r"tail = 30 with rounds = 30",
    ),
    "options of digits": (["--dataset", "digits:3"], r"digits takes no options"),
    "synthetic of one class": (["--dataset", "synthetic:classes=1"], r"classes = 1"),
}


@pytest.mark.parametrize("kind", BAD_NEW_RUNS)
def test_bad_settings_of_a_new_run(tmp_path, capsys, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    for name, text in _FILES.items():
        Path(name).write_text(text)
    arguments, message = BAD_NEW_RUNS[kind]
    _refused(capsys, message, "run", "--dataset", DATA, "--out", "runs/a", *TINY, *arguments)
    assert not Path("runs").exists()


def test_an_existing_run_directory(saved, capsys):
    before = sorted(path.name for path in saved.iterdir())
    _refused(capsys, r"exists already.*--resume", "run", "--dataset", DATA, "--out", saved)
    _refused(capsys, r"--resume without --out", "run", "--resume")
    _refused(capsys, r"is no run directory", "run", "--resume", "--out", saved / "none")
    assert sorted(path.name for path in saved.iterdir()) == before


BAD_ON_SAVED = {
    "no run": (["prepare", "{run}/none"], r"is no run directory"),
    "preset": (["prepare", "{run}", "--preset", "papr"], r"preset of this run 'papr'"),
    "method": (["forget", "{run}", "--method", "retrian"], r"'retrian'.*Did you mean 'retrain'"),
    "request": (["forget", "{run}", "--forget", "class:5"], r"There is no class '5'"),
    "too few": (
        ["compare", "{run}", "--forget", "random:0.02"],
        r"One forgotten sample is too few",
    ),
    "few oracles": (["audit", "{run}", "--oracles", "3"], r"audit with 3 oracle models"),
    "comparison": (
        ["compare", "{run}", "--forget", "random:7"],
        r"dcmu: random:7\. Allowed: a number strictly between 0 and 1",
    ),
}


@pytest.mark.parametrize("kind", BAD_ON_SAVED)
def test_bad_input_to_a_saved_run(saved, capsys, kind):
    arguments, message = BAD_ON_SAVED[kind]
    before = sorted(str(path) for path in saved.rglob("*"))
    _refused(capsys, message, *(argument.format(run=saved) for argument in arguments))
    assert sorted(str(path) for path in saved.rglob("*")) == before


def test_edited_settings_make_the_stages_anew_and_lose_none(saved, capsys):
    file = saved / "config.json"
    whole = file.read_text()
    settings = json.loads(whole)
    first = Run.open(saved).train().fingerprint()
    before = {p: p.stat().st_mtime_ns for p in (saved / "original").rglob("*") if p.is_file()}
    settings["seed"] = 5
    file.write_text(json.dumps(settings))
    try:
        assert _dcmu("train", "--resume", "--out", saved, "--quiet") == 0
        other = Run.open(saved).train().fingerprint()
        file.write_text(whole[:50])
        _refused(capsys, r"cannot be read as the settings of a run", "prepare", saved)
    finally:
        file.write_text(whole)
    assert other != first and Run.open(saved).train().fingerprint() == first
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_python_runs_the_package_as_the_command():
    command = [sys.executable, "-m", "dcmu_jax"]
    asked = [
        subprocess.run([*command, *rest], capture_output=True, text=True) for rest in (["-h"], [])
    ]
    assert [one.returncode for one in asked] == [0, 2]
    assert asked[0].stdout.startswith("usage: dcmu COMMAND")


def test_commands_and_flags(capsys):
    _refused(capsys, r"Unknown command 'comprae'.*Did you mean 'compare'", "comprae")
    assert _dcmu("run", "--modle", "cnn") == 2
    assert "--model" in capsys.readouterr().err  # the nearest flag
    assert _dcmu("forget") == 2
    assert _dcmu("run", "--seed", "one") == 2
    capsys.readouterr()
    assert _dcmu("run", "--method.condensation.matching.steps", "-1") == 2
    said = " ".join(capsys.readouterr().err.split())  # the parser's own words around the message
    assert "steps = -1. Allowed: 0 or more. Raise steps to 0" in said


def test_a_class_of_fewer_samples_than_clusters(tmp_path, capsys):
    arrays = good_arrays()
    labels = np.repeat([0, 1, 2], [11, 11, 2])
    np.savez(tmp_path / "mine.npz", **{**arrays, "y_train": labels})
    out = tmp_path / "run"
    options = [*TINY[:2], "--method.remembrance.per-class=1", "--baselines", "--quiet"]
    clusters = "--method.condensation.clusters-per-class=4"
    archive = f"npz:{tmp_path / 'mine.npz'}"
    assert _dcmu("train", "--dataset", archive, "--out", out, clusters, *options) == 0
    capsys.readouterr()
    assert _dcmu("prepare", out, "--quiet") == 0
    printed = capsys.readouterr().out
    assert "1 class(es) have fewer samples than the 4 clusters per class: 2 (2)" in printed
    assert "Each of their samples is a cluster of its own" in printed
    bank = Run.open(out).prepare().bank
    assert bank.sizes[bank.labels == 2].tolist() == [1, 1]
    assert _dcmu("compare", out, "--forget", "class:0", "--quiet") == 0
    report = next((out / "requests").rglob("report.html")).read_text()
    assert "have fewer samples than the 4 clusters per class" in report


CONDENSED = [
    "--dataset=synthetic:classes=3,per_class=24,size=8,channels=1",
    "--target=mlp",
    "--width=0.05",
    "--per-class=2",
    "--training.epochs=1",
    "--rows=small final",
    "--construction.architecture.channels=4",
    "--construction.architecture.small-channels=4",
    "--construction.architecture.head=8",
    "--construction.architecture.small-hidden=8",
    "--construction.pretraining.epochs=1",
    "--construction.per-class=2",
    "--construction.clusters-per-class=6",
    "--construction.attaching.steps=2",
    "--quiet",
]


@pytest.fixture
def asked(monkeypatch):
    """The recipes of the rows that are measured, each on a network that nobody trained.

    What trains is run whole in tests/applications/test_condensed_model.py.
    """
    recipes = []
    cost = dict.fromkeys(("request_s", "train_s", "update_s"), 1.0)
    cost |= dict.fromkeys(("parameters", "trained_parameters", "trained_images"), 1)

    def network(bench, recipe):
        recipes.append(recipe)
        return fresh(Plain(), bench.splits.train), cost

    monkeypatch.setattr(CondensedModelBench, "network", network)
    monkeypatch.setattr(CondensedModelBench, "prepared", lambda _: SimpleNamespace(offline_s=1.0))
    return recipes


def test_a_condensed_model_in_the_report_of_a_run(asked, saved, capsys):
    own = [argument for argument in CONDENSED if not argument.startswith("--dataset")]
    (saved / "report.html").touch()  # as if the run had been compared
    assert _dcmu("condensed-model", "--run", saved, *own) == 0
    assert f"Report: {saved / 'report.html'}" in capsys.readouterr().out
    folder = saved / "condensed-model" / "mlp-recommended-2"
    assert "class:1" in (folder / "table.csv").read_text()  # the request of the run
    report = (saved / "report.html").read_text()
    assert "Condensed model: recommended, target mlp, forgetting class:1</h2>" in report
    before = sorted(saved.rglob("*"))
    _refused(
        capsys, "in a run of", "condensed-model", "--run", saved, *CONDENSED[1:], "--dataset=digits"
    )
    _refused(capsys, "--out 'x' with --run", "condensed-model", "--run", saved, *own, "--out", "x")
    _refused(capsys, "is no run directory", "condensed-model", "--run", saved / "none", *own)
    assert sorted(saved.rglob("*")) == before


def test_a_condensed_model_in_one_command_and_again(asked, tmp_path, capsys):
    out = tmp_path / "condensed"
    assert _dcmu("condensed-model", "--out", out, *CONDENSED) == 0
    names = ("retrain", "condensed model", "small final")
    assert asked == [recipe(name, target="mlp", width=0.05, per_class=2) for name in names]
    shown = capsys.readouterr().out
    assert "condensed model + target" in shown and "mlp" in shown
    table = (out / "table.csv").read_text()
    assert len(table.splitlines()) == 4
    assert (out / "comparison.png").is_file() and (out / "construction.png").is_file()
    page = (out / "report.html").read_text()
    assert "final not replaced" in page and page.count("What cannot.") == 2
    assert _dcmu("condensed-model", "--out", out, *CONDENSED) == 0
    assert len(asked) == 3 and (out / "table.csv").read_text() == table
    assert _dcmu("condensed-model", "--out", out, *CONDENSED, "--seed=5") == 2
    assert "holds a condensed model with another seed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--target", "cmm"], "Unknown model 'cmm'"),
        (["--target", "vgg16"], "32x32 or more"),
        (["--rows", "fmd"], "Unknown row 'fmd'"),
        (["--forget", "class:9"], "class"),
        (["--per-class", "0"], "per_class"),
        (["--per-class", "99"], "99 remembrance samples per class"),
        (["--construction.attaching.steps", "0"], "steps"),
        (["--preset", "papre"], "Unknown construction 'papre'"),
        (["--seed=-1"], "seed"),
    ],
)
def test_a_condensed_model_of_bad_input(arguments, says, tmp_path, capsys):
    out = tmp_path / "bad"
    assert _dcmu("condensed-model", "--out", out, *CONDENSED, *arguments) == 2
    assert says in capsys.readouterr().err
    assert not out.exists()

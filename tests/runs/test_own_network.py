"""A network of the user's own by reference: in Python, on the command line, and opened again."""

import dataclasses
import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from cli.test_cli import DATA, TINY, _dcmu
from service.toy import CONFIG

import dcmu_jax as dcmu
from dcmu_jax.errors import InputError
from dcmu_jax.runs.run import Run
from dcmu_jax.service.workspace import Workspace

FILE = """
import flax.linen as nn


class Mine(nn.Module):
    classes: int = 3

    def setup(self):
        self.beginning = nn.Sequential([lambda x: x.reshape(len(x), -1), nn.Dense(8)])
        self.intermediate = nn.Sequential([nn.relu, nn.Dense(8), nn.relu])
        self.final = nn.Dense(self.classes)


class Whole(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(3)(x.reshape(len(x), -1))


def make(image_shape, num_classes):
    return Mine(num_classes)


def number(image_shape, num_classes):
    return 3


def few(image_shape):
    return Mine()


module, whole = Mine(), Whole()
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(FILE)
    return tmp_path


@pytest.mark.parametrize("name", ["net.py:make", "net.py:module"])
def test_a_run_on_a_network_of_a_file(here, name):
    config = dataclasses.replace(CONFIG, model=name)
    trained = Run.create("run", config).train()
    assert type(trained.model).__name__ == "Mine"
    again = Run.open("run").train()
    assert again.fingerprint() == trained.fingerprint()
    (here / "net.py").write_text(FILE.replace("nn.Dense(8), nn.relu]", "nn.Dense(8), nn.tanh]"))
    with pytest.raises(InputError, match="computes something else"):
        Run.open("run")


DRAWING = """
def drawn(key, shape, dtype=None):
    return np.random.default_rng().normal(size=shape).astype(np.float32)


"""


@pytest.mark.parametrize("drawing", [False, True], ids=["by the key", "by itself"])
def test_a_network_that_starts_otherwise(here, drawing):
    """What it computes is the same; a run of before that was known is not refused."""
    text = "import jax\nimport numpy as np\n" + FILE.replace("class Mine", DRAWING + "class Mine")
    dense, one, other = "nn.Dense(self.classes", "he_normal", "glorot_normal"
    start = "drawn" if drawing else f"jax.nn.initializers.{one}()"
    text = text.replace(dense, f"{dense}, kernel_init={start}")
    (here / "net.py").write_text(text)
    run = Run.create("run", dataclasses.replace(CONFIG, model="net.py:make"))
    Run.open("run")
    (here / "net.py").write_text(text.replace("size=shape", "2, size=shape").replace(one, other))
    if drawing:
        Run.open("run")
        return
    with pytest.raises(InputError, match=r"starts from other parameters .*\(params/final/kernel\)"):
        Run.open("run")
    note = json.loads((here / "run" / "data.json").read_text())
    del note["initial"]
    (here / "run" / "data.json").write_text(json.dumps(note))
    assert Run.open("run").config == run.config


def test_the_command_line(here, capsys):
    assert _dcmu("train", "--dataset", DATA, *TINY, "--model", "net.py:make") == 0
    (run,) = (here / "runs").iterdir()
    assert "net-py-make" in run.name
    assert _dcmu("forget", run, "--forget", "class:1", "--quiet") == 0


class Unsplit(nn.Module):
    """As most people write one."""

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.BatchNorm(use_running_average=not train)(nn.Dense(4)(x.reshape(len(x), -1)))
        return nn.Dense(3)(nn.relu(nn.Dense(4)(nn.relu(x))))


def test_a_network_that_is_not_written_in_parts(tmp_path):
    """Adopted, it serves as the original of a run, which opens again, and of a workspace."""
    splits = dcmu.load(CONFIG.dataset)
    variables = Unsplit().init(jax.random.key(0), jnp.zeros((1, *splits.image_shape)))
    parts = {"beginning": ["Dense_0", "Batch*"], "intermediate": "Dense_1", "final": "Dense_2"}
    network = dcmu.adopt(Unsplit(), variables, splits, parts=parts)
    config = dataclasses.replace(CONFIG, dataset="mine", model="mine")
    run = Run.create(tmp_path / "run", config, model=network, splits=splits)
    run.adopt(network)
    again = Run.open(tmp_path / "run", model=network.model, splits=splits)
    assert again.train().fingerprint() == network.fingerprint()
    forgot = again.unlearn("class:1").unlearned.classifier
    wanted = jax.tree.map(jnp.shape, dict(variables))
    assert jax.tree.map(jnp.shape, dcmu.variables_of(forgot)) == wanted
    Workspace.create(again, tmp_path / "work")
    assert Workspace(tmp_path / "work", model=network).verify()
    with pytest.raises(InputError, match=r"without its module.*Workspace\(.*model=model"):
        Workspace(tmp_path / "work")
    other = dcmu.adopt(Unsplit(), variables, splits, parts=parts | {"final": "Dense_2/*"})
    assert other.model == network.model  # the same parts
    parts |= {"intermediate": "Dense_1/kernel", "final": ["Dense_1/bias", "Dense_2"]}
    other = dcmu.adopt(Unsplit(), variables, splits, parts=parts)
    run = Run.create(tmp_path / "other", config, model=network, splits=splits)
    with pytest.raises(InputError, match=r"bias|Unsplit with other settings or parts"):
        run.adopt(other)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("net.py:Mine", r"which is a class.*Write def make"),
        ("net.py:number", r"a function that returned an int"),
        ("net.py:few", r"fails \(TypeError"),
        ("net.py:mak", r"Did you mean 'make'"),
        ("absent.py:make", r"there is no file"),
        ("net.py:whole", r"Whole, which is not written in three parts.*Give dcmu\.adopt\("),
    ],
)
def test_what_is_no_network(here, name, message):
    with pytest.raises(InputError, match=message):
        Run.create("run", dataclasses.replace(CONFIG, model=name))
    assert not (here / "run").exists()

"""What was forgotten is no remembrance sample of a later batch: neither its image nor its class."""

import dataclasses

import numpy as np
import pytest
from service.toy import CONFIG, FAST, ONLINE, ids_text

from dcmu_jax.cli import main
from dcmu_jax.data.dataset import Splits
from dcmu_jax.runs import stages
from dcmu_jax.runs.run import Run
from dcmu_jax.service import Workspace
from dcmu_jax.unlearning import modular
from dcmu_jax.unlearning.schedule import Step

# As `paper` has it: forgotten classes are not left out by the schedule itself.
REMEMBERING = dataclasses.replace(
    ONLINE,
    collecting=dataclasses.replace(ONLINE.collecting, drop_forgotten_classes=False),
    closing_steps=(
        *ONLINE.closing_steps,
        Step(parts=("final",), on="remembrance", batch_size=0, optimizer=FAST),
    ),
)


METHOD = dataclasses.replace(CONFIG.method, online=REMEMBERING)
MADE_WITH = dataclasses.replace(CONFIG, method=METHOD)


def _workspace(folder, splits):
    run = Run.create(folder / "run", MADE_WITH, splits=splits)
    Workspace.create(run, folder / "w", max_accuracy_loss=100)
    return folder / "w"


@pytest.fixture(scope="module")
def made(toy_run, tmp_path_factory):
    """A workspace whose remembrance samples are images of training samples, one of each class."""
    splits = toy_run.splits
    remembered = stages.remembrance_of(MADE_WITH, MADE_WITH.preset, splits)
    remembered = remembered.take(np.argsort(remembered.labels))
    classes = [np.flatnonzero(splits.train.labels == label)[0] for label in remembered.labels]
    test = splits.test.images.copy()
    test[splits.test.positions(remembered.ids)] = splits.train.images[classes]
    test = dataclasses.replace(splits.test, images=test)
    splits = Splits(splits.name, splits.train, test, splits.class_names)
    directory = _workspace(tmp_path_factory.mktemp("remembering"), splits)
    return directory, splits.train.ids[classes].tolist()


@pytest.fixture(scope="module")
def plain(toy_run, tmp_path_factory):
    """One whose remembrance samples are images of their own."""
    return _workspace(tmp_path_factory.mktemp("plain"), toy_run.splits)


@pytest.fixture
def taught(monkeypatch):
    """Labels and images of the remembrance samples that each batch trains on."""
    plain, seen = modular.train_step, []

    def train_step(step, classifier, examples, **rest):
        if step.on == "remembrance":
            seen.append(dict(zip(examples.labels.tolist(), examples.inputs, strict=True)))
        return plain(step, classifier, examples, **rest)

    monkeypatch.setattr(modular, "train_step", train_step)
    return seen


def _others(directory, ids, count):
    """Ids of samples of several classes, and none of ``ids``."""
    known = Workspace(directory).fixed.known
    return np.setdiff1d(known.ids[known.labels != 2], ids)[:count].tolist()


@pytest.mark.parametrize("purged", [False, True])
def test_an_image_that_was_forgotten_is_not_remembered_later(made, copied, taught, purged):
    directory, ids = made
    workspace = Workspace(copied(directory))
    first, second = _others(directory, ids, 2)
    for number, asked in enumerate(([ids[0]], [first], [second])):
        workspace.request(ids_text(asked))
        workspace.process()
        assert sorted(taught[number]) == [1, 2]
        if purged and not number:
            workspace.purge()
    assert len(taught) == 3 and workspace.verify().clean


@pytest.mark.parametrize("texts", [("class:2", "ids"), ("class:2+ids",), ("ids+class:2",)])
def test_a_class_that_was_forgotten_is_not_remembered(plain, copied, taught, texts):
    workspace = Workspace(copied(plain))
    for text in texts:
        workspace.request(text.replace("ids", ids_text(_others(plain, [], 2))))
        workspace.process()
    (last,) = taught  # where a whole class goes alone, the schedule has no such step
    assert sorted(last) == [0, 1]


def test_a_batch_after_which_none_is_left_says_what_to_type(made, copied, taught, capsys):
    directory, ids = made
    w = copied(directory)
    Workspace(w).request(ids_text(ids))
    assert main(["process", str(w), "--quiet"]) == 2
    said = capsys.readouterr().err
    assert "every remembrance sample is of a forgotten image or class" in " ".join(said.split())
    assert "Give --preset condensed" in " ".join(said.split())
    assert main(["process", str(w), "--quiet", "--preset", "condensed"]) == 0 and taught == []
    assert Workspace(w).verify().clean

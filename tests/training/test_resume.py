"""An interrupted training ends with the same bits as one that ran through."""

import gc
import json
import shutil

import jax.numpy as jnp
import numpy as np
import pytest
from toys import Noisy, Plain, examples_of, fresh, same_bits, toy_splits

from dcmu_jax.errors import InputError
from dcmu_jax.training import checkpoints
from dcmu_jax.training.checkpoints import FitCheckpoint
from dcmu_jax.training.keys import named_key
from dcmu_jax.training.loop import fit
from dcmu_jax.training.optimizers import Optimizer
from dcmu_jax.training.population import fit_population, stack

TRAIN = toy_splits().train

orbax_gives_up = pytest.mark.filterwarnings(
    # Orbax leaves the coroutines of a failed reading unawaited; collected within the test.
    "ignore::pytest.PytestUnraisableExceptionWarning"
)
EPOCHS = 4


class Interrupted(Exception):
    """Stands for a power cut."""


def _fit(tmp_path, *, every=1, identity="mine", stop_at=None, model=None, checkpoint=True):
    def cut(now):
        if now.number == stop_at:
            raise Interrupted

    saving = FitCheckpoint(str(tmp_path / "unfinished"), every, identity)  # a text will do
    return fit(
        fresh(model or Noisy(), TRAIN),
        examples_of(TRAIN),
        epochs=EPOCHS,
        key=named_key(0, "resume"),
        optimizer=Optimizer(schedule="cosine"),
        batch_size=10,
        callbacks=(saving, cut) if checkpoint else (cut,),
    )


@pytest.fixture(scope="module")
def through(tmp_path_factory):
    return _fit(tmp_path_factory.mktemp("through"), checkpoint=False)


@pytest.mark.parametrize(("every", "stop_at"), [(1, 1), (1, 3), (2, 3), (2, 4)])
def test_resumed_at_the_same_bits(tmp_path, through, every, stop_at):
    with pytest.raises(Interrupted):
        _fit(tmp_path, every=every, stop_at=stop_at)
    # The epoch in which it stopped was not saved.
    assert (tmp_path / "unfinished").is_dir() == (stop_at > every)
    resumed = _fit(tmp_path, every=every)
    assert same_bits(resumed.classifier.variables, through.classifier.variables)
    assert same_bits(resumed.opt_state, through.opt_state)
    assert (resumed.losses, resumed.accuracies) == (through.losses, through.accuracies)


def test_a_training_that_a_callback_ends_goes_no_further_when_resumed(tmp_path):
    """Nothing is saved where it ends: the epoch that it ended with is made, and ends it, again."""
    saving = FitCheckpoint(tmp_path / "unfinished", 1, "mine")
    options = {"key": named_key(0, "resume"), "optimizer": Optimizer(), "batch_size": 10}
    options |= {"epochs": EPOCHS, "callbacks": (saving, lambda now: now.number == 2)}
    first, again = (fit(fresh(Noisy(), TRAIN), examples_of(TRAIN), **options) for _ in range(2))
    assert same_bits(first.classifier.variables, again.classifier.variables)
    assert len(again.losses) == 2 and first.losses == again.losses


def test_a_population_is_resumed_at_the_same_bits(tmp_path):
    networks = stack([fresh(Noisy(), TRAIN, seed=i) for i in range(2)])
    rows = np.arange(20).reshape(2, 10)
    keys = jnp.stack([named_key(i, "member") for i in range(2)])
    options = {"epochs": 3, "keys": keys, "optimizer": Optimizer(), "batch_size": 5}

    def cut(now):
        if now.number == 2:
            raise Interrupted

    saving = FitCheckpoint(tmp_path / "unfinished", 1, "mine")
    with pytest.raises(Interrupted):
        fit_population(networks, examples_of(TRAIN), rows, callbacks=(saving, cut), **options)
    assert (tmp_path / "unfinished").is_dir()
    resumed = fit_population(networks, examples_of(TRAIN), rows, callbacks=(saving,), **options)
    through = fit_population(networks, examples_of(TRAIN), rows, **options)
    assert same_bits(resumed.classifiers.variables, through.classifiers.variables)
    assert same_bits(resumed.losses, through.losses)


def test_a_resumed_run_does_not_repeat_what_was_saved(tmp_path):
    with pytest.raises(Interrupted):
        _fit(tmp_path, stop_at=4)
    seen = []
    checkpoint = FitCheckpoint(tmp_path / "unfinished", 1, "mine")
    fit(
        fresh(Noisy(), TRAIN),
        examples_of(TRAIN),
        epochs=EPOCHS,
        key=named_key(0, "resume"),
        optimizer=Optimizer(schedule="cosine"),
        batch_size=10,
        callbacks=(lambda now: seen.append(now.number), checkpoint),
    )
    assert seen == [4]
    checkpoint.discard()
    assert not (tmp_path / "unfinished").exists()
    checkpoint.discard()  # nothing there: nothing to do


@orbax_gives_up
@pytest.mark.parametrize(
    ("what", "message"),
    [
        ({"identity": "other"}, "is of other settings or data.*start in another directory"),
        ({"model": Plain()}, "cannot be read"),
    ],
)
def test_another_run_is_refused(tmp_path, what, message):
    with pytest.raises(Interrupted):
        _fit(tmp_path, stop_at=2)
    with pytest.raises(InputError, match=message):
        _fit(tmp_path, **what)
    gc.collect()


@orbax_gives_up
def test_a_damaged_one_is_refused(tmp_path):
    with pytest.raises(Interrupted):
        _fit(tmp_path, stop_at=2)
    for file in (tmp_path / "unfinished").rglob("*"):
        if file.is_file():
            file.write_bytes(b"damaged")
    with pytest.raises(InputError, match=r"cannot be read.*Delete it, and the training starts"):
        _fit(tmp_path)
    shutil.rmtree(tmp_path / "unfinished")
    assert len(_fit(tmp_path).losses) == EPOCHS
    gc.collect()


@pytest.mark.parametrize("step", ["_read_about", "_read"])
def test_one_that_the_machine_does_not_read_is_not_called_damaged(tmp_path, monkeypatch, step):
    with pytest.raises(Interrupted):
        _fit(tmp_path, stop_at=2)

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(checkpoints, step, refuse)
    with pytest.raises(InputError, match="Nothing says that it is damaged"):
        _fit(tmp_path)


@pytest.mark.parametrize("changed", ["history", "seconds", "state"])
def test_a_plausible_one_with_other_contents_is_refused(tmp_path, changed):
    """Well formed, and not what was saved: neither the numbers nor the state are taken over."""
    with pytest.raises(Interrupted):
        _fit(tmp_path, stop_at=3)
    with pytest.raises(Interrupted):
        _fit(tmp_path / "other", stop_at=2)
    first, other = tmp_path / "unfinished", tmp_path / "other" / "unfinished"
    if changed == "state":
        shutil.rmtree(first / "state")
        (other / "state").rename(first / "state")
    else:
        (file,) = [name for name in (first / "about").rglob("*") if name.is_file()
                   and "history" in name.read_text(errors="replace")]  # fmt: skip
        about = json.loads(file.read_text())
        about[changed] = about["history"][:1] if changed == "history" else about["seconds"] + 1
        file.write_text(json.dumps(about))
    with pytest.raises(InputError, match="do not match its fingerprint"):
        _fit(tmp_path)

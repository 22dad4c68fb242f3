"""SCRUB: its passes in order, each against the one loop called by hand."""

import dataclasses

import numpy as np
import pytest
from baselines.setting import make_task
from baselines.watching import cross_entropy, divergence, watched
from toys import Noisy, Plain, fresh, same_bits

from dcmu_jax.baselines.losses import Distillation
from dcmu_jax.baselines.teachers import Scrub
from dcmu_jax.errors import InputError
from dcmu_jax.training.arguments import Trainable
from dcmu_jax.training.examples import Examples
from dcmu_jax.training.keys import named_key, named_seed
from dcmu_jax.training.loop import fit
from dcmu_jax.training.optimizers import Optimizer
from dcmu_jax.unlearning.task import Hooks

FAST = Optimizer(learning_rate=5e-3)
METHOD = Scrub(
    alpha=0.1, epochs=5, max_epochs=2, batch_size=24, forget_batch_size=8, optimizer=FAST
)


@pytest.fixture(scope="module")
def task():
    return make_task(model=Noisy())


def test_the_passes_and_their_states_by_hand(task):
    """Away, back, away, back, repair: one optimizer state through all of them."""
    result, steps = watched(METHOD, task)
    away, back = "SCRUB, away from the teacher", "SCRUB, back"
    names = [f"{away} 1", f"{back} 1", f"{away} 2", f"{back} 2", "SCRUB, repair"]
    assert [name for name, *_ in steps] == names
    assert [epochs for _, epochs, _ in steps] == [1, 1, 1, 1, 3]
    network, state = task.original, None
    for name, epochs, losses in steps:
        out = name.startswith(away)
        data = task.forget() if out else task.retain()
        fitted = fit(
            network,
            Examples.of(data.images, data.labels, targets=task.original.logits(data.images)),
            epochs=epochs,
            key=named_key(named_seed(task.seed, "scrub"), name),
            optimizer=FAST,
            batch_size=8 if out else 24,
            loss=Distillation(
                cross_entropy=0.0 if out else 0.99, divergence=-1.0 if out else 0.1, temperature=4.0
            ),
            parts=Trainable(opt_state=state),
        )
        assert tuple(losses) == fitted.losses
        network, state = fitted.classifier, fitted.opt_state
    assert same_bits(network.variables, result.classifier.variables)


def test_the_losses_by_hand():
    # Without dropout and BatchNorm what trains is what is evaluated; untrained, it has losses.
    task = make_task()
    task = dataclasses.replace(task, original=fresh(Plain(), task.train))
    still = Optimizer(learning_rate=1e-12)
    method = Scrub(alpha=0.3, epochs=2, max_epochs=1, batch_size=1000, optimizer=still)
    _, steps = watched(method, task)
    retain = task.retain()
    expected = 0.99 * cross_entropy(task.original.logits(retain.images), retain.labels).mean()
    assert abs(steps[0][2][0]) < 1e-6  # the student is its teacher
    np.testing.assert_allclose(steps[1][2], [expected], rtol=1e-5)


def test_it_goes_away_on_the_forget_set_and_comes_back_on_the_rest(task):
    """KL from the teacher, in evaluation mode, at the end; in mean, for dropout steers it."""

    def distances(max_epochs):
        options = {"epochs": 8, "batch_size": 24, "forget_batch_size": 8}
        rate = Optimizer(learning_rate=1e-2)
        method = Scrub(max_epochs=max_epochs, optimizer=rate, **options)
        found = []
        for seed in range(4):
            mine = dataclasses.replace(task, seed=seed)
            new, old = method(mine, Hooks()).classifier, mine.original
            found.append(
                [
                    divergence(old.logits(data.images), new.logits(data.images), 1).mean()
                    for data in (mine.forget(), mine.retain())
                ]
            )
        return np.mean(found, axis=0)

    away, near = distances(5), distances(0)
    assert away[0] > 1.5 * near[0]
    assert away[1] < 0.3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 2, "max_epochs": 3}, r"max_epochs = 3 of 2 epochs"),
        ({"epochs": 0}, r"epochs = 0"),
        ({"max_epochs": -1}, r"max_epochs = -1"),
        ({"temperature": 0.0}, r"temperature = 0"),
        ({"optimizer": Optimizer(schedule="cosine")}, r"schedule 'cosine'.*go on from each other"),
        ({"optimizer": Optimizer(l1=1e-4)}, r"Take 'constant'"),
    ],
)
def test_settings_without_sense_are_refused(task, settings, message):
    with pytest.raises(InputError, match=message):
        Scrub(**settings)(task, Hooks())

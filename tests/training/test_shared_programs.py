"""A compiled epoch serves any number of examples up to that which they are padded to."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import Noisy, Plain, compiled, fresh, same_bits, toy_splits

from dcmu_jax.training import epoch, loop
from dcmu_jax.training.epoch import epoch_order, padded, rows_for, train_epoch
from dcmu_jax.training.examples import Examples
from dcmu_jax.training.keys import named_key
from dcmu_jax.training.loop import fit
from dcmu_jax.training.optimizers import Optimizer

TRAIN = toy_splits().train
KEY = named_key(0, "shared programs")


def _examples(count):
    at = np.arange(count) % len(TRAIN)
    return Examples.of(TRAIN.images[at], TRAIN.labels[at], np.linspace(0.5, 2, count))


def _fit(count, model=None, batch_size=2):
    return fit(
        fresh(model or Plain(), TRAIN),
        _examples(count),
        epochs=2,
        key=KEY,
        optimizer=Optimizer(),
        batch_size=batch_size,
    )


@pytest.mark.parametrize(
    ("n", "rows", "impl"),
    [
        (1, 1, "rbg"),
        (37, 37, "rbg"),
        (3, 4, None),
        (37, 64, None),
        (1620, 2048, None),
        (2049, 4096, None),
    ],
)
def test_the_order_is_the_permutation_of_jax(n, rows, impl):
    given = KEY if impl is None else jax.random.key(3, impl=impl)
    number = jnp.int32(5)
    key = epoch._keys(given, number)[0]
    order, real = epoch_order(given, number, n, 10, rows)
    places = -(-n // 10) * 10
    assert (order[:places] == np.resize(jax.random.permutation(key, n), places)).all()
    assert real.sum() == n and real[:n].all()


def test_padded_examples_train_to_the_bits_of_examples_as_they_are(monkeypatch):
    # 35 steps, for longer sums are added up in pieces, which must not depend on the padding.
    found = _fit(69, Noisy())
    plain = functools.partial(jax.jit, static_argnums=0)(train_epoch)
    monkeypatch.setattr(loop, "rows_for", lambda examples, size, key: len(examples.labels))

    def as_they_are(settings, state, frozen, normalisation, mask, examples, count, key):
        return plain(settings, state, frozen, normalisation, mask, examples, key)

    monkeypatch.setattr(loop, "resident_epoch", as_they_are)
    expected = _fit(69, Noisy())
    assert same_bits(found.classifier.variables, expected.classifier.variables)
    assert (found.losses, found.accuracies) == (expected.losses, expected.accuracies)


def test_another_number_of_examples_compiles_nothing():
    _fit(40)
    with compiled() as found:
        _fit(39)  # of as many steps
    assert found.programs == []
    with compiled() as found:
        _fit(61)
    assert found.programs == ["jit(_means)"]  # of the sums of another number of steps


def test_a_gpu_knows_the_number_of_steps_when_it_compiles(monkeypatch):
    expected = _fit(39)
    monkeypatch.setattr(loop, "platform", lambda: "gpu")
    assert same_bits(_fit(39).classifier.variables, expected.classifier.variables)
    with compiled() as found:
        _fit(40)
    assert found.programs == []
    with compiled() as found:
        _fit(41)
    assert "jit(compiled_steps)" in found.programs


def test_rows_are_padded_where_it_changes_nothing_but_the_program(monkeypatch):
    assert rows_for(_examples(33), 8, KEY) == 64 == rows_for(_examples(64), 8, KEY)
    assert rows_for(_examples(33), 33, KEY) == 33  # one batch, whose size is theirs
    assert rows_for(_examples(33), 8, jax.random.key(0, impl="rbg")) == 33
    monkeypatch.setattr(epoch, "_MOST_PADDED", 100)
    assert rows_for(_examples(33), 8, KEY) == 33
    with jax.threefry_partitionable(False):
        monkeypatch.undo()
        assert rows_for(_examples(33), 8, KEY) == 33


def test_rows_of_zeros_follow_whatever_array_it_is():
    examples = _examples(3)
    for given in (examples, jax.device_put(examples)):
        longer = padded(given, 4)
        assert same_bits(jax.tree.map(lambda a: a[:3], longer), jax.device_put(examples))
        assert not any(leaf[3:].any() for leaf in jax.tree.leaves(longer))

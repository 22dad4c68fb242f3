"""Sparsity: the L1 penalty leaves smaller parameters than fine-tuning alone."""

import dataclasses

import jax
import numpy as np
from baselines.setting import FAST, make_task
from toys import same_bits

from dcmu_jax.baselines.fine_tuning import SparsityUnlearning
from dcmu_jax.unlearning.task import Hooks


def test_the_published_factor_is_the_default():
    optimizer = SparsityUnlearning().optimizer
    assert (optimizer.l1, optimizer.l1_until, optimizer.learning_rate) == (1e-4, 0.5, 1e-3)


def test_the_penalty_shrinks_all_kinds_of_parameters():
    task = make_task()

    def sizes(l1):
        optimizer = dataclasses.replace(FAST, l1=l1)
        result = SparsityUnlearning(epochs=12, batch_size=24, optimizer=optimizer)(task, Hooks())
        return result, [float(np.abs(p).sum()) for p in _leaves(result)]

    def _leaves(result):
        return jax.tree.leaves(result.classifier.variables["params"])

    (none, before), (some, after) = sizes(0.0), sizes(3e-2)
    assert not same_bits(none.classifier.variables, some.classifier.variables)
    assert (np.array(after) < np.array(before)).all()

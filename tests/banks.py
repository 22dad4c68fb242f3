"""A small training set, a network and a bank for the tests of condensation."""

import dataclasses

import flax.linen as nn
import numpy as np

from dcmu_jax.condensation import CondensedBank, MatchingConfig
from dcmu_jax.data.dataset import Dataset

FEW = MatchingConfig(steps=8, learning_rate=0.01)


class Stage(nn.Module):
    width: int

    @nn.compact
    def __call__(self, x):
        return nn.tanh(nn.Dense(self.width)(x.reshape(x.shape[0], -1)))


class Net(nn.Module):
    def setup(self):
        self.beginning, self.intermediate, self.final = Stage(16), Stage(8), nn.Dense(3)


def make_dataset(seed=0, n=60):
    rng = np.random.default_rng(seed)
    return Dataset(
        images=rng.integers(0, 256, (n, 6, 6, 1), dtype=np.uint8),
        labels=rng.permutation(np.arange(n) % 3).astype(np.int32),
        ids=1000 + rng.permutation(n).astype(np.int64),
        num_classes=3,
    )


def assert_same(one, other):
    for field in dataclasses.fields(CondensedBank):
        a, b = getattr(one, field.name), getattr(other, field.name)
        np.testing.assert_array_equal(a, b, err_msg=field.name)
        assert np.asarray(a).dtype == np.asarray(b).dtype

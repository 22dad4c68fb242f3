"""Networks and data small enough for tests, and comparisons to the bit."""

import contextlib

import flax.linen as nn
import jax
import jax.monitoring
import numpy as np

from dcmu_jax.data.dataset import Dataset
from dcmu_jax.data.sources import load
from dcmu_jax.training.classifier import Classifier, fresh_classifier
from dcmu_jax.training.examples import Examples

TRACES: list[str] = []
"""One entry for every time that JAX traces a ``Plain`` network."""


def _flat(x):
    return x.reshape(x.shape[0], -1)


class Counted(nn.Module):
    """A dense layer that notes every trace of itself."""

    width: int

    @nn.compact
    def __call__(self, x):
        TRACES.append("trace")
        return nn.relu(nn.Dense(self.width)(_flat(x)))


class Plain(nn.Module):
    """What a user may bring: parts that do not take ``train``, no statistics, no dropout."""

    classes: int = 3
    width: int = 16

    def setup(self):
        self.beginning = Counted(self.width)
        self.intermediate = nn.Sequential([nn.Dense(self.width), nn.relu])
        self.final = nn.Dense(self.classes)


class Block(nn.Module):
    """Dense layer, BatchNorm, ReLU, dropout; then another dense layer if ``out`` is given."""

    width: int
    dropout: float
    out: int = 0

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.Dense(self.width, use_bias=False)(_flat(x))  # BatchNorm would take a bias out again
        x = nn.relu(nn.BatchNorm(use_running_average=not train, momentum=0.9)(x))
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return nn.Dense(self.out)(x) if self.out else x


class Noisy(nn.Module):
    """BatchNorm and dropout in each of the three parts."""

    classes: int = 3
    dropout: float = 0.25

    def setup(self):
        self.beginning = Block(16, self.dropout)
        self.intermediate = Block(12, self.dropout)
        self.final = Block(10, self.dropout, self.classes)


def toy_splits(classes: int = 3, per_class: int = 8, seed: int = 0):
    """Separable images of 8x8 grey pixels."""
    return load(f"synthetic:classes={classes},per_class={per_class},size=8,channels=1,seed={seed}")


def repeated(dataset, rows):
    """The samples at positions that may come again, under new ids."""
    rows = np.asarray(rows)
    return Dataset(
        dataset.images[rows], dataset.labels[rows], np.arange(len(rows)), dataset.num_classes
    )


def fresh(model: nn.Module, dataset, seed: int = 0) -> Classifier:
    """An untrained network."""
    return fresh_classifier(model, dataset, seed)


def examples_of(dataset, weights=None) -> Examples:
    """A dataset as examples."""
    return Examples.of(dataset.images, dataset.labels, weights)


def same_bits(a, b) -> bool:
    """Whether two trees have the same structure, dtypes, shapes and bits."""
    if jax.tree.structure(a) != jax.tree.structure(b):
        return False
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    arrays = ((np.asarray(x), np.asarray(y)) for x, y in pairs)
    return all(x.dtype == y.dtype and np.array_equal(x, y, equal_nan=True) for x, y in arrays)


class Compiled:
    """What JAX compiled.

    Attributes:
        programs: names of all that were compiled, or read from the folder for them.
        kept: how many were not there, and were put there.
    """

    def __init__(self):
        self.programs: list[str] = []
        self.kept = 0

    def took(self, event, duration_secs, **more):
        if event.endswith("/backend_compile_duration"):
            self.programs.append(more["fun_name"])

    def happened(self, event, **more):
        self.kept += event.endswith("/cache_misses")


@contextlib.contextmanager
def compiled():
    """Tells of what is compiled within."""
    found = Compiled()
    jax.monitoring.register_event_duration_secs_listener(found.took)
    jax.monitoring.register_event_listener(found.happened)
    try:
        yield found
    finally:
        jax.monitoring.unregister_event_duration_listener(found.took)
        jax.monitoring.unregister_event_listener(found.happened)


def assert_close(a, b, *, atol: float, rtol: float = 1e-7) -> None:
    """Two trees are alike up to ``rtol`` and ``atol``; where they are the same, ``same_bits``."""
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(np.asarray(x), np.asarray(y), rtol, atol), a, b
    )


def part_of(classifier: Classifier, part: str):
    """Parameters and statistics of one part."""
    return {name: trees.get(part, {}) for name, trees in classifier.variables.items()}

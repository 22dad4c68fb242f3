"""Layers that draw or keep statistics: refused unless the module switches them as it is trained."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from toys import toy_splits

from dcmu_jax.errors import InputError
from dcmu_jax.networks.adoption import check_module
from dcmu_jax.networks.layers import Dropout

SHAPE = toy_splits().image_shape


class First(nn.Module):
    """A dense layer and another, a function of its outputs and of ``train``."""

    layer: Any

    @nn.compact
    def __call__(self, x, train=False):
        return self.layer(nn.Dense(6)(x.reshape(len(x), -1)), train)


class Built(nn.Module):
    layer: Any

    def setup(self):
        self.beginning, self.intermediate = First(self.layer), nn.Dense(5)
        self.final = nn.Dense(3)


class DropPath(nn.Module):
    """Leaves out some of the images, by ``deterministic`` as a field or an argument."""

    rate: float = 0.5
    deterministic: bool | None = None

    @nn.compact
    def __call__(self, x, deterministic=None):
        off = nn.merge_param("deterministic", self.deterministic, deterministic)
        return x if off or not self.rate else _left_out(self, x)


class Always(nn.Module):
    """Draws whatever the mode, and is told of none."""

    @nn.compact
    def __call__(self, x):
        return _left_out(self, x)


def _left_out(module, x):
    return x * jax.random.bernoulli(module.make_rng("dropout"), 0.5, (len(x), 1))


class Told(nn.Module):
    """Has a field that says nothing of a call, which is told of the mode itself."""

    deterministic: bool = True
    rate: float = 0.5

    @nn.compact
    def __call__(self, x, train=False):
        return nn.Dropout(self.rate, deterministic=not train)(x)


class Mean(nn.Module):
    """A normalisation by hand."""

    moves: bool

    @nn.compact
    def __call__(self, x, train=False):
        mean = self.variable("batch_stats", "mean", jnp.zeros, (1, *x.shape[1:]))
        if train and self.moves:
            mean.value = 0.9 * mean.value + 0.1 * x.mean(0, keepdims=True)
        return x - mean.value


def _attention(x, rate=0.5, field=None, **call):
    layer = nn.MultiHeadDotProductAttention(2, dropout_rate=rate, deterministic=field)
    return layer(x[:, None], x[:, None], **call)[:, 0]


def _spectral(x, moves):
    return nn.SpectralNorm(nn.Dense(6))(x, update_stats=moves)


OFF = "is in evaluation mode while the module is trained"
ON = "is in training mode while the module is evaluated"
ATTENTION = "beginning/MultiHeadDotProductAttention_0 of Built"
REFUSED = {
    "attention": (lambda x, train: _attention(x, field=True), f"{ATTENTION} {OFF}"),
    "attention by its call": (
        lambda x, train: _attention(x, deterministic=True),
        f"{ATTENTION} {OFF}",
    ),
    "attention, always": (lambda x, train: _attention(x, field=False), f"{ATTENTION} {ON}"),
    "a layer of one's own": (
        lambda x, train: DropPath(deterministic=True)(x),
        f"beginning/DropPath_0 of Built {OFF}",
    ),
    "our dropout": (
        lambda x, train: Dropout(0.5)(x),
        f"beginning/Dropout_0 of Built {OFF}.*train to the Dropout of dcmu_jax",
    ),
    "our dropout, always": (lambda x, train: Dropout(0.5)(x, True), f"Dropout_0 of Built {ON}"),
    "draws that no flag switches": (
        lambda x, train: Always()(x),
        "cannot run on images.* in evaluation mode .*dropout.*draws only where it is True",
    ),
    "a spectral norm": (
        lambda x, train: _spectral(x, False),
        "statistics of beginning/SpectralNorm_0 stay as they are.*update_stats=train",
    ),
    "statistics by hand": (
        lambda x, train: Mean(moves=False)(x, train),
        "statistics of beginning/Mean_0 stay as they are",
    ),
    "some statistics": (
        lambda x, train: Mean(moves=True)(Mean(moves=False)(x, train), train),
        "statistics of beginning/Mean_1 stay",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_layer_that_is_not_switched_is_refused(kind):
    layer, says = REFUSED[kind]
    with pytest.raises(InputError, match=f"(?s){says}"):
        check_module(Built(layer), SHAPE, 3)


TAKEN = {
    "attention": lambda x, train: _attention(x, field=not train),
    "attention by its call": lambda x, train: _attention(x, deterministic=not train),
    "attention without dropout": lambda x, train: _attention(x, rate=0.0, field=True),
    "a layer of one's own": lambda x, train: DropPath(deterministic=not train)(x),
    "a rate of 0": lambda x, train: DropPath(rate=0.0, deterministic=True)(x),
    "a field that is not asked": lambda x, train: Told()(x, train),
    "our dropout": lambda x, train: Dropout(0.5)(x, train),
    "our dropout at 0": lambda x, train: Dropout(0.0)(x),
    "a spectral norm": _spectral,
    "statistics by hand": lambda x, train: Mean(moves=True)(x, train),
}


@pytest.mark.parametrize("kind", TAKEN)
def test_a_layer_that_is_switched_is_taken(kind):
    check_module(Built(TAKEN[kind]), SHAPE, 3)

"""Networks trained from scratch by a defence, many at once, each on samples of its own."""

from __future__ import annotations

import dataclasses

import flax.linen as nn
import numpy as np

from dcmu_jax.data.dataset import Dataset, Normalisation
from dcmu_jax.data.selections import Mask, as_mask
from dcmu_jax.errors import InputError, check_seed
from dcmu_jax.training.keys import named_seed
from dcmu_jax.training.population import FittedPopulation
from dcmu_jax.training.private import PrivateGradient
from dcmu_jax.unlearning.task import Training, train_together


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """How the networks of a defence are trained from scratch.

    Attributes:
        model: a Linen module in three parts.
        training: epochs, batches, optimizer, augmentation, loss.
        rule: see ``fit``.
    """

    model: nn.Module
    training: Training
    rule: PrivateGradient | None = None


def train_by(
    recipe: Recipe,
    train: Dataset,
    member: Mask,
    *,
    normalisation: Normalisation,
    seed: int,
    chunk: int | None = None,
) -> FittedPopulation:
    """A network for each row of ``member``, trained on the samples that it names.

    Recipes with one seed start from the same parameters, where the architecture is the same.

    Args:
        recipe: see ``Recipe``.
        train: all that any of them is trained on.
        member: as many samples in each row.

    Other Args:
        normalisation: of the inputs. Given, not measured: a private network must not measure it.
        seed: of initialisation and training.
        chunk: networks side by side, see ``training.population``.
    """
    seed = check_seed("seed", seed)
    member = as_mask("members", member, (len(member), len(train)), "networks and samples")
    counts = np.unique(member.sum(axis=1))
    if len(counts) != 1 or not counts[0]:
        raise InputError(
            f"Networks of {counts.tolist()} samples each",
            "as many samples for each network, one or more",
            "Draw the masks with audits.building.random_halves",
        )
    return train_together(
        recipe.model,
        train,
        np.stack([np.flatnonzero(row) for row in member]),
        recipe.training,
        [named_seed(seed, f"network {number}") for number in range(len(member))],
        normalisation=normalisation,
        rule=recipe.rule,
        chunk=chunk,
    )

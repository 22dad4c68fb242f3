"""Plain methods applied to all originals of a population in one program, not to one after another.

Retraining and catastrophic forgetting are one fit of the whole network on the retain set; the
images are on the device once. The networks are those that the methods make of each original alone,
up to the rounding of another compiled program (held by a test). Methods that freeze parts, or whose
images differ from network to network, run one after another.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from dcmu_jax.audits.building import Rearing, Together, divides
from dcmu_jax.baselines.fine_tuning import CatastrophicForgetting
from dcmu_jax.errors import unknown_name
from dcmu_jax.training.arguments import Placement
from dcmu_jax.training.classifier import Classifier
from dcmu_jax.training.examples import Examples
from dcmu_jax.training.keys import named_key, named_seed
from dcmu_jax.training.population import fit_population
from dcmu_jax.unlearning.task import train_together

PLAIN = ("retrain", "catastrophic_forgetting")
"""Methods that can be applied to all originals at once."""


def _key(seed: int) -> Array:
    """The one by which catastrophic forgetting trains; see ``unlearning.serving``."""
    return named_key(named_seed(seed, "catastrophic_forgetting"), "catastrophic forgetting")


def together(
    name: str,
    rearing: Rearing,
    forget_ids: np.ndarray,
    fine_tuning: CatastrophicForgetting | None = None,
) -> Together:
    """A method of ``PLAIN`` for ``building.unlearned_population``.

    Args:
        name: of the method.
        rearing: how the originals are trained; retraining does the same.
        forget_ids: the forget set.
        fine_tuning: settings of catastrophic forgetting.

    Raises:
        InputError: a method that is not among them, or unknown ids.
    """
    if name not in PLAIN:
        raise unknown_name("method for many networks at once", name, PLAIN)
    method = fine_tuning or CatastrophicForgetting()
    retain = rearing.splits.train.without(forget_ids)
    examples = Examples.of(retain.images, retain.labels)

    def serve(originals: Classifier, seeds: Sequence[int]) -> Classifier:
        mesh = rearing.mesh if divides(rearing.mesh, len(seeds)) else None
        rows = np.tile(np.arange(len(retain)), (len(seeds), 1))
        if name == "retrain":
            return train_together(
                rearing.model,
                retain,
                rows,
                rearing.training,
                seeds,
                normalisation=rearing.normalisation,
                chunk=rearing.chunk,
                mesh=mesh,
            ).classifiers
        return fit_population(
            originals,
            examples,
            rows,
            epochs=method.epochs,
            keys=jnp.stack([_key(seed) for seed in seeds]),
            optimizer=method.optimizer,
            batch_size=method.batch_size,
            placement=Placement(mesh, chunk=rearing.chunk),
        ).classifiers

    values = rearing.training if name == "retrain" else method
    stays = hashlib.sha256(retain.ids.tobytes()).hexdigest()
    return Together(serve, f"{values!r} on {stays}")

"""Prune, then unlearn (P+U): cut most weights of the original, train the rest on the retain set."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from dcmu_jax.baselines.one_fit import Fit, OneFit, on
from dcmu_jax.baselines.synflow import synflow_mask
from dcmu_jax.errors import check_at_least, check_fraction
from dcmu_jax.training.optimizers import Optimizer
from dcmu_jax.unlearning.serving import Serving


@dataclasses.dataclass(frozen=True, kw_only=True)
class PruneAndUnlearn(OneFit):
    """SynFlow on the original, then fine-tuning of what is left of it (Jia et al., 2023).

    P+U of the paper's section V-A.2. A pruned weight is 0 and stays 0. Biases and the parameters
    of normalising layers are not pruned.

    The authors' code meant SynFlow, but its scores were never found by the pruner, which fell
    back to magnitudes; and their network was left in evaluation mode, without dropout and with
    BatchNorm at its old statistics. Here it is SynFlow, and training mode.

    Attributes:
        density: share of the kernel weights that is left.
        rounds: of scoring and pruning.
        epochs: passes over the retain set; the paper has 30, or 10 when a class is forgotten.
        batch_size: examples per step.
        optimizer: Adam at 1e-3 as in the paper, with the schedule that retraining has.
    """

    sees_forget_set: ClassVar[bool] = False
    _names: ClassVar[tuple[str, str]] = ("prune_and_unlearn", "training what is left")
    density: float = 0.05
    rounds: int = 100
    epochs: int = 30
    batch_size: int = 256
    optimizer: Optimizer = Optimizer(schedule="cosine")

    def check(self) -> None:
        """Raise ``InputError`` where a field makes no sense."""
        check_fraction("density", self.density)
        check_at_least("rounds", self.rounds, 1)

    def _fit(self, serving: Serving) -> Fit:
        network = serving.task.original
        with serving.step("pruning"):
            mask = synflow_mask(
                network.model,
                network.variables,
                network.image_shape,
                density=self.density,
                rounds=self.rounds,
            )
            params = jax.tree.map(
                lambda free, p: jnp.where(free, p, jnp.zeros_like(p)),
                mask,
                network.variables["params"],
            )
        return on(serving.task.retain(), network.with_params(params), mask=mask)

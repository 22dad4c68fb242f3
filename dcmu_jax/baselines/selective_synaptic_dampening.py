"""Selective synaptic dampening (SSD): shrink what matters far more to F than to the whole."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from dcmu_jax.baselines.importance import mean_squared_gradients
from dcmu_jax.data.dataset import Dataset
from dcmu_jax.errors import InputError, check_at_least, check_positive
from dcmu_jax.unlearning.serving import Serving
from dcmu_jax.unlearning.task import Hooks, Unlearned, UnlearningTask


@jax.jit
def dampened(params: Any, whole: Any, forget: Any, alpha: Any, dampening: Any) -> Any:
    """``params`` dampened by the importances of the whole set and of the forget set."""

    def leaf(p, i_d, i_f):
        chosen = i_f > alpha * i_d
        factor = jnp.minimum(dampening * i_d / jnp.where(chosen, i_f, 1), 1)
        return jnp.where(chosen, factor * p, p).astype(p.dtype)

    return jax.tree.map(leaf, params, whole, forget)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SelectiveSynapticDampening:
    r"""Dampen the parameters that weigh on the forget set (SSD; Foster et al., AAAI 2024).

    .. math::
        \theta_i \leftarrow \min(\lambda I_{D,i} / I_{F,i},\; 1)\; \theta_i
        \quad \text{where} \quad I_{F,i} > \alpha\, I_{D,i}

    with the mean squared gradients I of the loss on the whole training set and on the forget set.
    Nothing is trained. The source keeps I_D from before the first request; here it is computed,
    and paid for, with each.

    The importances are those of batches, in a random order: the squared gradient of each batch's
    mean loss. The source's formula has single samples, its code batches of 64, and the published
    alpha goes with those. For single samples (``batch_size`` 1), D holds F, so that
    :math:`I_F \le I_D N_D / N_F`: an alpha of 10 can choose nothing where a tenth is to be
    forgotten, and such a setting is refused. A last smaller batch counts by its size here.

    Gradients are taken in evaluation mode; BatchNorm's statistics stay as they are.

    Attributes:
        alpha: how many times as important a parameter must be.
        dampening: lambda.
        batch_size: samples whose mean gradient is squared as one.
    """

    sees_forget_set: ClassVar[bool] = True
    alpha: float = 10.0
    dampening: float = 1.0
    batch_size: int = 64

    def check(self) -> None:
        """Raise ``InputError`` where a field makes no sense."""
        check_positive("alpha", self.alpha)
        check_at_least("dampening", self.dampening, 0)
        check_at_least("batch_size", self.batch_size, 1)

    def _check_for(self, task: UnlearningTask) -> None:
        known, forget = len(task.known()), len(task.forget())
        most = known / max(forget, 1)
        if self.batch_size == 1 and self.alpha >= most:
            raise InputError(
                f"alpha = {self.alpha:g} for single samples, {forget} of {known} to be forgotten",
                f"below {most:.4g}, the most that one importance can be of the other",
                "Lower alpha, or raise batch_size",
            )

    def __call__(self, task: UnlearningTask, hooks: Hooks) -> Unlearned:
        """Dampen the parameters."""
        self.check()
        self._check_for(task)
        with Serving(task, hooks, "selective_synaptic_dampening") as serving:
            network = task.original

            def importance(name: str, dataset: Dataset) -> Any:
                order = jax.random.permutation(serving.key(name), len(dataset))
                with serving.step(name):
                    values = mean_squared_gradients(
                        network, dataset.take(np.asarray(order)), group=self.batch_size
                    )
                    jax.block_until_ready(values)
                return values

            params = dampened(
                network.variables["params"],
                importance("importance to all", task.known()),
                importance("importance to the forget set", task.forget()),
                self.alpha,
                self.dampening,
            )
            network = serving.finished(network.with_params(params))
        return serving.unlearned(network, task.known().ids)

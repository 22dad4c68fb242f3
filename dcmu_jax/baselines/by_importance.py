"""One step by the importance of each parameter: Fisher forgetting's noise, SSD's dampening."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from dcmu_jax.baselines.batches import drawn
from dcmu_jax.baselines.importance import mean_squared_gradients
from dcmu_jax.data.dataset import Dataset
from dcmu_jax.errors import InputError, check_at_least, check_positive
from dcmu_jax.unlearning.serving import Serving
from dcmu_jax.unlearning.task import Hooks, Unlearned, UnlearningTask


def _variance(fisher: Array, alpha, largest, power: float, average_inputs: bool) -> Array:
    variance = alpha * jnp.maximum(fisher, 1 / largest) ** -power
    if average_inputs and variance.ndim > 1:
        variance = jnp.broadcast_to(variance.mean(-2, keepdims=True), variance.shape)
    return variance


@functools.partial(jax.jit, static_argnames=("power", "average_inputs"))
def scrubbed(
    params: Any, fisher: Any, key: Array, alpha, largest, power: float, average_inputs: bool
) -> Any:
    """``params`` with the noise of ``FisherForgetting``, whose settings the last four are."""
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(key, max(len(leaves), 1))
    noisy = [
        p
        + (
            jnp.sqrt(_variance(f, alpha, largest, power, average_inputs))
            * jax.random.normal(k, p.shape)
        ).astype(p.dtype)
        for p, f, k in zip(leaves, jax.tree.leaves(fisher), keys, strict=False)
    ]
    return jax.tree.unflatten(structure, noisy)


@dataclasses.dataclass(frozen=True, kw_only=True)
class FisherForgetting:
    r"""Noise against what the parameters know besides the retain set (Golatkar et al., CVPR 2020).

    .. math::
        \theta \leftarrow \theta + \sqrt v \odot n, \qquad n \sim N(0, I), \qquad
        v = \alpha\, \min(1 / F,\, c)^{q}

    with the diagonal F of Fisher's matrix on the retain set,
    :math:`E_x \sum_y p(y|x) (\nabla \log p(y|x))^2`, exact over the classes. The source derives
    q = 1/2; its code, and that of those who compare with it, has q = 1, the default here.

    One clip c for all parameters. Left out, because they were set by hand for one network and
    know its layers by their shapes: c = 100 for tensors whose first axis is as long as there are
    classes, and ten times the variance for those and for all one-dimensional tensors. Left out
    too: setting the output weights of a forgotten class to 0. It looks at what is to be forgotten,
    and in the code that goes with the paper, which names no class, it empties the output layer.

    Only the retain set is looked at. All parameters move; BatchNorm's statistics stay as they are.

    Attributes:
        alpha: of the noise; in the paper's code 1e-7. Nothing in the method chooses it: too little
            forgets nothing, too much ruins the network.
        largest: c, the largest inverse.
        power: q.
        average_inputs: average v over the inputs of each output unit, as the code does.
        samples: of the retain set that F is taken over, drawn again for each request; None for all.
            Each costs a backward pass for every class.
    """

    sees_forget_set: ClassVar[bool] = False
    alpha: float = 1e-7
    largest: float = 1e3
    power: float = 1.0
    average_inputs: bool = False
    samples: int | None = None

    def check(self) -> None:
        """Raise ``InputError`` where a setting makes no sense."""
        check_positive("alpha", self.alpha)
        check_positive("largest", self.largest)
        check_positive("power", self.power)
        if self.samples is not None:
            check_at_least("samples", self.samples, 1)

    def __call__(self, task: UnlearningTask, hooks: Hooks) -> Unlearned:
        """Add the noise."""
        self.check()
        with Serving(task, hooks, "fisher_forgetting") as serving:
            network = task.original
            retain = drawn(task.retain(), self.samples, serving.key("samples for Fisher"))
            with serving.step("Fisher information"):
                fisher = mean_squared_gradients(network, retain, "fisher")
                jax.block_until_ready(fisher)
            params = scrubbed(
                network.variables["params"],
                fisher,
                serving.key("Fisher noise"),
                self.alpha,
                self.largest,
                self.power,
                self.average_inputs,
            )
            network = serving.finished(network.with_params(params))
        return serving.unlearned(network, retain.ids)


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

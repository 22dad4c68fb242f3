"""NTK scrubbing: the step from fitting everything to fitting what stays, in the linearised net."""

from __future__ import annotations

import dataclasses
import functools
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np

from dcmu_jax.errors import check_at_least, check_positive, unknown_name
from dcmu_jax.unlearning.batches import drawn
from dcmu_jax.unlearning.curvature import Curvature, Loss, check_solver, plus
from dcmu_jax.unlearning.serving import Serving
from dcmu_jax.unlearning.task import Hooks, Unlearned, UnlearningTask


@dataclasses.dataclass(frozen=True, kw_only=True)
class NtkScrubbing:
    r"""Scrubbing along the difference of two linear fits (Golatkar et al., ECCV 2020).

    With the logits linearised at the original's :math:`\theta` and any set S, let
    :math:`\theta + \delta_S` minimise the mean loss on S with
    :math:`\tfrac\lambda2\|\theta + \delta - a\|^2`; for the squared loss,

    .. math::
        \Big(\tfrac{1}{N_S} J_S^\top J_S + \lambda\Big)\, \delta_S
        = \tfrac{1}{N_S} J_S^\top (y - f_S) - \lambda (\theta - a), \qquad
        \theta \leftarrow \theta + s\, (\delta_R - \delta_D).

    For the cross-entropy, :math:`J^\top (\mathrm{diag}(p) - p p^\top) J` and the softmax p stand
    for :math:`J^\top J` and f, as in the source. Where the logits are linear in the parameters and
    the original is the ridge optimum on D (a = 0, squared loss), the result is ridge regression
    on R, exactly.

    The source forms the Jacobians of all samples and inverts a matrix of their size, which ends at
    a thousand images or so. Here each system is solved by conjugate gradients with products alone.
    The difference is solved for itself, out of what the first fit leaves of each sample's target,
    :math:`r = f + J \delta_D - y`. With :math:`\lambda (\theta + \delta_D - a) = -\tfrac{1}{N_D}
    J_D^\top r_D`, which the first system says, it is by algebra

    .. math::
        \Big(\tfrac{1}{N_R} J_R^\top J_R + \lambda\Big) (\delta_R - \delta_D)
        = \tfrac{1}{N_D} \Big( J_F^\top r_F - \tfrac{N_F}{N_R}\, J_R^\top r_R \Big)

    where no parameters and no solutions are subtracted. An error of :math:`\delta_D` enters by
    what it changes in the logits alone, which is what conjugate gradients make small first, and
    only so far as it changes those of F otherwise than those of R. A system that ``iterations`` do
    not solve to ``tolerance`` is told with the result, and marked in every table.

    Left out: the source's correction of the step's length by a trapezium. It needs the parameters
    that the training of the original started from, which a request does not come with; the code
    that goes with the paper takes the trained ones for them, so that the way from the one to the
    other is 0. ``scale`` is there instead. Nothing here is random unless ``samples`` is set.

    All parameters move, in evaluation mode; BatchNorm's statistics are constants of the
    linearisation and stay as they are.

    Attributes:
        loss: squared, or cross_entropy, the one that the network was trained with.
        target: logit of the true class that the squared loss asks for; 0 for the others.
        damping: lambda. The largest eigenvalue of a trained CNN is near 70,000 here, and the square
            root of its ratio to lambda is how many iterations it takes, about.
        anchor: a, what the ridge pulls to: zero, as weight decay does, or the original, as the
            source has it.
        scale: s.
        samples: of the retain set that are used, drawn anew for each request, each counting for as
            many as it stands for; None for all. The whole forget set is always used.
        iterations: of conjugate gradients at most, for each of the two systems. One costs about as
            much as a training epoch on the same samples.
        tolerance: relative residual at which they stop.
        batch_size: samples per product; no part of the result.
    """

    sees_forget_set: ClassVar[bool] = True
    loss: Loss = "squared"
    target: float = 1.0
    damping: float = 10.0
    anchor: Literal["zero", "original"] = "zero"
    scale: float = 1.0
    samples: int | None = None
    iterations: int = 500
    tolerance: float = 1e-3
    batch_size: int = 256

    def check(self) -> None:
        """Raise ``InputError`` where a setting makes no sense."""
        for kind, name, known in (
            ("loss", self.loss, ("squared", "cross_entropy")),
            ("anchor", self.anchor, ("zero", "original")),
        ):
            if name not in known:
                raise unknown_name(kind, name, known)
        check_solver(self.damping, self.iterations, self.tolerance)
        check_positive("target", self.target)
        check_positive("scale", self.scale)
        check_at_least("batch_size", self.batch_size, 1)
        if self.samples is not None:
            check_at_least("samples", self.samples, 1)

    def __call__(self, task: UnlearningTask, hooks: Hooks) -> Unlearned:
        """Forget along the line from one fit to the other."""
        self.check()
        with Serving(task, hooks, "ntk_scrubbing") as serving:
            network = task.original
            params = network.variables["params"]
            all_retain, forget = task.retain(), task.forget()
            retain = drawn(all_retain, self.samples, serving.key("NTK scrubbing"))
            ids = np.concatenate([retain.ids, forget.ids])
            whole = len(all_retain) + len(forget)
            shares = np.full(len(ids), 1 / whole, np.float32)
            shares[: len(retain)] *= len(all_retain) / max(len(retain), 1)
            both = task.train.only(ids)

            signed = shares.copy()
            signed[: len(retain)] *= -len(forget) / len(all_retain)

            def curvature(dataset, weights=None) -> Curvature:
                return Curvature.of(
                    network,
                    dataset,
                    self.loss,
                    target=self.target,
                    weights=weights,
                    batch_size=self.batch_size,
                )

            solve = functools.partial(
                serving.solve,
                damping=self.damping,
                iterations=self.iterations,
                tolerance=self.tolerance,
            )
            on_all = curvature(both, shares)
            right = jax.tree.map(jnp.negative, on_all.gradient())
            if self.anchor == "zero":
                right = plus(right, -self.damping, params)
            fit = solve("linear fit of all", on_all, right)
            right = curvature(both, signed).gradient(fit)
            change = solve("from all to what stays", curvature(retain), right)
            scrubbed = plus(params, self.scale, change)
            variables = {**network.variables, "params": scrubbed}
            network = serving.finished(dataclasses.replace(network, variables=variables))
        return serving.unlearned(network, ids)

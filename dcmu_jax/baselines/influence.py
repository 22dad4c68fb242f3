"""Influence unlearning (IU): one Newton step off the forget set's share in the optimum."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax
import numpy as np

from dcmu_jax.baselines.batches import drawn
from dcmu_jax.baselines.curvature import Curvature, check_solver, plus, solved
from dcmu_jax.errors import check_at_least, check_positive
from dcmu_jax.unlearning.serving import Serving
from dcmu_jax.unlearning.task import Hooks, Unlearned, UnlearningTask


@dataclasses.dataclass(frozen=True, kw_only=True)
class InfluenceUnlearning:
    r"""A step that takes back what the forget set did to the optimum (Koh & Liang, ICML 2017).

    .. math::
        \theta \leftarrow \theta
        + \frac{\alpha}{N_R}\, (G_R + \mu I)^{-1} \sum_{x \in F} \nabla_\theta\, \ell(x; \theta)

    At an optimum of the summed loss the gradients of R are those of F with the sign turned, so
    that this is the Newton step on R (Izzo et al., AISTATS 2021), and it needs F's alone. With a
    ridge of :math:`\tfrac c2\|\theta\|^2` on the sum of the losses, :math:`\mu = c / N_R` makes it
    so. :math:`G_R` is the mean Gauss-Newton matrix of the cross-entropy on the retain set, that is
    Fisher's matrix: the Hessian itself where the logits are linear in the parameters, and positive
    semi-definite everywhere, so that a net that is at no optimum has a step too.

    Jia et al. (2023; "IU") estimate the inverse by WoodFisher's recursion over a thousand
    batches. Conjugate gradients solve for the same kind of matrix without its dependence on the
    order of the samples, to a residual that is told with the result, and without a prior hidden in
    where the recursion starts: that is :math:`\mu`. They search alpha per problem; here it is 1,
    the step as derived.

    All parameters move, in evaluation mode; BatchNorm's statistics are constants and stay as they
    are. Nothing here is random unless ``samples`` is set.

    Attributes:
        alpha: length of the step; 1 is the whole Newton step.
        damping: mu. The smaller, the longer the step: a network that fits its samples has next to
            no curvature, and a gradient of F that is next to nothing.
        samples: of the retain set that the matrix is taken over, drawn again for each request; None
            for all. The whole forget set is always used.
        iterations: of conjugate gradients, at most; where they do not reach ``tolerance``, the
            result says so and tables mark it. One costs about as much as a training epoch on
            the same samples.
        tolerance: relative residual at which they stop.
        batch_size: samples per product; no part of the result.
    """

    sees_forget_set: ClassVar[bool] = True
    alpha: float = 1.0
    damping: float = 1.0
    samples: int | None = None
    iterations: int = 500
    tolerance: float = 1e-3
    batch_size: int = 256

    def check(self) -> None:
        """Raise ``InputError`` where a setting makes no sense."""
        check_solver(self.damping, self.iterations, self.tolerance)
        check_positive("alpha", self.alpha)
        check_at_least("batch_size", self.batch_size, 1)
        if self.samples is not None:
            check_at_least("samples", self.samples, 1)

    def __call__(self, task: UnlearningTask, hooks: Hooks) -> Unlearned:
        """Take the Newton step."""
        self.check()
        with Serving(task, hooks, "influence") as serving:
            network = task.original
            all_retain, forget = task.retain(), task.forget()
            retain = drawn(all_retain, self.samples, serving.key("influence"))
            stays, goes = (
                Curvature.of(network, dataset, "cross_entropy", batch_size=self.batch_size)
                for dataset in (retain, forget)
            )
            share = len(forget) / len(all_retain)
            step = solved(
                serving,
                "influence of the forget set",
                stays,
                jax.tree.map(lambda g: share * g, goes.gradient()),
                damping=self.damping,
                iterations=self.iterations,
                tolerance=self.tolerance,
            )
            params = plus(network.variables["params"], self.alpha, step)
            network = serving.finished(network.with_params(params))
        return serving.unlearned(network, np.concatenate([retain.ids, forget.ids]))

"""One step by a system of equations of the curvature: influence unlearning, NTK scrubbing."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np

from dcmu_jax.baselines.batches import drawn
from dcmu_jax.baselines.curvature import Curvature, Loss, check_solver, plus, solved
from dcmu_jax.errors import check_at_least, check_positive, unknown_name
from dcmu_jax.training.derivatives import norm
from dcmu_jax.unlearning.serving import Serving
from dcmu_jax.unlearning.task import Hooks, Unlearned, UnlearningTask


class _Newton:
    """What methods share that solve systems of a curvature over the retain set.

    Attributes:
        damping: added to the matrix.
        samples: of the retain set; None for all.
        iterations: of conjugate gradients, at most.
        tolerance: relative residual at which they stop.
        batch_size: samples per product.
    """

    damping: float
    samples: int | None
    iterations: int
    tolerance: float
    batch_size: int

    def check(self) -> None:
        """Raise ``InputError`` where a setting makes no sense."""
        check_solver(self.damping, self.iterations, self.tolerance)
        check_at_least("batch_size", self.batch_size, 1)
        if self.samples is not None:
            check_at_least("samples", self.samples, 1)

    def _solved(self, serving: Serving, name: str, curvature: Curvature, right: Any) -> Any:
        return solved(
            serving,
            name,
            curvature,
            right,
            damping=self.damping,
            iterations=self.iterations,
            tolerance=self.tolerance,
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class InfluenceUnlearning(_Newton):
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
        tolerance: relative residual at which they stop. How far down the
            one told can be trusted stands at ``training.derivatives.Solution``.
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
        super().check()
        check_positive("alpha", self.alpha)

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
            right = jax.tree.map(lambda g: share * g, goes.gradient())
            step = self._solved(serving, "influence of the forget set", stays, right)
            params = plus(network.variables["params"], self.alpha, step)
            network = serving.finished(network.with_params(params))
        return serving.unlearned(network, np.concatenate([retain.ids, forget.ids]))


@dataclasses.dataclass(frozen=True, kw_only=True)
class NtkScrubbing(_Newton):
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
    only so far as it changes those of F otherwise than those of R. Yet the right-hand side is a
    small difference, some hundredths of the first system's, of which what the first is left with
    may be a tenth. So the residual that is told with the result, and that tables are marked by, is
    that of the step: what it leaves of this system with the :math:`\delta_D` that solves the
    first, over the right-hand side with it (``step_residual``). It costs a further solution of the
    first system, which changes nothing of the step and is off the clock and the tally.

    Left out: the source's correction of the step's length by a trapezium. It needs the parameters
    that the training of the original started from, which a request does not come with; the code
    that goes with the paper takes the trained ones for them, so that the way from the one to the
    other is 0. ``scale`` is there instead. Nothing here is random unless ``samples`` is set.

    All parameters move, in evaluation mode; BatchNorm's statistics are constants of the
    linearisation and stay as they are.

    Attributes:
        loss: squared, or cross_entropy, the one that the network was trained with.
        target: logit of the true class that the squared loss asks for; 0 for the others.
        damping: lambda. The square root of the ratio of the largest eigenvalue, which is large in a
            trained CNN, to lambda is how many iterations it takes, about.
        anchor: a, what the ridge pulls to: zero, as weight decay does, or the original, as the
            source has it.
        scale: s.
        samples: of the retain set that are used, drawn again for each request, each counting for as
            many as it stands for; None for all. The whole forget set is always used.
        iterations: of conjugate gradients at most, for each of the two systems. One costs about as
            much as a training epoch on the same samples.
        tolerance: relative residual at which they stop, in each of the two systems; see
            ``training.derivatives.Solution`` for how far down it can be trusted.
        step_tolerance: relative residual of the step up to which it counts as solved. Where the
            result is marked for this alone, lower ``tolerance``. It bounds the residual, not the
            error: at a damping far below the eigenvalues a step that counts as solved may still
            lie far from the exact one.
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
    step_tolerance: float = 0.05
    batch_size: int = 256

    def check(self) -> None:
        """Raise ``InputError`` where a setting makes no sense."""
        for kind, name, known in (
            ("loss", self.loss, ("squared", "cross_entropy")),
            ("anchor", self.anchor, ("zero", "original")),
        ):
            if name not in known:
                raise unknown_name(kind, name, known)
        super().check()
        check_at_least("step_tolerance", self.step_tolerance, 0)
        check_positive("target", self.target)
        check_positive("scale", self.scale)

    def __call__(self, task: UnlearningTask, hooks: Hooks) -> Unlearned:
        """Take the scrubbing step."""
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

            on_all, on_stays = curvature(both, shares), curvature(retain)
            of_fit = jax.tree.map(jnp.negative, on_all.gradient())
            if self.anchor == "zero":
                of_fit = plus(of_fit, -self.damping, params)
            fit = self._solved(serving, "linear fit of all", on_all, of_fit)
            of_change = curvature(both, signed).gradient(fit)
            change = self._solved(serving, "from all to what stays", on_stays, of_change)
            with serving.looking():
                left = step_residual(
                    (on_all, fit, of_fit),
                    (on_stays, change, of_change),
                    damping=self.damping,
                    iterations=self.iterations,
                )
            serving.left(left, self.step_tolerance)
            network = serving.finished(network.with_params(plus(params, self.scale, change)))
        return serving.unlearned(network, ids)


def step_residual(
    first: tuple[Curvature, Any, Any],
    second: tuple[Curvature, Any, Any],
    *,
    damping: float,
    iterations: int,
) -> float:
    r"""What a step leaves of the system that it would solve, had the first been solved.

    With :math:`A_S = G_S + \lambda`, what is left :math:`r_D = b_D - A_D \delta_D` of the first
    system, and :math:`b` computed from that :math:`\delta_D`, the right-hand side is by algebra

    .. math:: b^* = b + (G_D - G_R)\, A_D^{-1} r_D

    and the residual :math:`\|b^* - A_R x\| / \|b^*\|` of the step x. The error of the first
    solution, :math:`A_D^{-1} r_D`, is solved for to a hundredth; where the iterations do not reach
    a tenth, all that is left of the first system is added.

    Args:
        first: G_D, the solution found and the right-hand side, trees like ``params``.
        second: the same of G_R, the step x and b.
        damping: lambda.
        iterations: of conjugate gradients, at most.
    """
    (on_all, fit, of_fit), (on_stays, step, of_step) = first, second
    left = plus(of_fit, -1.0, on_all.product(fit, damping))
    error = on_all.solve(left, damping=damping, iterations=iterations, tolerance=0.01)
    shift = plus(on_all.product(error.vector), -1.0, on_stays.product(error.vector))
    whole = plus(of_step, 1.0, shift)
    missing = norm(plus(whole, -1.0, on_stays.product(step, damping)))
    if error.residual > 0.1:
        missing += norm(left)
    return missing / (norm(whole) or 1.0)

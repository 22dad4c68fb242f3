"""The paper's closed form (7) for what unlearning changes in the parameters, put to the test."""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any

import jax
import numpy as np

from dcmu_jax.data.dataset import Dataset
from dcmu_jax.errors import InputError, check_at_least
from dcmu_jax.training.batches import Batches, batched
from dcmu_jax.training.classifier import Classifier
from dcmu_jax.training.derivatives import (
    Solution,
    conjugate_gradients,
    dot,
    gradient_over,
    hessian_product,
    norm,
    plus,
)


@functools.partial(jax.jit, static_argnames=("model",))
def _solve(model, variables, normalisation, batches, right, decay, iterations, tolerance):
    def product(vector):
        return hessian_product(model, variables, normalisation, batches, vector, decay)

    return conjugate_gradients(product, right, iterations, tolerance)


def _sum_gradient(classifier: Classifier, dataset: Dataset, batch_size: int) -> Any:
    """Gradient of the sum of the losses over a set."""
    mean = gradient_over(classifier, dataset, batch_size)
    return jax.tree.map(lambda g: len(dataset) * g[0], mean)


def predicted_difference(
    unlearned: Classifier,
    retain: Dataset,
    forget: Dataset,
    *,
    zeta: float = 1.0,
    decay: float = 0.0,
    iterations: int = 500,
    tolerance: float = 1e-5,
    batch_size: int = 256,
) -> Solution:
    r"""The parameters before unlearning less those after it, to first order: (6) and (7).

    .. math::
        \theta - \theta^* = -\zeta\, H^{-1} \nabla L(F, \theta^*), \qquad
        H = \nabla^2 L(R, \theta^*) + \lambda I

    with losses summed, not averaged, over a set, as in the paper. :math:`\theta^*` is taken to be
    a minimum of :math:`L(R) + \lambda \|\theta\|^2 / 2`, and :math:`\theta` of the same with
    :math:`\zeta L(F)` added; H must be positive definite. Conjugate gradients on products of H with
    vectors, evaluation mode; no matrix is formed.

    Args:
        unlearned: the network at :math:`\theta^*`, retrained on R say.
        retain: R.
        forget: F.

    Other Args:
        zeta: how much F counts in the training before unlearning; the paper's small number, which
            is 1 when all samples are trained on.
        decay: :math:`\lambda`, the weight decay of the summed loss; or a damping, without which
            the system of a network that is not convex has no meaning.
        iterations: of conjugate gradients, at most; two gradients' cost each.
        tolerance: stop once the residual's norm is this share of the right-hand side's.
        batch_size: examples per step; changes memory and speed, not the result.

    Returns:
        The difference, a tree like ``params``, with the iterations and what residual they left.

    Raises:
        InputError: an empty set, or a setting out of its range.
    """
    _check(retain, forget, zeta, decay, iterations, tolerance, batch_size)
    right = jax.tree.map(lambda g: -zeta * g, _sum_gradient(unlearned, forget, batch_size))
    network = unlearned.model, unlearned.variables, unlearned.normalisation
    batches = _summing(retain, batch_size)
    return _solve(*network, batches, right, decay, iterations, tolerance)


def _summing(dataset: Dataset, batch_size: int) -> Batches:
    weights = np.ones(len(dataset), np.float32)
    return batched(dataset, min(batch_size, len(dataset)), weights=weights)


def _check(retain, forget, zeta, decay, iterations, tolerance, batch_size) -> None:
    sizes = len(retain), len(forget)
    if not all(sizes):
        raise InputError(
            f"A relation between {sizes[0]} retained and {sizes[1]} forgotten samples",
            "at least one of each",
            "Forget some samples, and not all of them",
        )
    for name, value, least in (
        ("zeta", zeta, 0),
        ("decay", decay, 0),
        ("iterations", iterations, 1),
        ("tolerance", tolerance, 0),
        ("batch_size", batch_size, 1),
    ):
        check_at_least(name, value, least)


@dataclasses.dataclass(frozen=True)
class HessianRelation:
    """How well the closed form predicts what another training in fact arrived at.

    Attributes:
        residual: norm of (actual - predicted) over the norm of the actual difference: 0 where (7)
            is exact, 1 for a prediction of no change.
        cosine: between predicted and actual difference.
        predicted_norm: L2 norm of the predicted difference.
        actual_norm: L2 norm of the actual difference.
        slope: norm of the gradient of L(R) + decay |theta|^2 / 2 at the unlearned network, over
            that of L(F): the paper assumes 0.
        predicted_loss_change: mean loss on R of the original less that of the unlearned network,
            to first order, as in (12).
        actual_loss_change: the same, measured.
        iterations: of conjugate gradients.
        solver_residual: what of the linear system they left unsolved; where it is large the
            prediction is not that of (7), most often because H is not positive definite.
    """

    residual: float
    cosine: float
    predicted_norm: float
    actual_norm: float
    slope: float
    predicted_loss_change: float
    actual_loss_change: float
    iterations: int
    solver_residual: float


def hessian_relation(
    original: Classifier,
    unlearned: Classifier,
    retain: Dataset,
    forget: Dataset,
    *,
    decay: float = 0.0,
    batch_size: int = 256,
    **settings: Any,
) -> HessianRelation:
    r"""The closed form (7) against two networks: trained on everything, and on R alone.

    Args:
        original: the network at :math:`\theta`.
        unlearned: the network at :math:`\theta^*`.
        retain: R.
        forget: F.

    Other Args:
        decay: see ``predicted_difference``.
        batch_size: examples per step.
        **settings: ``zeta``, ``iterations`` and ``tolerance`` of ``predicted_difference``.

    Raises:
        InputError: an empty set, a setting out of its range, or two equal networks.
    """
    found = predicted_difference(
        unlearned, retain, forget, decay=decay, batch_size=batch_size, **settings
    )
    after = unlearned.variables["params"]
    actual = plus(original.variables["params"], -1.0, after)
    actual_norm, predicted_norm = norm(actual), norm(found.vector)
    if actual_norm == 0:
        raise InputError(
            "Two networks with the same parameters",
            "the network before and the network after unlearning",
            "Retrain without the forget set, from another start or for longer",
        )
    of_retain = _sum_gradient(unlearned, retain, batch_size)
    of_forget = _sum_gradient(unlearned, forget, batch_size)
    losses = [float(network.evaluate(retain).losses.mean()) for network in (original, unlearned)]
    product = actual_norm * predicted_norm
    steepest = norm(of_forget)
    return HessianRelation(
        residual=norm(plus(actual, -1.0, found.vector)) / actual_norm,
        cosine=float(dot(actual, found.vector)) / product if product else math.nan,
        predicted_norm=predicted_norm,
        actual_norm=actual_norm,
        slope=norm(plus(of_retain, decay, after)) / steepest if steepest else math.nan,
        predicted_loss_change=float(dot(of_retain, found.vector)) / len(retain),
        actual_loss_change=losses[0] - losses[1],
        iterations=int(found.iterations),
        solver_residual=float(found.residual),
    )

"""Gauss-Newton without matrices: gradients, products and linear systems of a mean loss."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, Literal

import flax.linen as nn
import jax
import numpy as np
from jaxtyping import Array

from dcmu_jax.data.dataset import Dataset
from dcmu_jax.errors import check_at_least, check_positive
from dcmu_jax.training.batches import Batches, batched, evaluation_logits
from dcmu_jax.training.classifier import Classifier
from dcmu_jax.training.derivatives import Solution, conjugate_gradients, plus, summed
from dcmu_jax.training.flops import spend_on
from dcmu_jax.unlearning.serving import Serving

Loss = Literal["squared", "cross_entropy"]


@dataclasses.dataclass(frozen=True)
class _Objective:
    """Everything that the compiled programs depend on besides arrays; hashable."""

    model: nn.Module
    loss: Loss
    target: float


def _slopes(objective: _Objective, logits: Array, labels: Array) -> Array:
    """Derivative of each sample's loss by its logits."""
    truth = objective.target * jax.nn.one_hot(labels, logits.shape[-1])
    return (jax.nn.softmax(logits) if objective.loss == "cross_entropy" else logits) - truth


def _bend(objective: _Objective, logits: Array, direction: Array) -> Array:
    """Second derivative of each sample's loss by its logits, times ``direction``."""
    if objective.loss == "squared":
        return direction
    p = jax.nn.softmax(logits)
    return p * (direction - (p * direction).sum(-1, keepdims=True))


def _logits_by(objective, variables, normalisation, batch):
    return lambda params: evaluation_logits(
        objective.model, variables, normalisation, params, batch.pixels
    )


def _batch_gradient(objective, variables, normalisation, batch, moved=None):
    """Weighted sum over a batch of the gradients of the loss, of its expansion at ``moved``."""
    by = _logits_by(objective, variables, normalisation, batch)
    if moved is None:
        logits, pull = jax.vjp(by, variables["params"])
        slopes = _slopes(objective, logits, batch.labels)
    else:
        logits, push = jax.linearize(by, variables["params"])
        pull = jax.linear_transpose(push, variables["params"])
        slopes = _slopes(objective, logits, batch.labels) + _bend(objective, logits, push(moved))
    return pull(batch.weights[:, None] * slopes)[0]


def _batch_product(objective, variables, normalisation, batch, vector):
    """Weighted sum over a batch of J' H J, times ``vector``."""
    by = _logits_by(objective, variables, normalisation, batch)
    logits, push = jax.linearize(by, variables["params"])
    bent = _bend(objective, logits, push(vector))
    pull = jax.linear_transpose(push, variables["params"])
    return pull(batch.weights[:, None] * bent)[0]


_static = functools.partial(jax.jit, static_argnames=("objective",))


@_static
def _gradient(objective, variables, normalisation, batches, moved):
    def add(batch):
        return _batch_gradient(objective, variables, normalisation, batch, moved)

    return summed(add, batches, variables["params"])


@_static
def _product(objective, variables, normalisation, batches, vector, damping):
    def add(batch):
        return _batch_product(objective, variables, normalisation, batch, vector)

    return plus(summed(add, batches, vector), damping, vector)


@_static
def _solve(
    objective, variables, normalisation, batches, right, damping, iterations, tolerance
) -> Solution:
    """Conjugate gradients from zero, all of it one program."""

    def product(vector):
        return _product(objective, variables, normalisation, batches, vector, damping)

    return conjugate_gradients(product, right, iterations, tolerance)


@dataclasses.dataclass(frozen=True, eq=False)
class Curvature:
    r"""The mean loss over a data set, linearised in its logits around a network's parameters.

    .. math::
        g = \sum_x w_x J_x^\top \ell'_x, \qquad
        G = \sum_x w_x J_x^\top \ell''_x J_x

    with the Jacobian J of the logits f by all parameters. For ``squared``, the loss is
    :math:`\tfrac12 \|f - t\, e_y\|^2` with :math:`\ell'' = 1`; for ``cross_entropy``,
    :math:`\ell'' = \mathrm{diag}(p) - p p^\top`, and G is Fisher's matrix too. G is positive
    semi-definite, and the Hessian itself where the logits are linear in the parameters.

    Evaluation mode, BatchNorm's statistics held constant. No matrix is formed: a product is one
    compiled scan over the batches, and the device holds the data in their own dtype, a handful of
    vectors of the size of the parameters, and the activations of one batch.

    Attributes:
        classifier: the network.
        batches: the data, with the weights w.
        objective: the loss, as ``of`` makes it.
    """

    classifier: Classifier
    batches: Batches
    objective: _Objective

    @classmethod
    def of(
        cls,
        classifier: Classifier,
        dataset: Dataset,
        loss: Loss,
        *,
        target: float = 1.0,
        weights: np.ndarray | None = None,
        batch_size: int = 256,
    ) -> Curvature:
        """The curvature over ``dataset``.

        Args:
            classifier: the network.
            dataset: at least one sample.
            loss: see the class.

        Other Args:
            target: t, the squared loss's value for the true class.
            weights: w; 1 / N each if not given.
            batch_size: changes memory and speed, not the result.

        Raises:
            InputError: an empty data set, or a batch size below 1.
        """
        check_at_least("batch_size", batch_size, 1)
        size = max(min(batch_size, len(dataset)), 1)
        objective = _Objective(classifier.model, loss, target if loss == "squared" else 1.0)
        return cls(classifier, batched(dataset, size, weights=weights), objective)

    def _arguments(self):
        return self.objective, self.classifier.variables, self.classifier.normalisation

    def gradient(self, moved: Any = None) -> Any:
        """g, or the gradient g + G ``moved`` of the linearised loss there; a tree like ``params``.

        Taken sample by sample from the loss's slope there, not as a sum of g and a product.

        Args:
            moved: a tree like ``params``, away from the network's; None for nothing.
        """
        self._spend(_batch_gradient, moved)
        return _gradient(*self._arguments(), self.batches, moved)

    def product(self, vector: Any, damping: float = 0.0) -> Any:
        """(G + damping I) times ``vector``, a tree like ``params``."""
        self._spend(_batch_product, vector)
        return _product(*self._arguments(), self.batches, vector, damping)

    def solve(
        self, right: Any, *, damping: float, iterations: int, tolerance: float = 1e-4
    ) -> Solution:
        """The solution of (G + damping I) x = ``right`` by conjugate gradients.

        Args:
            right: a tree like ``params``.

        Other Args:
            damping: above 0, so that there is one solution.
            iterations: at most; one product each, and one for the residual, which no ``tally`` has.
            tolerance: see ``conjugate_gradients``.

        Raises:
            InputError: a setting out of its range.
        """
        check_solver(damping, iterations, tolerance)
        found = _solve(*self._arguments(), self.batches, right, damping, iterations, tolerance)
        # That by which the residual is measured looks at the work and is no part of it.
        self._spend(_batch_product, right, times=int(found.iterations))
        return found

    def _spend(self, function, vector: Any, times: int = 1) -> None:
        """Add passes over all batches to the open tally."""
        batch = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), self.batches)
        passes = times * len(self.batches.weights)
        spend_on(function, *self._arguments(), batch, vector, times=passes)


def check_solver(damping: float, iterations: int, tolerance: float) -> None:
    """Raise ``InputError`` where a setting of ``Curvature.solve`` makes no sense."""
    check_positive("damping", damping)
    check_at_least("iterations", iterations, 1)
    check_at_least("tolerance", tolerance, 0)


def solved(
    serving: Serving, name: str, curvature: Curvature, right: Any, *, tolerance: float, **rest: Any
) -> Any:
    """The vector of ``Curvature.solve``; what it leaves unsolved is told with the result.

    Args:
        serving: of the method.
        name: what the user is shown.
        curvature: of the system.
        right: see ``Curvature.solve``.

    Other Args:
        tolerance: see ``Curvature.solve``.
        **rest: see ``Curvature.solve``.
    """
    with serving.step(name):
        found = curvature.solve(right, tolerance=tolerance, **rest)
        serving.left(float(found.residual), tolerance)
    return found.vector

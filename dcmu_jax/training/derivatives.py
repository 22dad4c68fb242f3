"""Derivatives of a network's mean loss: gradients, Hessian products, and linear systems."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from dcmu_jax.data.dataset import Dataset, Normalisation
from dcmu_jax.errors import check_at_least
from dcmu_jax.networks.partition import Variables
from dcmu_jax.platforms import full_precision
from dcmu_jax.training.batches import Batches, cut, evaluation_logits
from dcmu_jax.training.classifier import Classifier
from dcmu_jax.training.examples import cross_entropy
from dcmu_jax.training.flops import spend_on


def weighted_loss(
    model: nn.Module, variables: Variables, normalisation: Normalisation, params: Any, batch: Any
) -> Float[Array, ""]:
    """Weighted sum of a batch's cross-entropies at ``params``, evaluation mode."""
    logits = evaluation_logits(model, variables, normalisation, params, batch.pixels)
    return (cross_entropy(logits, batch.labels) * batch.weights).sum()


def batch_gradient(
    model: nn.Module, variables: Variables, normalisation: Normalisation, batch: Any
) -> Any:
    """Gradient of ``weighted_loss`` by the parameters."""
    return jax.grad(weighted_loss, 3)(model, variables, normalisation, variables["params"], batch)


@functools.partial(jax.jit, static_argnames=("model", "groups"))
def _group_gradients(model, variables, normalisation, batches, which, groups):
    """The gradients of the batches, added up by group; one pass."""

    def step(totals, batch):
        batch, group = batch
        gradient = batch_gradient(model, variables, normalisation, batch)
        return jax.tree.map(lambda t, g: t.at[group].add(g), totals, gradient), None

    like = variables["params"]
    totals = jax.tree.map(lambda p: jnp.zeros((groups, *p.shape), p.dtype), like)
    return jax.lax.scan(step, totals, (batches, which))[0]


@full_precision()
def mean_gradients(
    model: nn.Module,
    variables: Variables,
    normalisation: Normalisation,
    sets: Sequence[tuple[np.ndarray, np.ndarray]],
    batch_size: int = 256,
) -> Any:
    """The gradient of the mean cross-entropy over each of several sets, evaluation mode.

    All sets are gone through once, in batches, by one compiled scan; other sets with the same
    total number of batches do not compile again. The device holds the sets in their own dtype,
    the activations of one batch, and one gradient more than there are sets.

    Args:
        model: a Linen module in three parts.
        variables: its parameters and statistics.
        normalisation: of its inputs.
        sets: pixels in 0..255 and classes of each set, at least one sample in each.
        batch_size: examples per step; changes memory and speed, not the result.

    Returns:
        A tree like ``params`` with a leading axis over the sets.

    Raises:
        InputError: an empty set, or a batch size below 1.
    """
    check_at_least("batch_size", batch_size, 1)
    size = max(min(batch_size, max(len(labels) for _, labels in sets)), 1)
    pieces = [cut(pixels, labels, size) for pixels, labels in sets]
    which = np.repeat(np.arange(len(sets), dtype=np.int32), [len(p.labels) for p in pieces])
    batches = Batches(*(np.concatenate(arrays) for arrays in zip(*pieces, strict=True)))
    batch = jax.tree.map(lambda a: a[0], batches)
    spend_on(batch_gradient, model, variables, normalisation, batch, times=len(which))
    return _group_gradients(model, variables, normalisation, batches, which, len(sets))


def gradient_over(classifier: Classifier, dataset: Dataset, batch_size: int = 256) -> Any:
    """``mean_gradients`` of a network over one set, with a leading axis of one."""
    sets = [(dataset.images, dataset.labels)]
    network = classifier.model, classifier.variables, classifier.normalisation
    return mean_gradients(*network, sets, batch_size)


def summed(add: Callable[[Any], Any], batches: Any, like: Any) -> Any:
    """The sum of ``add(batch)`` over all batches, batch after batch."""

    def step(total, batch):
        return jax.tree.map(jnp.add, total, add(batch)), None

    return jax.lax.scan(step, jax.tree.map(jnp.zeros_like, like), batches)[0]


def hessian_product(
    model: nn.Module,
    variables: Variables,
    normalisation: Normalisation,
    batches: Batches,
    vector: Any,
    damping: float | Array = 0.0,
) -> Any:
    """(H + damping I) times ``vector``, with H the Hessian of the weighted loss over all batches.

    Forward over reverse, so no matrix is formed and the cost is that of a few gradients. To be
    called inside a compiled function.
    """

    def add(batch):
        def gradient(params):
            return batch_gradient(model, {**variables, "params": params}, normalisation, batch)

        return jax.jvp(gradient, (variables["params"],), (vector,))[1]

    return plus(summed(add, batches, vector), damping, vector)


@jax.jit
def plus(a: Any, factor: Any, b: Any) -> Any:
    """``a + factor * b``, of two trees; the dtypes of ``a`` are kept."""
    return jax.tree.map(lambda x, y: (x + factor * y).astype(x.dtype), a, b)


def dot(a: Any, b: Any) -> Any:
    """Inner product of two trees."""
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return sum(jnp.vdot(x, y, precision=jax.lax.Precision.HIGHEST) for x, y in pairs)


def norm(tree: Any) -> float:
    """L2 norm of a tree."""
    return math.sqrt(float(dot(tree, tree)))


class Solution(NamedTuple):
    """What conjugate gradients found.

    Attributes:
        vector: the solution, a tree like ``params``.
        iterations: products that it took.
        residual: norm of what is left of the right-hand side, over the norm of that, by one more
            product with the vector that is returned: what the iterations themselves keep for a
            residual goes on falling where rounding no longer lets the true one fall. That product
            is of float32: with A the matrix, x the vector and b the right-hand side, its
            rounding changes the residual by up to 1e-7 times |A| |x| / |b|, and what is told below
            that may lie several times above or below the true one.
    """

    vector: Any
    iterations: Int[Array, ""]
    residual: Float[Array, ""]


def conjugate_gradients(
    product: Callable[[Any], Any], right: Any, iterations: Any, tolerance: Any
) -> Solution:
    """The solution of ``product(x) = right``, from zero; to be called inside a compiled function.

    Own code rather than ``jax.scipy.sparse.linalg.cg``, which does not say how many products it
    took; the cost of a request needs that.

    Args:
        product: a symmetric, positive definite matrix times a tree.
        right: the right-hand side, a tree.
        iterations: at most; one product each, and one at the end.
        tolerance: stop once the norm of the residual that the iterations keep is this share of the
            right-hand side's. In float32 the true one may be larger: see ``Solution``.
    """
    whole = dot(right, right)

    def going_on(state):
        *_, square, count = state
        return (square > tolerance**2 * whole) & (count < iterations)

    def step(state):
        x, r, p, square, count = state
        image = product(p)
        length = square / dot(p, image)
        x, r = plus(x, length, p), plus(r, -length, image)
        after = dot(r, r)
        return x, r, plus(r, after / square, p), after, count + 1

    start = (jax.tree.map(jnp.zeros_like, right), right, right, whole, jnp.zeros((), jnp.int32))
    x, *_, count = jax.lax.while_loop(going_on, step, start)
    left = plus(right, -1.0, product(x))
    return Solution(x, count, jnp.sqrt(dot(left, left) / jnp.where(whole == 0, 1, whole)))

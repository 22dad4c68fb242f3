r"""What the weights of a cluster's samples may be, and the image that they make.

Of all clusters in one array. The plain form, ``core.distribution_matching``, has one cluster and
the same ``constrain``; tests/fast/test_weights.py holds it to the formulas, cluster by cluster.
"""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

WeightKind = Literal["free", "sum_to_one", "convex"]
"""``free``: any numbers (the paper). ``sum_to_one``: any numbers with the sum of the start, one.
``convex``: positive and summing to one, so that an image is an average of its samples."""

_LEAST = 1e-6
"""Starting weight of a sample whose share was not positive, where only positive ones are allowed:
its logarithm is where the optimisation starts."""


def membership(
    cluster: Int[Array, " samples"], num_clusters: int
) -> Bool[Array, "clusters samples"]:
    """The cluster of each sample; numbers from ``num_clusters`` on mean none."""
    return cluster[None] == jnp.arange(num_clusters)[:, None]


def constrain(
    kind: WeightKind,
    moved: Float[Array, " samples"],
    start: Float[Array | np.ndarray, " samples"],
    scale: Float[Array | np.ndarray, " samples"],
    own: Bool[Array | np.ndarray, "clusters samples"],
) -> Float[Array, " samples"]:
    r"""The weights that the free parameters ``moved`` stand for; at 0 they are ``start``.

    With :math:`\delta` for ``moved``, :math:`w^0` for ``start`` and :math:`s` for ``scale``, within
    each cluster:

    * free: :math:`w = w^0 + s\,\delta`;
    * sum to one: :math:`w = w^0 + s\,\delta - \operatorname{mean}(s\,\delta)`;
    * convex: :math:`w = \operatorname{softmax}(\log w^0 + \delta)`, whatever the scale.

    Args:
        kind: see ``WeightKind``.
        moved: what is optimised.
        start: the weights to start from.
        scale: units of ``moved``; the same within a cluster.
        own: see ``membership``; samples in no cluster get weight 0 or none of meaning.
    """
    start, scale, own = jnp.asarray(start), jnp.asarray(scale), jnp.asarray(own)
    if kind == "free":
        return start + scale * moved
    if kind == "sum_to_one":
        step = scale * moved
        return start + step - _spread(_sums(step, own) / jnp.maximum(own.sum(1), 1), own)
    logits = jnp.log(jnp.maximum(start, _LEAST)) + moved
    highest = jnp.max(jnp.where(own, logits[None], -jnp.inf), axis=1, initial=-1e30)
    member = own.any(axis=0)
    shares = jnp.where(member, jnp.exp(logits - _spread(jax.lax.stop_gradient(highest), own)), 0.0)
    return shares / jnp.where(member, _spread(_sums(shares, own), own), 1.0)


def _sums(values: Array, own: Array) -> Float[Array, " clusters"]:
    """The sum over each cluster."""
    return jnp.matmul(own.astype(values.dtype), values, precision=jax.lax.Precision.HIGHEST)


def _spread(values: Float[Array, " clusters"], own: Array) -> Float[Array, " samples"]:
    """Each cluster's value at each of its samples, 0 elsewhere."""
    return jnp.matmul(values, own.astype(values.dtype), precision=jax.lax.Precision.HIGHEST)


def combine(
    weights: Float[Array, " samples"],
    x: Float[Array, "samples height width channels"],
    own: Bool[Array | np.ndarray, "clusters samples"],
) -> Float[Array, "clusters height width channels"]:
    """The condensed images: the weighted sum of the samples of each cluster.

    Samples in no cluster enter nowhere. Computed as the product of a matrix with one weight per
    column: on CPU that beats ``segment_sum``, and it adds in a fixed order on every
    platform. Its cost grows with the number of clusters squared, which is why they come in chunks.
    """
    matrix = jnp.where(own, weights[None], 0.0)
    rows = jnp.matmul(matrix, x.reshape(x.shape[0], -1), precision=jax.lax.Precision.HIGHEST)
    return rows.reshape(own.shape[0], *x.shape[1:])

"""k-means compiled by JAX: k-means++ starts and Lloyd's iterations of all classes at once."""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

MAX_ITERATIONS = 300


def compiled_kmeans(
    features: list[np.ndarray], clusters: int, seeds: list[int]
) -> list[np.ndarray]:
    """Cluster 0..K-1 of each sample of each class; a cluster may come out empty.

    Args:
        features: of each class, float32 ``(n, D)``, ``n`` at least ``clusters``; the classes are
            padded to the largest.
        clusters: ``K``.
        seeds: one per class.
    """
    if not features:
        return []
    longest = max(map(len, features))
    points = np.stack([np.pad(x, ((0, longest - len(x)), (0, 0))) for x in features])
    real = np.arange(longest)[None] < np.array([[len(x)] for x in features])
    keys = jax.vmap(jax.random.key)(np.array(seeds, np.uint32))
    assignment = np.asarray(_all_classes(points, real, keys, clusters))
    return [row[: len(x)] for row, x in zip(assignment, features, strict=True)]


@functools.partial(jax.jit, static_argnames="clusters")
def _all_classes(points, real, keys, clusters):
    # Centred, for the squared distances are computed from inner products in float32.
    count = jnp.sum(real, axis=1)[:, None, None]
    mean = jnp.sum(points * real[:, :, None], axis=1, keepdims=True) / count
    points = (points - mean) * real[:, :, None]
    return jax.lax.map(lambda xs: _one_class(xs[0], xs[1], xs[2], clusters), (points, real, keys))


def _distances(
    points: Float[Array, "n dim"], centroids: Float[Array, "k dim"]
) -> Float[Array, "n k"]:
    """Squared distances."""
    norms = jnp.sum(points**2, axis=1)[:, None] + jnp.sum(centroids**2, axis=1)[None]
    return jnp.maximum(norms - 2 * points @ centroids.T, 0.0)


def _start(points: Array, real: Bool[Array, " n"], key: Array, clusters: int) -> Array:
    """k-means++ centroids, each the best of a few candidates drawn by squared distance."""
    trials = 2 + int(math.log(clusters))

    def draw(key, nearest, shape):
        # Gumbel-max over log(distance); points at distance 0 and padding are never drawn,
        # unless nothing else is left.
        logits = jnp.where(real, jnp.log(nearest + 1e-30), -jnp.inf)
        return jax.random.categorical(key, logits, shape=shape)

    first_key, key = jax.random.split(key)
    first = draw(first_key, jnp.ones_like(real, jnp.float32), ())
    nearest = _distances(points, points[first][None])[:, 0] * real
    chosen = jnp.zeros(clusters, jnp.int32).at[0].set(first.astype(jnp.int32))

    def add(i, carry):
        nearest, chosen = carry
        candidates = draw(jax.random.fold_in(key, i), nearest, (trials,))
        left = jnp.minimum(nearest[:, None], _distances(points, points[candidates]))
        left = left * real[:, None]
        best = jnp.argmin(jnp.sum(left, axis=0))
        return left[:, best], chosen.at[i].set(candidates[best].astype(jnp.int32))

    _, chosen = jax.lax.fori_loop(1, clusters, add, (nearest, chosen))
    return points[chosen]


def _one_class(points: Array, real: Array, key: Array, clusters: int) -> Int[Array, " n"]:
    """Lloyd's iterations until no sample changes its cluster."""

    def assign(centroids):
        return jnp.argmin(_distances(points, centroids), axis=1).astype(jnp.int32)

    def unsettled(carry):
        _, assignment, last, iteration = carry
        return jnp.any((assignment != last) & real) & (iteration < MAX_ITERATIONS)

    def iterate(carry):
        centroids, assignment, _, iteration = carry
        sums = jax.ops.segment_sum(points * real[:, None], assignment, clusters)
        sizes = jax.ops.segment_sum(real.astype(jnp.float32), assignment, clusters)[:, None]
        centroids = jnp.where(sizes > 0, sums / jnp.maximum(sizes, 1.0), centroids)
        return centroids, assign(centroids), assignment, iteration + 1

    centroids = _start(points, real, key, clusters)
    carry = (centroids, assign(centroids), jnp.full(len(points), -1, jnp.int32), 0)
    return jax.lax.while_loop(unsettled, iterate, carry)[1]

r"""k-means compiled by JAX: k-means++ starts and Lloyd's iterations, one program for all classes.

Only inner products with the samples are needed. Those of a centroid are means over its members,
:math:`\langle \bar x_j, x_i \rangle = |j|^{-1} \sum_{l \in j} \langle x_l, x_i \rangle`, and so is
its squared norm. Where a class is small enough to hold all products of its samples, they are
computed once, in one large matrix product: a candidate start is then a row of that table, and an
iteration adds rows, whatever the dimension. Larger classes add samples and multiply.

The plain form of Algorithm 1, ``core.clustering.cluster_by_class``, calls scikit-learn for each
class. tests/condensation/test_clustering.py holds this one to Lloyd's iterations by the book, and
to clusters as good as scikit-learn's.
"""

from __future__ import annotations

import functools
import math
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float, Int

from dcmu_jax.platforms import on_cpu
from dcmu_jax.prng import key_of
from dcmu_jax.training.devices import placed

MAX_ITERATIONS = 300

TOLERANCE = 2e-4
"""An iteration that lowers the inertia by a smaller share is the last. Going on until nothing
moves takes more iterations for little: stopped here, the inertia is within 0.1 % of scikit-learn's
(experiments/results/clustering.json)."""

TABLE_LIMIT = 8192
"""Most samples of a class whose inner products are held at once: 256 MiB."""

IN_FLIGHT = 2**31
"""Bytes of such tables at any time."""


def compiled_kmeans(
    features: np.ndarray,
    members: list[np.ndarray],
    clusters: int,
    seeds: list[int],
    mesh: Mesh | None = None,
) -> list[np.ndarray]:
    """Cluster 0..K-1 of each sample of each class; a cluster may come out empty.

    On CPU one class per thread, for much of an iteration is no matrix product and would leave the
    other cores idle; elsewhere all classes in one call.

    Args:
        features: float ``(N, D)``.
        members: rows of each class, at least ``clusters`` each; the classes are padded to the
            largest.
        clusters: ``K``.
        seeds: one per class.
        mesh: devices of this process with the axis ``classes``, which share the classes; on CPU
            the threads do.
    """
    if not members:
        return []
    longest = max(map(len, members))
    use_table = longest <= TABLE_LIMIT
    at_once = max(1, IN_FLIGHT // (4 * longest * (longest if use_table else clusters)))

    def padded(at):
        x = np.zeros((longest, features.shape[1]), np.float32)
        x[: len(at)] = features[at]
        return x

    if on_cpu():
        program = _program(longest, features.shape[1], clusters, use_table)

        def one(at, seed):
            return np.asarray(program(padded(at), np.int32(len(at)), key_of(seed)))

        with ThreadPoolExecutor(min(at_once, os.cpu_count() or 1)) as pool:
            found = list(pool.map(one, members, seeds))
    else:
        counts = np.array([len(at) for at in members], np.int32)
        keys = jnp.stack([key_of(seed) for seed in seeds])
        points = np.stack([padded(at) for at in members])
        each = points, counts, keys
        found = np.asarray(all_classes(each, clusters, use_table, at_once, mesh))
    return [row[: len(at)] for row, at in zip(found, members, strict=True)]


def all_classes(
    each: Any, clusters: int, use_table: bool, at_once: int, mesh: Mesh | None
) -> Int[Array, "classes n"]:
    """Clusters of the samples of every class in one call.

    Args:
        each: samples ``(classes, n, D)``, how many of them are real, and a key, of each class.
        clusters: ``K``.
        use_table: hold all inner products of a class.
        at_once: classes that a device has side by side, at most.
        mesh: see ``compiled_kmeans``; the classes are padded to a multiple of its size.
    """
    if mesh is None:
        return _some_classes(each, clusters, use_table, at_once, None)
    classes = len(each[0])
    padded = np.resize(np.arange(classes), -(-classes // mesh.size) * mesh.size)
    each = placed(jax.tree.map(lambda leaf: leaf[padded], each), mesh, P("classes"))
    return _some_classes(each, clusters, use_table, at_once, mesh)[:classes]


@functools.partial(jax.jit, static_argnums=(1, 2, 3, 4))
def _some_classes(each, clusters, use_table, at_once, mesh):
    def here(each):
        return jax.lax.map(
            lambda xs: _one_class(xs[0], xs[1], xs[2], clusters, use_table, False),
            each,
            batch_size=min(at_once, len(each[0])),
        )

    if mesh is None:
        return here(each)
    classes = P("classes")
    # What a device returns depends on its own classes alone, which the checker cannot know.
    run = jax.shard_map(here, mesh=mesh, in_specs=classes, out_specs=classes, check_vma=False)
    return run(each)


def _one_class(
    points: Float[Array, "n dim"],
    count: Int[Array, ""],
    key: Array,
    clusters: int,
    use_table: bool,
    scatter: bool,
) -> Int[Array, " n"]:
    """Lloyd's iterations from k-means++ starts; rows from ``count`` on are padding.

    ``scatter`` adds up members one after another, which a CPU does well; otherwise by a matrix
    product with their indicators, which a GPU does to the same bits each time.
    """
    n = len(points)
    real = jnp.arange(n) < count
    # Centred, for the squared distances are computed from inner products in float32.
    points = (points - jnp.sum(points, axis=0)[None] / count) * real[:, None]
    norms = jnp.sum(points**2, axis=1)

    def dot(a, b):  # never in the reduced precision that accelerators default to
        return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)

    basis = dot(points, points.T) if use_table else points

    def products(rows: Float[Array, "k _"]) -> Float[Array, "k n"]:
        """Inner products with all samples, of combinations of rows of the basis."""
        return rows if use_table else dot(rows, points.T)

    def sums(values: Float[Array, "n _"], assignment: Int[Array, " n"]) -> Float[Array, "k _"]:
        if scatter:
            return jax.ops.segment_sum(values, assignment, clusters)
        return dot((assignment[None] == jnp.arange(clusters)[:, None]).astype(jnp.float32), values)

    def assign(inner, squares):
        """Nearest centroid of each sample, ``K`` for padding, and the inertia."""
        away = squares[:, None] - 2 * inner  # but for the samples' own norms
        least = jnp.min(away, axis=0)
        # Two reductions along the long axis are faster than an argmin on CPU.
        index = jnp.arange(clusters, dtype=jnp.int32)[:, None]
        assignment = jnp.min(jnp.where(away <= least[None], index, clusters - 1), axis=0)
        inertia = jnp.sum(jnp.maximum(norms + least, 0.0) * real)
        return jnp.where(real, assignment, clusters), inertia

    def unsettled(carry):
        *_, inertia, last, iteration = carry
        return (last - inertia > TOLERANCE * inertia) & (iteration < MAX_ITERATIONS)

    def iterate(carry):
        inner, squares, assignment, inertia, _, iteration = carry
        sizes = sums(jnp.ones((n, 1), jnp.float32), assignment)
        share = 1 / jnp.maximum(sizes, 1.0)
        # A cluster without members keeps its centroid.
        inner = jnp.where(sizes > 0, products(sums(basis, assignment) * share), inner)
        own = jnp.take_along_axis(inner, jnp.minimum(assignment, clusters - 1)[None], axis=0)
        means = (sums(own.T, assignment) * share)[:, 0]
        squares = jnp.where(sizes[:, 0] > 0, means, squares)
        return inner, squares, *assign(inner, squares), inertia, iteration + 1

    chosen = _start(lambda rows: products(basis[rows]), norms, count, key, clusters)
    inner, squares = products(basis[chosen]), norms[chosen]
    carry = (inner, squares, *assign(inner, squares), jnp.inf, 0)
    return jax.lax.while_loop(unsettled, iterate, carry)[2]


@functools.lru_cache(maxsize=8)
def _program(n: int, dim: int, clusters: int, use_table: bool):
    """``_one_class`` compiled ahead: threads that meet a new shape would each compile it."""
    shapes = (
        jax.ShapeDtypeStruct((n, dim), jnp.float32),
        jax.ShapeDtypeStruct((), jnp.int32),
        jax.eval_shape(lambda: key_of(0)),
    )
    jitted = jax.jit(_one_class, static_argnums=(3, 4, 5))
    return jitted.lower(*shapes, clusters, use_table, True).compile()


def _start(products, norms: Array, count: Array, key: Array, clusters: int) -> Int[Array, " k"]:
    """k-means++ starts, each the best of a few candidates drawn by squared distance.

    Args:
        products: rows of samples -> their inner products with all samples.
        norms: squared norms, 0 for padding.
        count: samples, without padding.
        key: of the draws.
        clusters: ``K``.
    """
    trials = 2 + int(math.log(clusters))
    uniform = jax.random.uniform(key, (clusters, trials))

    def left(nearest, candidates):
        """Squared distances to the nearest start if each candidate becomes one."""
        away = norms[None] + norms[candidates][:, None] - 2 * products(candidates)
        return jnp.minimum(nearest[None], jnp.maximum(away, 0.0))

    def add(i, carry):
        nearest, chosen = carry
        total = jnp.cumsum(nearest)
        candidates = jnp.searchsorted(total, uniform[i] * total[-1], side="right")
        # Past the end by rounding, or because all samples lie on starts already.
        candidates = jnp.minimum(candidates.astype(jnp.int32), count - 1)
        after = left(nearest, candidates)
        best = jnp.argmin(jnp.sum(after, axis=1))
        return after[best], chosen.at[i].set(candidates[best])

    real = jnp.arange(len(norms)) < count
    first = jnp.minimum((uniform[0, :1] * count).astype(jnp.int32), count - 1)
    nearest = left(jnp.full(len(norms), jnp.inf), first)[0] * real
    chosen = jnp.zeros(clusters, jnp.int32).at[0].set(first[0])
    return jax.lax.fori_loop(1, clusters, add, (nearest, chosen))[1]

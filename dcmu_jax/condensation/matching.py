r"""Fast distribution matching: one weighted image per cluster, all clusters at once.

The paper's Algorithm 2. For a cluster of ``n`` samples :math:`X_i` the condensed image is
:math:`\varphi = \sum_i w_i X_i`; the weights start at ``1/n`` and minimise
:math:`\| \tfrac1n \sum_i g(X_i) - g(\varphi) \|_2^2` by Adam, where ``g`` gives a network's
features. They are free: nothing keeps them positive or summing to one.

Flat form: one weight and one cluster number per sample *are* the condensed set. The losses of all
clusters are summed; the gradient of a weight then comes from its own cluster alone and Adam works
element by element, so this equals one cluster after another (``match_one_cluster``, the oracle).
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int

from dcmu_jax.data.dataset import Normalisation
from dcmu_jax.errors import InputError, check_at_least, check_positive
from dcmu_jax.training.minimise import descend, minimise

FeatureFn = Callable[[Any, Array], Array]
"""``feature_fn(variables, x)``: network inputs ``(batch, H, W, C)`` to features ``(batch, dim)``.

Hashable and the same object (or an equal one) from call to call, else every call compiles anew."""

CHECK_EVERY = 10
"""Steps between two tests for convergence."""


@dataclasses.dataclass(frozen=True)
class MatchingConfig:
    """How condensed images are optimised. The defaults are the paper's.

    Attributes:
        steps: full-batch Adam steps, at most.
        learning_rate: of Adam. A weight moves by about this much in a step.
        scale_by_size: measure the step against the starting weight: a weight of a cluster of
            ``n`` then moves by about ``learning_rate / n``, so that the weights of large clusters
            stay averages. (1e-2 with scaling is 1e-3 without it at ``n = 10``.)
        tolerance: ``None`` runs all steps. Else a cluster rests where its loss stands as soon as
            ten steps lowered it by less than this share.
        chunk: clusters optimised together; bounds memory and changes no result. ``None`` takes
            the default of the platform (measured on CPU only).
    """

    steps: int = 100
    learning_rate: float = 1e-3
    scale_by_size: bool = False
    tolerance: float | None = None
    chunk: int | None = None

    def __post_init__(self):
        check_at_least("steps", self.steps, 0)
        check_positive("learning_rate", self.learning_rate)
        if self.tolerance is not None:
            check_positive("tolerance", self.tolerance)
        if self.chunk is not None:
            check_at_least("chunk", self.chunk, 1)


@dataclasses.dataclass(frozen=True, eq=False)
class Matched:
    """The outcome of matching.

    Attributes:
        weights: float32 ``(N,)``, one per sample.
        images: float32 ``(B, H, W, C)``, pixels on the scale 0..255, not clipped.
        initial_loss: float32 ``(B,)``, squared feature distance at the starting weights; 0 for a
            cluster of one sample.
        final_loss: float32 ``(B,)``, the same at the final weights.
    """

    weights: np.ndarray
    images: np.ndarray
    initial_loss: np.ndarray
    final_loss: np.ndarray


def combine(
    weights: Float[Array, " samples"],
    x: Float[Array, "samples height width channels"],
    cluster: Int[Array, " samples"],
    num_clusters: int,
) -> Float[Array, "clusters height width channels"]:
    """The condensed images: the weighted sum of the samples of each cluster.

    Samples whose number is ``num_clusters`` or more enter nowhere. Computed as the product of a
    matrix with one weight per column: on CPU that beats ``segment_sum`` by some 15 % of the whole
    step, and it adds in a fixed order on every platform. Its cost grows with ``num_clusters``
    squared, which is why clusters come in chunks.
    """
    own = cluster[None] == jnp.arange(num_clusters)[:, None]
    matrix = jnp.where(own, weights[None], 0.0)
    rows = jnp.matmul(matrix, x.reshape(x.shape[0], -1), precision=jax.lax.Precision.HIGHEST)
    return rows.reshape(num_clusters, *x.shape[1:])


def default_chunk() -> int:
    """Clusters optimised together when the configuration leaves it open."""
    return 16 if jax.default_backend() == "cpu" else 256


def match_clusters(
    feature_fn: FeatureFn,
    variables: Any,
    pixels: np.ndarray,
    features: Float[np.ndarray, "samples dim"],
    cluster: Int[np.ndarray, " samples"],
    normalisation: Normalisation,
    config: MatchingConfig,
    *,
    weights: Float[np.ndarray, " samples"] | None = None,
) -> Matched:
    """Condense every cluster to one image (paper, Algorithm 2), all clusters at once.

    Guarantees: equal to ``match_one_cluster`` on each cluster up to rounding; independent of
    ``config.chunk`` up to rounding; a cluster of one sample keeps it, bit for bit, with weight 1.

    Args:
        feature_fn: the differentiable feature map; see ``FeatureFn``.
        variables: its parameters and statistics, frozen.
        pixels: ``(N, H, W, C)``, 0..255.
        features: ``feature_fn`` of every sample; their means are what is matched.
        cluster: cluster of every sample; all of ``0..B-1`` occur.
        normalisation: from pixels to the inputs of the network. Images are combined as inputs.
        config: the optimisation.
        weights: where to start; ``1/n`` when not given.

    Raises:
        InputError: a cluster number without samples.
    """
    sizes = np.bincount(cluster)
    if len(cluster) == 0 or sizes.min() == 0:
        raise InputError(
            "A cluster without samples" if len(cluster) else "No samples to condense",
            "cluster numbers 0..B-1, each with a sample",
            "Renumber the clusters",
        )
    if weights is None:
        weights = (1.0 / sizes)[cluster].astype(np.float32)
    out_weights = np.ones(len(cluster), np.float32)
    images = np.empty((len(sizes), *pixels.shape[1:]), np.float32)
    losses = np.zeros((2, len(sizes)), np.float32)
    alone = np.flatnonzero(sizes[cluster] == 1)
    images[cluster[alone]] = pixels[alone]
    for chunk in _chunks(pixels, features, cluster, weights, config):
        w, inputs, before, after = _match_chunk(
            feature_fn, config, variables, normalisation, chunk.arrays
        )
        count, numbers = len(chunk.samples), chunk.clusters
        out_weights[chunk.samples] = np.asarray(w)[:count]
        images[numbers] = np.asarray(normalisation.invert(inputs))[: len(numbers)]
        losses[:, numbers] = np.stack([before, after])[:, : len(numbers)]
    return Matched(out_weights, images, losses[0], losses[1])


class _Arrays(NamedTuple):
    """The arrays of one chunk; padding samples have a cluster number past the last one."""

    pixels: np.ndarray
    cluster: np.ndarray
    start: np.ndarray
    scale: np.ndarray
    targets: np.ndarray
    real: np.ndarray


class _Chunk(NamedTuple):
    """Some clusters, padded to the shape all chunks share."""

    samples: np.ndarray
    clusters: np.ndarray
    arrays: _Arrays


def _chunks(pixels, features, cluster, weights, config: MatchingConfig) -> Iterator[_Chunk]:
    """Deal the clusters, large to small and back, into chunks of nearly equal numbers of samples.

    Clusters of one sample stay out: their image is the sample, and their loss is 0 at weight 1.
    Shapes are rounded up so that a slightly different set of clusters is not compiled anew.
    """
    sizes = np.bincount(cluster)
    several = np.argsort(-sizes, kind="stable")[: np.count_nonzero(sizes > 1)]
    if len(several) == 0:
        return
    width = min(config.chunk or default_chunk(), 1 << (len(several) - 1).bit_length())
    num_chunks = -(-len(several) // width)
    dealt = np.full(num_chunks * width, -1)
    dealt[: len(several)] = several
    dealt = dealt.reshape(width, num_chunks)
    dealt[1::2] = dealt[1::2, ::-1]
    groups = [np.sort(column[column >= 0]) for column in dealt.T]
    length = max(int(sizes[group].sum()) for group in groups)
    length = -(-length // width) * width
    by_cluster = np.argsort(cluster, kind="stable")
    ends = np.cumsum(sizes)
    for group in groups:
        samples = np.concatenate([by_cluster[ends[j] - sizes[j] : ends[j]] for j in group])
        first = np.cumsum(sizes[group]) - sizes[group]
        sums = np.add.reduceat(features[samples], first, axis=0, dtype=np.float64)
        targets = np.zeros((width, features.shape[1]), np.float32)
        targets[: len(group)] = sums / sizes[group][:, None]
        own = np.repeat(sizes[group], sizes[group])
        local = np.repeat(np.arange(len(group)), sizes[group])
        scale = 1.0 / own if config.scale_by_size else np.ones(len(own))
        pad = (0, length - len(samples))
        arrays = _Arrays(
            pixels=np.pad(pixels[samples], (pad, (0, 0), (0, 0), (0, 0))),
            cluster=np.pad(local, pad, constant_values=width).astype(np.int32),
            start=np.pad(weights[samples] / scale, pad).astype(np.float32),
            scale=np.pad(scale, pad).astype(np.float32),
            targets=targets,
            real=np.arange(width) < len(group),
        )
        yield _Chunk(samples, group, arrays)


def _match_chunk(feature_fn, config: MatchingConfig, variables, normalisation, arrays: _Arrays):
    """Optimise one chunk: its weights, condensed inputs, and losses before and after."""
    x = _normalise(normalisation, arrays.pixels)
    arrays = jax.device_put(arrays._replace(pixels=arrays.pixels[:0]))  # x is all that is needed
    free = arrays.start
    state = optax.adam(config.learning_rate).init(free)
    weights, inputs, before = _evaluate(feature_fn, free, variables, x, arrays)
    after, active, done = before, arrays.real, 0
    while done < config.steps:
        steps = config.steps - done
        if config.tolerance is not None:
            steps = min(CHECK_EVERY, steps)
        free, state = _advance(
            feature_fn, steps, config.learning_rate, free, state, variables, x, arrays, active
        )
        done += steps
        last = after
        weights, inputs, after = _evaluate(feature_fn, free, variables, x, arrays)
        if config.tolerance is not None:
            active = active & (last - after > config.tolerance * last)
            if not active.any():
                break
    return weights, inputs, before, after


_normalise = jax.jit(lambda normalisation, pixels: normalisation.apply(pixels))


def _losses(free, feature_fn, variables, x, arrays: _Arrays):
    """Condensed inputs and the loss of each cluster (0 for padding)."""
    weights = free * arrays.scale
    inputs = combine(weights, x, jnp.asarray(arrays.cluster), len(arrays.real))
    distance = jnp.sum((feature_fn(variables, inputs) - arrays.targets) ** 2, axis=1)
    return inputs, jnp.where(arrays.real, distance, 0.0)


@functools.partial(jax.jit, static_argnames=("feature_fn",))
def _evaluate(feature_fn, free, variables, x, arrays: _Arrays):
    """Weights, condensed inputs and the loss of each cluster."""
    return free * arrays.scale, *_losses(free, feature_fn, variables, x, arrays)


@functools.partial(jax.jit, static_argnames=("feature_fn", "steps"))
def _advance(feature_fn, steps, learning_rate, free, state, variables, x, arrays, active):
    """Some steps; the samples of clusters that are not ``active`` stay where they are."""
    optimizer = optax.adam(learning_rate)

    def loss(free, variables, x, arrays):
        return jnp.sum(_losses(free, feature_fn, variables, x, arrays)[1])

    def step(carry, _):
        return descend(loss, *carry, optimizer, variables, x, arrays)[:2], None

    (moved, state), _ = jax.lax.scan(step, (free, state), length=steps)
    moves = jnp.append(active, False)[arrays.cluster]
    return jnp.where(moves, moved, free), state


def match_one_cluster(
    feature_fn: FeatureFn,
    variables: Any,
    x: Float[Array, "members height width channels"],
    features: Float[Array | np.ndarray, "members dim"],
    mask: Bool[Array | np.ndarray, " members"],
    config: MatchingConfig,
) -> tuple[Float[Array, " members"], Float[Array, "height width channels"]]:
    """One cluster by the letter of Algorithm 2: the definition, and the oracle of the tests.

    Pure; with padded members it may be ``vmap``-ped over clusters. ``config.tolerance`` and
    ``config.chunk`` have no meaning here.

    Args:
        feature_fn: the differentiable feature map.
        variables: its parameters and statistics.
        x: members as network inputs, padded.
        features: their features.
        mask: which members are real.
        config: the optimisation.

    Returns:
        The weights (0 at padding) and the condensed image as a network input.
    """
    n = jnp.sum(mask)
    scale = 1.0 / n if config.scale_by_size else 1.0
    real = mask.astype(x.dtype)
    target = jnp.sum(features * real[:, None], axis=0) / n

    def image(free, x, real):
        return jnp.einsum("m,mhwc->hwc", free * scale * real, x)

    def loss(free, variables, x, real, target):
        return jnp.sum((feature_fn(variables, image(free, x, real)[None])[0] - target) ** 2)

    start = real / n / scale
    optimizer = optax.adam(config.learning_rate)
    free, _ = minimise(loss, start, optimizer, config.steps, variables, x, real, target)
    free = jnp.where(n == 1, start, free)
    return free * scale * real, image(free, x, real)

r"""Fast distribution matching: one weighted image per cluster, all clusters at once.

The paper's Algorithm 2. For a cluster of ``n`` samples :math:`X_i` the condensed image is
:math:`\varphi = \sum_i w_i X_i`; the weights start at ``1/n`` and minimise
:math:`\| \tfrac1n \sum_i g(X_i) - g(\varphi) \|_2^2` by Adam, where ``g`` gives a network's
features. They are free: nothing keeps them positive or summing to one (``weights`` offers both).

Flat form: one weight and one cluster number per sample *are* the condensed set. The losses of all
clusters are summed; the gradient of a weight then comes from its own cluster alone and Adam works
element by element, so this equals one cluster after another. That is the plain form,
``core.distribution_matching.match_one_cluster``; tests/fast/test_matching.py holds the two equal.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float, Int

from dcmu_jax.data.dataset import Normalisation
from dcmu_jax.errors import InputError, check_at_least, check_positive, unknown_name
from dcmu_jax.fast.chunks import Chunk, ChunkArrays, deal_clusters, one_cluster
from dcmu_jax.fast.gauss_newton import newton_step
from dcmu_jax.fast.weights import WeightKind, combine, constrain, membership
from dcmu_jax.platforms import full_precision
from dcmu_jax.training.devices import local_mesh, merged, placed, turn
from dcmu_jax.training.divergence import Diverged, all_finite
from dcmu_jax.training.flops import spend_on
from dcmu_jax.training.minimise import descend

FeatureFn = Callable[[Any, Array], Array]
"""``feature_fn(variables, x)``: network inputs ``(batch, H, W, C)`` to features ``(batch, dim)``.

Hashable and the same object (or an equal one) from call to call, else every call compiles again."""

CHECK_EVERY = {"adam": 10, "newton": 1}
"""Steps between two tests for convergence, by solver."""


@dataclasses.dataclass(frozen=True)
class MatchingConfig:
    """How condensed images are optimised. The defaults are the paper's.

    Attributes:
        solver: ``adam`` (the paper), or ``newton``: Gauss-Newton steps (``gauss_newton``), which
            reach a lower objective in less time.
        steps: full-batch steps, at most.
        inner: conjugate-gradient steps in each of newton's.
        learning_rate: of Adam. A weight moves by about this much in a step.
        scale_by_size: measure Adam's step against the starting weight: a weight of a cluster of
            ``n`` then moves by about ``learning_rate / n``, so that the weights of large clusters
            stay averages. (1e-2 with scaling is 1e-3 without it at ``n = 10``.)
        weights: what weights may be; see ``WeightKind``.
        tolerance: ``None`` runs all steps. Else a cluster rests where its loss stands as soon as
            ten steps of Adam, or one of newton, lowered it by less than this share.
        chunk: clusters optimised together; bounds memory and changes no result. ``None`` takes
            the platform's, see ``chunks.default_chunk``.
    """

    solver: Literal["adam", "newton"] = "adam"
    steps: int = 100
    inner: int = 3
    learning_rate: float = 1e-3
    scale_by_size: bool = False
    weights: WeightKind = "free"
    tolerance: float | None = None
    chunk: int | None = None

    def __post_init__(self):
        for name, kinds in (("solver", ("adam", "newton")), ("weights", get_args(WeightKind))):
            if getattr(self, name) not in kinds:
                raise unknown_name(name, getattr(self, name), kinds)
        check_at_least("steps", self.steps, 0)
        check_at_least("inner", self.inner, 1)
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


@full_precision()
def match_clusters(
    feature_fn: FeatureFn,
    variables: Any,
    pixels: np.ndarray,
    targets: Float[np.ndarray, "clusters dim"],
    cluster: Int[np.ndarray, " samples"],
    normalisation: Normalisation,
    config: MatchingConfig,
    *,
    weights: Float[np.ndarray, " samples"] | None = None,
    mesh: Mesh | None = None,
) -> Matched:
    """Condense every cluster to one image (paper, Algorithm 2), all clusters at once.

    Guarantees: equal to ``core.distribution_matching.match_one_cluster`` on each cluster, and
    independent of ``config.chunk``, both up to rounding; a cluster of one sample keeps it, bit for
    bit, with weight 1.

    Args:
        feature_fn: the differentiable feature map; see ``FeatureFn``.
        variables: its parameters and statistics, frozen.
        pixels: ``(N, H, W, C)``, 0..255.
        targets: what the features of each cluster's image shall be: the mean features of its
            samples (``cluster_means``).
        cluster: cluster of every sample; all of ``0..B-1`` occur.
        normalisation: from pixels to the inputs of the network. Images are combined as inputs.
        config: the optimisation.
        weights: where to start; ``1/n`` when not given.
        mesh: its devices have a chunk each at a time, and exchange nothing. Where it spans
            processes, each makes the same call, does its share and is told the rest at the end.

    Raises:
        Diverged: an image, weight or loss is not finite.
        InputError: a cluster number without samples, targets of another number of clusters.
    """
    sizes = np.bincount(cluster)
    if len(cluster) == 0 or sizes.min() == 0 or len(sizes) != len(targets):
        raise InputError(
            f"{len(targets)} targets for cluster numbers that go to {len(sizes) - 1}"
            + (", some without samples" if len(sizes) and sizes.min() == 0 else ""),
            "cluster numbers 0..B-1, each with a sample and a target",
            "Renumber the clusters",
        )
    if weights is None:
        weights = (1.0 / sizes)[cluster].astype(np.float32)
    out_weights = np.zeros(len(cluster), np.float32)
    images = np.zeros((len(sizes), *pixels.shape[1:]), np.float32)
    losses = np.zeros((2, len(sizes)), np.float32)
    here, (own, processes) = local_mesh(mesh, "clusters"), turn(mesh)
    at_once = 1 if here is None else here.size
    if here is not None:
        variables, normalisation = placed((variables, normalisation), here, P())
    dealt = deal_clusters(
        pixels,
        targets,
        cluster,
        weights,
        width=config.chunk,
        scale_by_size=config.scale_by_size,
        at_once=at_once * processes,
    )
    for number in itertools.count():
        group = list(itertools.islice(dealt, at_once))
        if not group:
            break
        if number % processes != own:
            continue
        found = _match_group(feature_fn, config, variables, normalisation, group, here)
        for chunk, (w, inputs, before, after) in zip(group, found, strict=True):
            count, numbers = len(chunk.samples), chunk.clusters
            out_weights[chunk.samples] = np.asarray(w)[:count]
            images[numbers] = np.asarray(normalisation.invert(jnp.asarray(inputs)))[: len(numbers)]
            losses[:, numbers] = np.stack([before, after])[:, : len(numbers)]
    if processes > 1:
        out_weights, images, losses = merged(out_weights), merged(images), merged(losses)
    alone = np.flatnonzero(sizes[cluster] == 1)
    images[cluster[alone]], out_weights[alone] = pixels[alone], 1
    if not all_finite((out_weights, images, losses)):
        raise Diverged("condensed images are not finite", *_at_fault(config))
    return Matched(out_weights, images, losses[0], losses[1])


def _at_fault(config: MatchingConfig) -> tuple[str, float]:
    """The setting that makes a matching diverge, and its value."""
    if config.solver == "newton":
        return "matching.steps", config.steps
    return "matching.learning_rate", config.learning_rate


class _Solver(NamedTuple):
    """What the compiled steps depend on besides arrays; hashable."""

    kind: str
    inner: int
    learning_rate: float
    weights: WeightKind


def _match_group(
    feature_fn,
    config: MatchingConfig,
    variables,
    normalisation,
    group: list[Chunk],
    mesh: Mesh | None,
) -> list[Any]:
    """What ``_match_chunk`` gives for each chunk of a group, one on each device of the mesh."""
    if mesh is None:
        (chunk,) = group
        return [_match_chunk(feature_fn, config, variables, normalisation, chunk.arrays, None)]
    # The last group may be short; a chunk of no real cluster rests from the start.
    empty = group[0].arrays._replace(real=np.zeros_like(group[0].arrays.real))
    padded = [chunk.arrays for chunk in group] + [empty] * (mesh.size - len(group))
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *padded)
    stacked = placed(stacked, mesh, P("clusters"))
    found = _match_chunk(feature_fn, config, variables, normalisation, stacked, mesh)
    found = [np.asarray(values) for values in found]
    return [tuple(values[i] for values in found) for i in range(len(group))]


def _on_each(mesh: Mesh | None, function: Callable[..., Any], shared: Any, *own: Any) -> Any:
    """``function(shared, *own)``, on each device of a mesh with the part of ``own`` that it has."""
    if mesh is None:
        return function(shared, *own)

    def here(shared, *own):
        found = function(shared, *jax.tree.map(lambda leaf: leaf[0], own))
        return jax.tree.map(lambda leaf: leaf[None], found)

    # What a device returns depends on its own clusters alone, which the checker cannot know.
    specs = (P(), *(P("clusters") for _ in own))
    run = jax.shard_map(here, mesh=mesh, in_specs=specs, out_specs=P("clusters"), check_vma=False)
    return run(shared, *own)


def _match_chunk(
    feature_fn,
    config: MatchingConfig,
    variables,
    normalisation,
    arrays: ChunkArrays,
    mesh: Mesh | None,
):
    """Optimise one chunk: its weights, condensed inputs, and losses before and after.

    With a mesh, a chunk on each device: every array has a leading axis of chunks.
    """
    x = _normalise(normalisation, arrays.pixels)
    pixels = arrays.pixels[..., :0]  # x is all that is needed
    arrays = arrays._replace(pixels=pixels)
    arrays = jax.device_put(arrays) if mesh is None else arrays
    solver = _Solver(config.solver, config.inner, config.learning_rate, config.weights)
    moved = jnp.zeros_like(arrays.start)
    state = _begin(solver, moved, arrays.real)
    kind = config.weights
    weights, inputs, before = _evaluate(feature_fn, kind, mesh, moved, variables, x, arrays)
    after, active, done, looks = before, arrays.real, 0, 1
    while done < config.steps:
        steps = config.steps - done
        if config.tolerance is not None:
            steps = min(CHECK_EVERY[config.solver], steps)
        moved, state = _advance(
            feature_fn, solver, steps, mesh, moved, state, variables, x, arrays, active
        )
        done += steps
        last = after
        weights, inputs, after = _evaluate(feature_fn, kind, mesh, moved, variables, x, arrays)
        looks += 1
        if config.tolerance is not None:
            active = active & (last - after > config.tolerance * last)
            if not np.asarray(active).any():
                break
    _spend(feature_fn, solver, variables, x, arrays, done, looks)
    return weights, inputs, before, after


def _spend(feature_fn, solver: _Solver, variables, x, arrays: ChunkArrays, steps: int, looks: int):
    """Add steps and evaluations to the open tally: cluster by cluster, whatever the chunks."""
    clusters = int(np.sum(arrays.real))
    samples = int(np.sum(np.asarray(arrays.cluster) < np.shape(arrays.real)[-1]))
    # A cluster of n costs f(1) + (n - 1) (f(2) - f(1)): as much for its image whatever it holds.
    for n, times in ((1, 2 * clusters - samples), (2, samples - clusters)):
        one = one_cluster(n, x, np.shape(arrays.targets)[-1])
        state = jax.eval_shape(functools.partial(_begin, solver), one.start, one.real)
        given = variables, one.start, state, jax.ShapeDtypeStruct((n, *x.shape[-3:]), x.dtype), one
        spend_on(_one_step, (feature_fn, solver), *given, times=steps * times)
        spend_on(_one_look, (feature_fn, solver), *given, times=looks * times)


def _one_step(program, variables, moved, state, x, arrays):
    return _advance_chunk(
        program[0], program[1], 1, variables, moved, state, x, arrays, arrays.real
    )


def _one_look(program, variables, moved, _, x, arrays):
    return _residuals(moved, program[0], program[1].weights, variables, x, arrays)


_normalise = jax.jit(lambda normalisation, pixels: normalisation.apply(pixels))


def _residuals(moved, feature_fn, kind: WeightKind, variables, x, arrays: ChunkArrays):
    """Weights, condensed inputs, and what the features of each lack to its target."""
    own = membership(jnp.asarray(arrays.cluster), len(arrays.real))
    weights = constrain(kind, moved, arrays.start, arrays.scale, own)
    inputs = combine(weights, x, own)
    residuals = feature_fn(variables, inputs) - arrays.targets
    return weights, inputs, jnp.where(arrays.real[:, None], residuals, 0.0)


@functools.partial(jax.jit, static_argnames=("feature_fn", "kind", "mesh"))
def _evaluate(feature_fn, kind, mesh, moved, variables, x, arrays: ChunkArrays):
    """Weights, condensed inputs and the loss of each cluster (0 for padding)."""

    def here(variables, moved, x, arrays):
        weights, inputs, residuals = _residuals(moved, feature_fn, kind, variables, x, arrays)
        return weights, inputs, jnp.sum(residuals**2, axis=1)

    return _on_each(mesh, here, variables, moved, x, arrays)


def _begin(solver: _Solver, moved, real):
    """The state of the solver besides ``moved``."""
    if solver.kind == "newton":
        return jnp.zeros_like(real, jnp.float32)  # damping
    init = optax.adam(solver.learning_rate).init
    return init(moved) if moved.ndim == 1 else jax.vmap(init)(moved)


@functools.partial(jax.jit, static_argnames=("feature_fn", "solver", "steps", "mesh"))
def _advance(feature_fn, solver: _Solver, steps, mesh, moved, state, variables, x, arrays, active):
    """Some steps; the samples of clusters that are not ``active`` stay where they are."""
    here = functools.partial(_advance_chunk, feature_fn, solver, steps)
    return _on_each(mesh, here, variables, moved, state, x, arrays, active)


def _advance_chunk(
    feature_fn, solver: _Solver, steps, variables, moved, state, x, arrays: ChunkArrays, active
):
    """``_advance`` of one chunk."""

    def residual(moved, variables, x, arrays):
        return _residuals(moved, feature_fn, solver.weights, variables, x, arrays)[2]

    def loss(*args):
        return jnp.sum(residual(*args) ** 2)

    def step(carry, _):
        if solver.kind == "newton":
            own = membership(jnp.asarray(arrays.cluster), len(arrays.real))
            lacking = functools.partial(residual, variables=variables, x=x, arrays=arrays)
            moved, damping = carry
            return newton_step(lacking, moved, damping, own, solver.inner), None
        optimizer = optax.adam(solver.learning_rate)
        return descend(loss, *carry, optimizer, variables, x, arrays)[:2], None

    (ahead, state), _ = jax.lax.scan(step, (moved, state), length=steps)
    moves = jnp.append(active, False)[arrays.cluster]
    return jnp.where(moves, ahead, moved), state

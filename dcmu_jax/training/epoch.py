"""One epoch of training as a pure function: a loop over batches, whole or in chunks.

On one device a program serves any number of examples up to that which they are padded to: how
many there are, and their order, are arguments. Another request of about the same size compiles
nothing. Over a mesh, where the order would have to be exchanged, it serves one number of them.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array

from dcmu_jax.data.augmentation import augment
from dcmu_jax.networks.convolution import whole_batches
from dcmu_jax.networks.partition import apply_parts
from dcmu_jax.prng import IMPLEMENTATION
from dcmu_jax.training.arguments import Objective
from dcmu_jax.training.examples import Examples

_MOST_PADDED = 2**29
"""Bytes of examples up to which they are padded."""


class TrainState(NamedTuple):
    """What a training run carries from epoch to epoch (donated to each); a pytree."""

    params: dict[str, Any]
    batch_stats: dict[str, Any]
    opt_state: Any
    epoch: Array


@dataclasses.dataclass(frozen=True)
class EpochSettings:
    """Everything the compiled epoch depends on besides arrays; hashable."""

    model: nn.Module
    parts: frozenset[str]
    start: str
    objective: Objective
    optimizer: Any  # of ``as_optimizer``
    total_steps: int
    batch_size: int
    mesh: Mesh | None
    steps: int | None = None  # of an epoch, where the program is to know them


def _objective(settings: EpochSettings, frozen, normalisation, stats, epoch, params, batch, key):
    """Mean loss of a batch, and (new statistics, (sum of loss, of hits, of weight))."""
    inputs, labels, weights, targets = batch
    augment_key, dropout_key = jax.random.split(key)
    if settings.objective.augmentation is not None:
        inputs = augment(inputs, augment_key, settings.objective.augmentation, epoch)
    x = normalisation.apply(inputs) if settings.start == "beginning" else inputs
    variables = {
        "params": {**frozen["params"], **params},
        "batch_stats": {**frozen["batch_stats"], **stats},
    }
    outputs, new = apply_parts(
        settings.model,
        variables,
        x,
        start=settings.start,
        train=settings.parts,
        dropout_key=dropout_key,
    )
    losses = settings.objective.losses(outputs, labels, targets)
    # A batch can hold nothing but padding only if every weight is zero; then do not move.
    mean = jnp.vdot(weights, losses) / jnp.maximum(weights.sum(), 1e-12)
    logits = outputs[0] if isinstance(outputs, tuple) else outputs
    hits = (logits.argmax(-1) == labels).astype(jnp.float32)
    return mean, (new, (jnp.vdot(weights, losses), jnp.vdot(weights, hits), weights.sum()))


def batch_step(settings: EpochSettings, frozen, normalisation, mask, state: TrainState, batch, key):
    """One optimizer step on one batch; returns the state and (sum of loss, of hits, of weight)."""
    if settings.mesh is not None:
        batch = _split(batch, settings.mesh)
    objective = functools.partial(
        _objective, settings, frozen, normalisation, state.batch_stats, state.epoch
    )
    with whole_batches(settings.mesh is not None):
        (_, (stats, sums)), grads = jax.value_and_grad(objective, has_aux=True)(
            state.params, batch, key
        )
    return _updated(settings, mask, state, grads, stats), sums


def _updated(settings: EpochSettings, mask, state: TrainState, grads, stats) -> TrainState:
    """The state after one step of the optimizer along ``grads``."""
    transform = settings.optimizer.build(settings.total_steps)
    updates, opt_state = transform.update(grads, state.opt_state, state.params)
    if mask is not None:
        updates = jax.tree.map(lambda update, free: update * free, updates, mask)
    params = optax.apply_updates(state.params, updates)
    return state._replace(
        params=params, opt_state=opt_state, batch_stats={**state.batch_stats, **stats}
    )


def _keys(key: Array, epoch: Array) -> Array:
    """Of an epoch: the key of its order, and that of its steps."""
    return jax.random.split(jax.random.fold_in(key, epoch))


def _order(key: Array, n: int, size: int) -> tuple[Array, Array]:
    """Which example stands where in an epoch's batches, and 1.0 where it is not padding.

    The last batch is padded with samples of the same epoch at weight 0: they cannot move the
    loss, and BatchNorm sees nothing but real samples.
    """
    places = math.ceil(n / size) * size
    order = jnp.resize(jax.random.permutation(key, n), (places,))
    return order, (jnp.arange(places) < n).astype(jnp.float32)


def train_epoch(
    settings: EpochSettings,
    state: TrainState,
    frozen,
    normalisation,
    mask,
    examples,
    key,
    rows=None,
):
    """One epoch: a scan over shuffled batches. Pure; for meshes, populations, and rules.

    With ``rows``, int32 ``(n,)``, as if ``examples`` were those alone: populations of networks
    share the images and differ in the rows.
    """
    n = examples.labels.shape[0] if rows is None else rows.shape[0]
    size = settings.batch_size
    steps = math.ceil(n / size)
    shuffle_key, step_key = _keys(key, state.epoch)

    def take(index):
        return jax.tree.map(lambda array: array[index if rows is None else rows[index]], examples)

    rule = settings.objective.rule
    if rule is not None:

        def drawn_step(state, step):
            objective = functools.partial(
                _objective, settings, frozen, normalisation, {}, state.epoch
            )
            key = jax.random.fold_in(step_key, step)
            grads, (_, sums) = rule.gradient(objective, state.params, take, n, size, key)
            return _updated(settings, mask, state, grads, {}), sums

        return _finished(*jax.lax.scan(drawn_step, state, jnp.arange(steps)))

    order, real = _order(shuffle_key, n, size)
    weights = examples.weights[order if rows is None else rows[order]] * real

    def step(state, xs):
        index, weights, step = xs
        batch = take(index)._replace(weights=weights)
        key = jax.random.fold_in(step_key, step)
        return batch_step(settings, frozen, normalisation, mask, state, batch, key)

    return _finished(
        *jax.lax.scan(
            step,
            state,
            (order.reshape(steps, size), weights.reshape(steps, size), jnp.arange(steps)),
        )
    )


def _split(batch: Examples, mesh: Mesh) -> Examples:
    """A batch over the devices of a mesh, but for its weights.

    Each device knows all weights of the batch, and needs no other to add them up. What is left to
    exchange in a step is one sum of the gradients, with the two sums that the history is made of,
    and two sums for every BatchNorm layer, whose statistics are those of the whole batch.
    """
    whole = jax.lax.with_sharding_constraint(batch.weights, NamedSharding(mesh, P()))
    batch = jax.lax.with_sharding_constraint(batch, NamedSharding(mesh, P("data")))
    return batch._replace(weights=whole)


def _finished(state: TrainState, sums):
    """The state at the end of an epoch, its mean loss and accuracy (%)."""
    return (state._replace(epoch=state.epoch + 1), *_means(sums))


def _means(sums):
    losses, hits, weights = sums
    total = jnp.maximum(weights.sum(), 1e-12)
    return losses.sum() / total, 100 * hits.sum() / total


_compiled_means = jax.jit(_means)
compiled_epoch = functools.partial(
    jax.jit, static_argnames=("settings",), donate_argnames=("state",)
)(train_epoch)


@functools.partial(jax.jit, static_argnames=("settings",), donate_argnames=("state",))
def compiled_steps(settings, state, frozen, normalisation, mask, examples, order, real, steps, key):
    """The first ``steps`` batches of an order: the next state, and the sums of each step."""
    step_key, size = _keys(key, state.epoch)[1], settings.batch_size
    steps = steps if settings.steps is None else settings.steps

    def step(number, carry):
        state, sums = carry
        at, own = (jax.lax.dynamic_slice_in_dim(x, number * size, size) for x in (order, real))
        batch = jax.tree.map(lambda array: array[at], examples)
        batch = batch._replace(weights=batch.weights * own)
        key = jax.random.fold_in(step_key, number)
        state, new = batch_step(settings, frozen, normalisation, mask, state, batch, key)
        return state, jax.tree.map(lambda all_, one: all_.at[number].set(one), sums, new)

    sums = (jnp.zeros(settings.steps or len(order) // size, jnp.float32),) * 3
    state, sums = jax.lax.fori_loop(0, steps, step, (state, sums))
    return state._replace(epoch=state.epoch + 1), sums


def resident_epoch(settings, state, frozen, normalisation, mask, examples, count, key):
    """``train_epoch`` on ``count`` examples, padded by ``padded`` and on the device: its bits."""
    rows, size = len(examples.labels), settings.batch_size
    order, real = epoch_order(key, state.epoch, count, size, rows)
    steps = math.ceil(count / size)
    given = settings, state, frozen, normalisation, mask, examples, order, real
    state, sums = compiled_steps(*given, np.int32(steps), key)
    # Sums over another number of steps, padded by zeros, would be rounded otherwise.
    return (state, *_compiled_means(tuple(np.asarray(x)[:steps] for x in sums)))


def rows_for(examples: Examples, size: int, key: Array) -> int:
    """How many rows examples are padded to: a power of two, so that programs are shared.

    Not where they are many bytes, which would lie there twice; nor where they fill no batch, whose
    size is theirs; nor for a generator that gives other numbers where more of them are drawn.
    """
    count = len(examples.labels)
    rows = 1 << (count - 1).bit_length()
    nbytes = sum(leaf.nbytes for leaf in jax.tree.leaves(examples)) / count * rows
    config: Any = jax.config  # whose type does not tell of what it holds
    prefixed = config.jax_threefry_partitionable and jax.random.key_impl(key) == IMPLEMENTATION
    return rows if count > size and nbytes <= _MOST_PADDED and prefixed else count


def padded(examples: Examples, rows: int) -> Examples:
    """Examples on the device, followed by zeros to make so many rows."""

    def longer(array):
        more = rows - len(array)
        if not more:
            return jnp.asarray(array)
        if isinstance(array, jax.Array):
            return jnp.pad(array, ((0, more), *((0, 0),) * (array.ndim - 1)))
        whole = np.zeros((rows, *array.shape[1:]), array.dtype)
        whole[: len(array)] = array
        return jnp.asarray(whole)

    return jax.tree.map(longer, examples)


def epoch_order(key: Array, epoch: Array, n: int, size: int, rows: int) -> tuple[Array, Array]:
    """The order of an epoch, and which places are no padding: what ``train_epoch`` goes by.

    As many places as batches of ``rows`` examples have; those of ``n`` come first.
    """
    # Of the sorts by random numbers that make a shuffle, as many as leave few ties.
    sorts = math.ceil(3 * math.log(max(1, n)) / math.log(2**32 - 1))
    return _compiled_order(key, epoch, np.int32(n), size, rows, sorts)


@functools.partial(jax.jit, static_argnames=("size", "rows", "sorts"))
def _compiled_order(key, epoch, n, size, rows, sorts):
    """``_order`` for any ``n`` up to ``rows``: ``jax.random.permutation``, the last rows last."""
    key, order = _keys(key, epoch)[0], jnp.arange(rows, dtype=jnp.int32)
    there = jnp.arange(rows) < n
    for _ in range(sorts):
        key, own = jax.random.split(key)
        # The sort is stable: what is equal to the padding comes before it, as it did before.
        drawn = jnp.where(there, jax.random.bits(own, (rows,), jnp.uint32), jnp.uint32(2**32 - 1))
        order = jax.lax.sort_key_val(drawn, order)[1]
    places = jnp.arange(math.ceil(rows / size) * size, dtype=jnp.int32)
    return order[places % n], (places < n).astype(jnp.float32)


@functools.partial(jax.jit, static_argnames=("settings",), donate_argnames=("state",))
def compiled_chunk(settings, state, frozen, normalisation, mask, batches, first, key):
    """Steps ``first``, ``first + 1``, ... of an epoch, on batches ``(steps, size, ...)`` of it."""
    step_key = _keys(key, state.epoch)[1]

    def step(state, xs):
        batch, number = xs
        key = jax.random.fold_in(step_key, number)
        return batch_step(settings, frozen, normalisation, mask, state, batch, key)

    numbers = first + jnp.arange(batches.labels.shape[0])
    return jax.lax.scan(step, state, (batches, numbers))


compiled_end = functools.partial(jax.jit, donate_argnames=("state",))(_finished)

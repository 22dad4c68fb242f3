"""The training loop: every network in this project is trained by ``fit`` and by nothing else.

An epoch is one compiled ``lax.scan`` over images that lie on the device as uint8 and are
normalised (and augmented, where asked) inside the step.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array

from dcmu_jax.data.augmentation import Augmentation, augment
from dcmu_jax.errors import InputError, check_at_least
from dcmu_jax.models.partition import PARTS, apply_parts, check_parts, partition
from dcmu_jax.training.checkpoints import FitCheckpoint
from dcmu_jax.training.classifier import Classifier
from dcmu_jax.training.devices import at_home, check_same_arrays, placed
from dcmu_jax.training.examples import Examples, Loss, check_examples, cross_entropy
from dcmu_jax.training.flops import program_flops
from dcmu_jax.training.optimizers import Optimizer
from dcmu_jax.training.private import PrivateGradient
from dcmu_jax.training.timing import Stopwatch

Progress = Callable[[int, float, float], None]
"""Called after each epoch with the epochs done, mean loss and accuracy (%)."""

Observer = Callable[[int, Classifier], None]
"""Called after each epoch with the epochs done and the network, off the clock. The network is
valid only during the call: its arrays are given to the next epoch."""


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
    loss: Loss
    optimizer: Optimizer
    total_steps: int
    augmentation: Augmentation | None
    batch_size: int
    mesh: Mesh | None
    rule: PrivateGradient | None = None


@dataclasses.dataclass(frozen=True)
class Fitted:
    """The result of ``fit``.

    Attributes:
        classifier: the trained network.
        opt_state: the optimizer's state, to go on with in a later call on the same parts.
        losses: mean training loss of each epoch.
        accuracies: training accuracy (%) of each epoch, measured while training.
        run_s: seconds of training, compilation apart, those before a resumption included.
        compile_s: seconds of compilation.
        flops: floating-point operations of all steps, counted by the compiler on the program
            before its optimisation; ``None`` where the backend does not count.
    """

    classifier: Classifier
    opt_state: Any
    losses: tuple[float, ...]
    accuracies: tuple[float, ...]
    run_s: float
    compile_s: float
    flops: float | None


def _objective(settings: EpochSettings, frozen, normalisation, stats, params, batch, key):
    """Mean loss of a batch, and (new statistics, (sum of loss, of hits, of weight))."""
    inputs, labels, weights, targets = batch
    augment_key, dropout_key = jax.random.split(key)
    if settings.augmentation is not None:
        inputs = augment(inputs, augment_key, settings.augmentation)
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
    losses = settings.loss(outputs, labels, *(() if targets is None else (targets,)))
    # A batch can hold nothing but filling only if every weight is zero; then do not move.
    mean = jnp.vdot(weights, losses) / jnp.maximum(weights.sum(), 1e-12)
    logits = outputs[0] if isinstance(outputs, tuple) else outputs
    hits = (logits.argmax(-1) == labels).astype(jnp.float32)
    return mean, (new, (jnp.vdot(weights, losses), jnp.vdot(weights, hits), weights.sum()))


def _step(settings: EpochSettings, frozen, normalisation, mask, state: TrainState, batch, key):
    """One optimizer step on one batch; returns the state and (sum of loss, of hits, of weight)."""
    objective = functools.partial(_objective, settings, frozen, normalisation, state.batch_stats)
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
    """One epoch: a scan over shuffled batches. Pure; ``fit`` compiles it.

    With ``rows``, int32 ``(n,)``, as if ``examples`` were those alone: populations of networks
    share the images and differ in the rows.
    """
    n = examples.labels.shape[0] if rows is None else rows.shape[0]
    size = settings.batch_size
    steps = math.ceil(n / size)
    shuffle_key, step_key = jax.random.split(jax.random.fold_in(key, state.epoch))

    def take(index):
        return jax.tree.map(lambda array: array[index if rows is None else rows[index]], examples)

    rule = settings.rule
    if rule is not None:

        def drawn_step(state, step):
            objective = functools.partial(_objective, settings, frozen, normalisation, {})
            key = jax.random.fold_in(step_key, step)
            grads, (_, sums) = rule.gradient(objective, state.params, take, n, size, key)
            return _updated(settings, mask, state, grads, {}), sums

        return _finished(*jax.lax.scan(drawn_step, state, jnp.arange(steps)))

    # The last batch is filled up with samples of the same epoch at weight 0: they cannot move
    # the loss, and BatchNorm sees nothing but real samples.
    order = jnp.resize(jax.random.permutation(shuffle_key, n), steps * size)
    real = (jnp.arange(steps * size) < n).astype(jnp.float32)
    weights = examples.weights[order if rows is None else rows[order]] * real

    def step(state, xs):
        index, weights, step = xs
        batch = take(index)._replace(weights=weights)
        if settings.mesh is not None:
            batch = _split(batch, settings.mesh)
        step_key_now = jax.random.fold_in(step_key, step)
        return _step(settings, frozen, normalisation, mask, state, batch, step_key_now)

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
    losses, hits, weights = sums
    total = jnp.maximum(weights.sum(), 1e-12)
    state = state._replace(epoch=state.epoch + 1)
    return state, losses.sum() / total, 100 * hits.sum() / total


_compiled_epoch = functools.partial(
    jax.jit, static_argnames=("settings",), donate_argnames=("state",)
)(train_epoch)


def _assembled(classifier: Classifier, state: TrainState) -> Classifier:
    """The network with the parts that trained as they are in ``state``."""
    variables = {
        "params": {**classifier.variables["params"], **state.params},
        "batch_stats": {**classifier.variables.get("batch_stats", {}), **state.batch_stats},
    }
    return dataclasses.replace(classifier, variables=variables)


def _same(mask: Any, params: dict[str, Any]) -> tuple[Any, Any]:
    """The mask of the parts that train, and their parameters; raises unless they are alike."""
    chosen = {part: mask[part] for part in params if part in mask}
    shapes = [[x.shape for x in jax.tree.leaves(tree)] for tree in (chosen, params)]
    if shapes[0] != shapes[1] or jax.tree.structure(chosen) != jax.tree.structure(params):
        raise InputError(
            f"A mask of {len(shapes[0])} arrays for {len(shapes[1])} arrays of parameters, or of "
            "other shapes",
            "one array for each array of parameters that trains, of its shape",
            "Build the mask from the network's params",
        )
    return chosen, params


def _devices(mesh: Mesh) -> int:
    """The devices that a batch is sharded over."""
    if "data" not in mesh.shape:
        raise InputError(
            f"A mesh with the axes {', '.join(map(repr, mesh.shape))}",
            "a mesh with an axis 'data'",
            "Name the axis that batches are sharded over 'data'",
        )
    return mesh.shape["data"]


def fit(
    classifier: Classifier,
    examples: Examples,
    *,
    epochs: int,
    key: Array,
    optimizer: Optimizer,
    batch_size: int | None = 256,
    parts: Collection[str] = PARTS,
    start: str = "beginning",
    loss: Loss = cross_entropy,
    augmentation: Augmentation | None = None,
    mask: Any = None,
    rule: PrivateGradient | None = None,
    opt_state: Any = None,
    mesh: Mesh | None = None,
    progress: Progress | None = None,
    observe: Observer | None = None,
    checkpoint: FitCheckpoint | None = None,
    count_flops: bool = True,
) -> Fitted:
    """Train ``parts`` of a network.

    Args:
        classifier: where training starts; it is not changed.
        examples: what is trained on.

    Other Args:
        epochs: passes over ``examples``; 0 returns the classifier as it is.
        key: typed key; shuffling, augmentation and dropout of epoch ``e`` depend on it and ``e``.
        optimizer: see ``Optimizer``.
        batch_size: ``None`` for all examples in one batch. The last batch is filled up with
            examples of weight zero, none is dropped.
        parts: the parts that train. Guarantee: parameters and BatchNorm statistics of the others
            come back bit-identical, and no gradient is computed for them.
        start: the part that ``examples.inputs`` are the input of; parts below it do not run.
        loss: per-example loss; see ``Loss``. A module-level function, or a callable that is equal
            where it does the same, since it is part of the compilation key.
        augmentation: of the pixels, fresh for every batch.
        mask: like ``params`` of the network (other parts than those that train may be missing or
            there): each update is multiplied by it, so that a parameter with mask 0 keeps its bits.
        rule: how the gradient of a step comes about where it is not that of a batch's mean loss;
            it then draws the batches too, of ``batch_size`` examples on average, and operations
            are not counted.
        opt_state: of an earlier call on the same parts, to go on from.
        mesh: with an axis ``data``, over which each batch is sharded; parameters are replicated.
            It may span processes, each of which makes the same call. The network that comes back,
            and the one that is observed, is on one device of this process.
        progress: called after every epoch.
        observe: called after every epoch, off the clock.
        checkpoint: where to save the run as it goes, and to resume it from, to the same bits.
        count_flops: count the operations (a trace of one step more, once per shape).

    Returns:
        The trained classifier, with what it cost. Same arguments, same bits on one machine.

    Raises:
        InputError: no examples, or arrays of unequal length; a part that is not one, a part below
            ``start`` among those that train; augmentation of what is not pixels; an ``opt_state``
            to go on from with a schedule, which is laid out for one call; a batch that does not
            divide over the mesh; a rule with a mesh, or for a network or weights it cannot serve.
    """
    trainable = check_parts(parts)
    check_parts((start,))
    check_examples(examples)
    n = len(examples.labels)
    below = trainable & set(PARTS[: PARTS.index(start)])
    if not trainable or below:
        raise InputError(
            f"Training the parts {sorted(trainable)} from the inputs of {start!r}",
            f"one or more of {', '.join(PARTS[PARTS.index(start) :])}",
            "Name a part to train, or start at the lowest part that trains",
        )
    check_at_least("epochs", epochs, 0)
    if batch_size is not None:
        check_at_least("batch_size", batch_size, 1)
    optimizer.check()
    if augmentation is not None and start != PARTS[0]:
        raise InputError(
            f"Augmentation of the inputs of {start!r}",
            "augmentation of pixels, the inputs of 'beginning'",
            "Leave augmentation out, or start at 'beginning'",
        )
    if opt_state is not None and optimizer.scheduled:
        raise InputError(
            f"An optimizer state to go on from with the schedule {optimizer.schedule!r}"
            + (" and l1" if optimizer.l1 else ""),
            "the schedule 'constant' and no l1 where a call goes on from another",
            "Take the schedule 'constant' and l1 = 0, or leave opt_state out",
        )

    if rule is not None:
        rule.check(examples.weights, classifier.variables.get("batch_stats", {}))
        if mesh is not None:
            raise InputError(
                "Gradients of single examples over a mesh",
                "one device",
                "Leave the mesh out; train several networks over it as a population",
            )
    devices = 1 if mesh is None else _devices(mesh)
    size = min(batch_size or n, math.ceil(n / devices) * devices)
    if size % devices:
        raise InputError(
            f"A batch of {size} over {devices} devices",
            f"a multiple of {devices}",
            f"Set the batch size to {math.ceil(size / devices) * devices}",
        )
    settings = EpochSettings(
        model=classifier.model,
        parts=trainable,
        start=start,
        loss=loss,
        optimizer=optimizer,
        # Constant rates do without, so that calls of any length share one program.
        total_steps=epochs * math.ceil(n / size) if optimizer.scheduled else 0,
        augmentation=augmentation,
        batch_size=size,
        mesh=mesh,
        rule=rule,
    )
    watch = Stopwatch()
    with watch.running():
        running = PARTS[PARTS.index(start) :]
        params, frozen_params = partition(classifier.variables["params"], trainable)
        stats, frozen_stats = partition(classifier.variables.get("batch_stats", {}), trainable)
        frozen = {
            "params": partition(frozen_params, running)[0],
            "batch_stats": partition(frozen_stats, running)[0],
        }
        if opt_state is None:
            opt_state = optimizer.build(settings.total_steps).init(params)
        # Copied, because the state is donated and the caller keeps what was passed in.
        state = jax.tree.map(
            jnp.copy, TrainState(params, stats, opt_state, jnp.zeros((), jnp.int32))
        )
        if mask is not None:
            mask = jax.tree.map(lambda free, p: jnp.asarray(free, p.dtype), *_same(mask, params))
        data = (frozen, classifier.normalisation, mask, jax.tree.map(jnp.asarray, examples))
        history: list[tuple[float, float]] = []
        if checkpoint is not None:
            state, history, seconds = checkpoint.restore(state)
            watch.run_s += seconds
        home = (lambda tree: tree) if mesh is None else at_home
        if mesh is not None:
            check_same_arrays("examples or networks", (state, data, jax.random.key_data(key)))
            state, data, key = placed((state, data, key), mesh, P())
        frozen, normalisation, mask, examples = data
        for epoch in range(len(history), epochs):
            state, mean_loss, accuracy = _compiled_epoch(
                settings, state, frozen, normalisation, mask, examples, key
            )
            history.append((float(mean_loss), float(accuracy)))
            if progress is not None:
                progress(epoch + 1, *history[-1])
            if observe is not None:
                with watch.paused():
                    observe(epoch + 1, _assembled(classifier, home(state)))
            if checkpoint is not None:
                with watch.paused():
                    checkpoint.save(home(state), history, watch.elapsed(), epochs)
        state = home(jax.block_until_ready(state))
    flops = None
    if count_flops and epochs and rule is None:
        batch = jax.tree.map(
            lambda a: jax.ShapeDtypeStruct((size, *a.shape[1:]), a.dtype), examples
        )
        one_device = dataclasses.replace(settings, mesh=None)
        per_step = program_flops(_step, one_device, frozen, normalisation, mask, state, batch, key)
        flops = None if per_step is None else per_step * epochs * math.ceil(n / size)
    return Fitted(
        _assembled(classifier, state),
        state.opt_state,
        tuple(loss for loss, _ in history),
        tuple(accuracy for _, accuracy in history),
        watch.run_s,
        watch.compile_s,
        flops,
    )

"""The training loop: every network in this project is trained by ``fit`` and by nothing else.

An epoch is one compiled ``lax.scan`` (``epoch``) over images that lie on the device as uint8 and
are normalised (and augmented, where asked) inside the step; examples that the device cannot hold
pass through it in chunks (``streaming``).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Collection
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from dcmu_jax.data.augmentation import Augmentation
from dcmu_jax.errors import InputError, check_at_least
from dcmu_jax.networks.partition import PARTS, check_parts, partition
from dcmu_jax.prng import Key, typed_key
from dcmu_jax.training.checkpoints import FitCheckpoint
from dcmu_jax.training.classifier import Classifier
from dcmu_jax.training.devices import at_home, check_same_arrays, placed
from dcmu_jax.training.divergence import check_loss, check_parameters
from dcmu_jax.training.epoch import EpochSettings, TrainState, batch_step, compiled_epoch
from dcmu_jax.training.examples import (
    Examples,
    Loss,
    check_examples,
    check_labels,
    cross_entropy,
)
from dcmu_jax.training.flops import program_flops, spend
from dcmu_jax.training.optimizers import OptimizerLike, as_optimizer, check_state
from dcmu_jax.training.private import PrivateGradient
from dcmu_jax.training.streaming import device_budget, size_of, steps_in_budget, streamed_epoch
from dcmu_jax.training.timing import Stopwatch

Progress = Callable[[int, float, float], None]
"""Called after each epoch with the epochs done, mean loss and accuracy (%)."""

Observer = Callable[[int, Classifier], None]
"""Called after each epoch with the epochs done and the network, off the clock. The network is
valid only during the call: its arrays are given to the next epoch."""


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
        flops: floating-point operations of all steps, see ``flops.program_cost``; ``None`` where
            JAX has no CPU to count on.
    """

    classifier: Classifier
    opt_state: Any
    losses: tuple[float, ...]
    accuracies: tuple[float, ...]
    run_s: float
    compile_s: float
    flops: float | None


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
    key: Key,
    optimizer: OptimizerLike,
    batch_size: int | None = 256,
    parts: Collection[str] = PARTS,
    start: str = "beginning",
    loss: Loss = cross_entropy,
    augmentation: Augmentation | None = None,
    mask: Any = None,
    rule: PrivateGradient | None = None,
    opt_state: Any = None,
    mesh: Mesh | None = None,
    memory_budget: int | None = None,
    progress: Progress | None = None,
    observe: Observer | None = None,
    checkpoint: FitCheckpoint | None = None,
    count_flops: bool = True,
    room: int | None = None,
) -> Fitted:
    """Train ``parts`` of a network.

    Args:
        classifier: where training starts; it is not changed.
        examples: what is trained on.

    Other Args:
        epochs: passes over ``examples``; 0 returns the classifier as it is.
        key: typed, or uint32 ``(2,)``; shuffling, augmentation and dropout of epoch ``e`` depend
            on it and ``e``.
        optimizer: an ``Optimizer``, or an optax transformation; see ``OptimizerLike``.
        batch_size: ``None`` for all examples in one batch. The last batch is padded with
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
        memory_budget: bytes of examples that a device may hold. Of more, batches pass through it
            in chunks (``streaming``): the same batches, so the same network up to rounding, at the
            price of sending each. If not given, half of the device's memory; no limit where a
            device does not tell its memory, as a CPU.
        progress: called after every epoch.
        observe: called after every epoch, off the clock.
        checkpoint: where to save the run as it goes, and to resume it from, to the same bits.
        count_flops: count the operations (a trace of one step more, once per shape).
        room: the earlier name of ``memory_budget``.

    Returns:
        The trained classifier, with what it cost. Same arguments, same bits on one machine.

    Raises:
        Diverged: the loss of an epoch, or a parameter at the end, is not finite.
        InputError: no examples, arrays of unequal length, labels that are no output; a part that
            is not one, a part below ``start`` among those that train; augmentation of what is not
            pixels; an ``opt_state`` to go on from with a schedule, which is laid out for one call;
            a batch that does not divide over the mesh; a rule with a mesh, or for a
            network or weights it cannot serve, or for examples that have to be streamed; a
            memory budget below three batches.

    >>> from dcmu_jax.data import load
    >>> from dcmu_jax.networks import create
    >>> from dcmu_jax.training.classifier import fresh_classifier
    >>> from dcmu_jax.training.keys import named_key
    >>> from dcmu_jax.training.optimizers import Optimizer
    >>> train = load("synthetic:classes=2,per_class=8,size=8,channels=1").train
    >>> model = create("mlp", image_shape=(8, 8, 1), num_classes=2, width=0.02)
    >>> fitted = fit(
    ...     fresh_classifier(model, train, seed=0),
    ...     Examples.of(train.images, train.labels),
    ...     epochs=20,
    ...     key=named_key(0, "training"),
    ...     optimizer=Optimizer(learning_rate=0.03),
    ... )
    >>> len(fitted.losses), fitted.losses[-1] < fitted.losses[0]
    (20, True)
    """
    trainable = check_parts(parts)
    check_parts((start,))
    check_examples(examples)
    check_labels(examples.labels, examples.weights, loss, classifier)
    typed = typed_key(key)
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
    own = as_optimizer(optimizer)
    if augmentation is not None and start != PARTS[0]:
        raise InputError(
            f"Augmentation of the inputs of {start!r}",
            "augmentation of pixels, the inputs of 'beginning'",
            "Leave augmentation out, or start at 'beginning'",
        )
    if opt_state is not None and own.scheduled:
        raise InputError(
            f"An optimizer state to go on from with the schedule {own.schedule!r}"
            + (" and l1" if own.l1 else ""),
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
    budget = room if memory_budget is None else memory_budget
    budget = device_budget() if budget is None else budget
    chunk = None
    if budget is not None and size_of(examples) > budget:
        chunk = steps_in_budget(examples, size, budget)
        if rule is not None:
            raise InputError(
                f"Gradients of single examples of {size_of(examples)} bytes, budget {budget}",
                "a budget that holds all examples: such batches are drawn on the device",
                "Raise memory_budget, or give fewer examples",
            )
    settings = EpochSettings(
        model=classifier.model,
        parts=trainable,
        start=start,
        loss=loss,
        optimizer=own,
        # Constant rates do without, so that calls of any length share one program.
        total_steps=epochs * math.ceil(n / size) if own.scheduled else 0,
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
        init = own.build(settings.total_steps).init
        if opt_state is None:
            opt_state = init(params)
        else:
            check_state(opt_state, jax.eval_shape(init, params))
        # Copied, because the state is donated and the caller keeps what was passed in.
        state = jax.tree.map(
            jnp.copy, TrainState(params, stats, opt_state, jnp.zeros((), jnp.int32))
        )
        if mask is not None:
            mask = jax.tree.map(lambda free, p: jnp.asarray(free, p.dtype), *_same(mask, params))
        resident = jax.tree.map(jnp.asarray, examples) if chunk is None else None
        data = (frozen, classifier.normalisation, mask, resident)
        history: list[tuple[float, float]] = []
        if checkpoint is not None:
            state, history, seconds = checkpoint.restore(state)
            watch.run_s += seconds
        home = (lambda tree: tree) if mesh is None else at_home
        if mesh is not None:
            check_same_arrays("examples or networks", (state, data, jax.random.key_data(typed)))
            state, data, typed = placed((state, data, typed), mesh, P())
        frozen, normalisation, mask, resident = data
        for epoch in range(len(history), epochs):
            given = settings, state, frozen, normalisation, mask
            if chunk is None:
                state, mean_loss, accuracy = compiled_epoch(*given, resident, typed)
            else:
                state, mean_loss, accuracy = streamed_epoch(*given, examples, typed, chunk)
            history.append((float(mean_loss), float(accuracy)))
            check_loss(history[-1][0], epoch, epochs, own.learning_rate)
            if progress is not None:
                progress(epoch + 1, *history[-1])
            if observe is not None:
                with watch.paused():
                    observe(epoch + 1, _assembled(classifier, home(state)))
            if checkpoint is not None:
                with watch.paused():
                    checkpoint.save(home(state), history, watch.elapsed(), epochs)
        state = home(jax.block_until_ready(state))
    if epochs:  # the loss of the last epoch does not tell of its last step
        check_parameters((state.params, state.batch_stats), own.learning_rate)
    flops = None
    if count_flops and epochs and rule is None:
        batch = jax.tree.map(
            lambda a: jax.ShapeDtypeStruct((size, *a.shape[1:]), a.dtype), examples
        )
        one_device = dataclasses.replace(settings, mesh=None)
        per_step = program_flops(
            batch_step, one_device, frozen, normalisation, mask, state, batch, typed
        )
        flops = None if per_step is None else per_step * epochs * math.ceil(n / size)
    spend(flops if epochs else 0.0)
    return Fitted(
        _assembled(classifier, state),
        state.opt_state,
        tuple(loss for loss, _ in history),
        tuple(accuracy for _, accuracy in history),
        watch.run_s,
        watch.compile_s,
        flops,
    )

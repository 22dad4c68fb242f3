"""The training loop: every network in this project is trained by ``fit`` and by nothing else.

An epoch is one compiled ``lax.scan`` (``epoch``) over images that lie on the device as uint8 and
are normalised (and augmented, where asked) inside the step; examples that the device cannot hold
pass through it in chunks (``streaming``).
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Collection, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec as P
from jaxtyping import Array

from dcmu_jax.errors import InputError, check_at_least
from dcmu_jax.networks.partition import PARTS, partition
from dcmu_jax.platforms import platform
from dcmu_jax.prng import Key, typed_key
from dcmu_jax.training.arguments import ONE_DEVICE, Objective, Placement, Trainable, size_of
from dcmu_jax.training.callbacks import Callback, EpochEnd, check_callbacks, says_true
from dcmu_jax.training.checkpoints import FitCheckpoint
from dcmu_jax.training.classifier import Classifier
from dcmu_jax.training.devices import at_home, check_same_arrays, placed
from dcmu_jax.training.divergence import check_losses, check_parameters
from dcmu_jax.training.epoch import (
    EpochSettings,
    TrainState,
    batch_step,
    compiled_epoch,
    padded,
    resident_epoch,
    rows_for,
)
from dcmu_jax.training.examples import (
    Examples,
    Loss,
    check_examples,
    check_labels,
    cross_entropy,
)
from dcmu_jax.training.flops import program_flops, spend
from dcmu_jax.training.optimizers import OptimizerLike, as_optimizer, check_state, check_update
from dcmu_jax.training.streaming import streamed_epoch
from dcmu_jax.training.timing import Stopwatch


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
        count: gives ``flops``.
    """

    classifier: Classifier
    opt_state: Any
    losses: tuple[float, ...]
    accuracies: tuple[float, ...]
    run_s: float
    compile_s: float
    count: Callable[[], float | None] | None = None

    @functools.cached_property
    def flops(self) -> float | None:
        """Floating-point operations of all steps, see ``flops.program_cost``.

        ``None`` where JAX has no CPU to count on, or a rule made the gradients.
        """
        return None if self.count is None else self.count()


def _assembled(classifier: Classifier, state: TrainState) -> Classifier:
    """The network with the parts that trained as they are in ``state``."""
    variables = {
        "params": {**classifier.variables["params"], **state.params},
        "batch_stats": {**classifier.variables.get("batch_stats", {}), **state.batch_stats},
    }
    return dataclasses.replace(classifier, variables=variables)


def fit(
    classifier: Classifier,
    examples: Examples,
    *,
    epochs: int,
    key: Key,
    optimizer: OptimizerLike,
    batch_size: int | None = 256,
    parts: Collection[str] | Trainable = PARTS,
    loss: Loss | Objective = cross_entropy,
    placement: Placement = ONE_DEVICE,
    callbacks: Sequence[Callback] | Any = (),
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
        parts: names of the parts that train, the others keeping their bits; or a ``Trainable``,
            which can also say that the examples are features, which parameters are masked, and
            what optimizer state to go on from.
        loss: per-example loss, see ``Loss``; or an ``Objective``, which can also say how images
            are augmented, and how else a gradient comes about.
        placement: see ``Placement``; one device by default.
        callbacks: called after every epoch, see ``Callback``. A ``FitCheckpoint`` among them saves
            the training as it goes, and resumes it, to the same bits.

    Returns:
        The trained classifier, with what it cost. Same arguments, same bits on one machine.

    Raises:
        Diverged: the loss of an epoch, or a parameter at the end, is not finite.
        InputError: no examples, arrays of unequal length, labels that are no output; an optimizer
            that needs more than gradients, state and parameters; what ``Trainable``, ``Objective``
            and ``Placement`` refuse; a rule with a mesh, or for examples that have to be streamed.

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
    trainable, objective = Trainable.of(parts), Objective.of(loss)
    check_examples(examples)
    check_labels(examples.labels, examples.weights, objective.loss, classifier)
    typed = typed_key(key)
    check_at_least("epochs", epochs, 0)
    own = as_optimizer(optimizer)
    names = trainable.check(own)
    stats = classifier.variables.get("batch_stats", {})
    objective.check(examples.weights, stats, trainable.start)
    size = placement.batch_of(batch_size, len(examples.labels))
    at_once = placement.steps_at_once(examples, size)
    if objective.rule is not None:
        _check_rule(placement, examples, at_once)
    steps = math.ceil(len(examples.labels) / size)
    settings = EpochSettings(
        model=classifier.model,
        parts=names,
        start=trainable.start,
        objective=objective,
        optimizer=own,
        # Constant rates do without, so that calls of any length share one program.
        total_steps=epochs * steps if own.scheduled else 0,
        batch_size=size,
        mesh=placement.mesh,
        # A loop of unknown length has a GPU wait for the host after every step.
        steps=steps if platform() == "gpu" else None,
    )
    callbacks = check_callbacks(callbacks)
    return _fit(classifier, examples, typed, epochs, settings, trainable, at_once, callbacks)


def _check_rule(placement: Placement, examples: Examples, at_once: int | None) -> None:
    """Raise unless gradients of single examples can be taken where the examples lie."""
    if placement.mesh is not None:
        raise InputError(
            "Gradients of single examples over a mesh",
            "one device",
            "Leave the mesh out; train several networks over it as a population",
        )
    if at_once is not None:
        raise InputError(
            f"Gradients of single examples of {size_of(examples)} bytes, which have to be streamed",
            "a budget that holds all examples: such batches are drawn on the device",
            "Raise memory_budget, or give fewer examples",
        )


def _fit(
    classifier: Classifier,
    examples: Examples,
    key: Array,
    epochs: int,
    settings: EpochSettings,
    trainable: Trainable,
    at_once: int | None,
    callbacks: Sequence[Callback],
) -> Fitted:
    """``fit`` with arguments that are checked; ``at_once`` as of ``Placement``."""
    mesh, watch = settings.mesh, Stopwatch()
    with watch.running():
        running = PARTS[PARTS.index(trainable.start) :]
        params, frozen_params = partition(classifier.variables["params"], settings.parts)
        stats, frozen_stats = partition(classifier.variables.get("batch_stats", {}), settings.parts)
        frozen = {
            "params": partition(frozen_params, running)[0],
            "batch_stats": partition(frozen_stats, running)[0],
        }
        check_update(settings.optimizer, params)
        init = settings.optimizer.build(settings.total_steps).init
        if trainable.opt_state is None:
            opt_state = init(params)
        else:
            opt_state = trainable.opt_state
            check_state(opt_state, jax.eval_shape(init, params))
        # Copied, because the state is donated and the caller keeps what was passed in.
        state = jax.tree.map(
            jnp.copy, TrainState(params, stats, opt_state, jnp.zeros((), jnp.int32))
        )
        mask = trainable.mask_of(params)
        count = len(examples.labels)
        as_they_are = settings.objective.rule is not None or mesh is not None
        rows = count if as_they_are else rows_for(examples, settings.batch_size, key)
        resident = padded(examples, rows) if at_once is None else None
        data = (frozen, classifier.normalisation, mask, resident)
        state, history = resumed(callbacks, state, watch)
        if mesh is not None:
            check_same_arrays("examples or networks", (state, data, jax.random.key_data(key)))
            state, data, key = placed((state, data, key), mesh, P())
        frozen, normalisation, mask, resident = data

        def one_epoch(state: TrainState) -> tuple[TrainState, Any, Any]:
            given = settings, state, frozen, normalisation, mask
            if at_once is not None:
                return streamed_epoch(*given, examples, key, at_once)
            if as_they_are:
                return compiled_epoch(*given, resident, key)
            return resident_epoch(*given, resident, count, key)

        state = run_epochs(
            one_epoch,
            state,
            history,
            epochs=epochs,
            rate=settings.optimizer.learning_rate,
            callbacks=callbacks,
            watch=watch,
            fetch=at_home if mesh is not None else lambda tree: tree,
            assemble=functools.partial(_assembled, classifier),
        )
    flops = None
    if history and settings.objective.rule is None:
        size = settings.batch_size
        batch = jax.tree.map(
            lambda a: jax.ShapeDtypeStruct((size, *a.shape[1:]), a.dtype), examples
        )
        args = (frozen, normalisation, mask, state, batch, key)
        described = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), args)
        steps = math.ceil(count / size)
        one_device = dataclasses.replace(settings, mesh=None, steps=None)
        flops = functools.partial(_flops, one_device, len(history), steps, described)
    spend(flops if history else 0.0)
    return Fitted(
        _assembled(classifier, state),
        state.opt_state,
        tuple(float(loss) for loss, _ in history),
        tuple(float(accuracy) for _, accuracy in history),
        watch.run_s,
        watch.compile_s,
        flops,
    )


def _flops(settings: EpochSettings, epochs: int, steps: int, args: Any) -> float | None:
    """The operations of ``epochs`` of ``steps`` steps each, on ``args`` of ``batch_step``."""
    once = program_flops(batch_step, settings, *args)
    return None if once is None else once * epochs * steps


def resumed(
    callbacks: Sequence[Callback], state: TrainState, watch: Stopwatch
) -> tuple[TrainState, list[tuple[Any, Any]]]:
    """The state and history that a ``FitCheckpoint`` among the callbacks has; else ``state``."""
    for callback in callbacks:
        if isinstance(callback, FitCheckpoint):
            state, history, seconds = callback.restore(state)
            watch.run_s += seconds
            return state, history
    return state, []


def run_epochs(
    one_epoch: Callable[[TrainState], tuple[TrainState, Any, Any]],
    state: TrainState,
    history: list[tuple[Any, Any]],
    *,
    epochs: int,
    rate: float | None,
    callbacks: Sequence[Callback],
    watch: Stopwatch,
    fetch: Callable[[Any], Any],
    assemble: Callable[[TrainState], Classifier],
) -> TrainState:
    """Train until ``epochs`` are done or a callback ends it: what ``fit`` and populations share.

    Args:
        one_epoch: gives the next state, mean loss and accuracy; the state is donated to it.
        state: to start from.
        history: of the epochs done before; those that follow are added.

    Other Args:
        epochs: in all.
        rate: the learning rate, for messages.
        callbacks: see ``Callback``.
        watch: is running; stopped for the callbacks.
        fetch: brings arrays to this process, from wherever they are trained.
        assemble: makes the network of a state that was fetched.

    Raises:
        Diverged: the loss of an epoch, or a parameter at the end, is not finite.
    """
    # A training that a callback ends is not saved as one that goes on.
    saving = [callback for callback in callbacks if isinstance(callback, FitCheckpoint)]
    others = [callback for callback in callbacks if not isinstance(callback, FitCheckpoint)]
    ended = False
    while len(history) < epochs and not ended:
        state, *found = one_epoch(state)
        loss, accuracy = map(np.asarray, fetch(found))
        history.append((loss, accuracy))
        check_losses(loss, len(history), epochs, rate)
        if not callbacks:
            continue
        read = functools.partial(fetch, state)
        now = EpochEnd(len(history), epochs, tuple(history), watch.elapsed(), read, assemble)
        with watch.paused():
            said = [callback(now) for callback in others]
            ended = any(map(says_true, said))
            for save in () if ended else saving:
                save(now)
    state = fetch(jax.block_until_ready(state))
    with watch.paused():
        if epochs:  # the loss of the last epoch does not tell of its last step
            check_parameters((state.params, state.batch_stats), rate)
    return state

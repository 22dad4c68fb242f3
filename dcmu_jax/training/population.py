"""Many networks trained at once: the one training loop with a leading axis of models.

The images lie on the device once, and each network has rows of its own. An epoch of all of them is
one compiled program; nothing is exchanged between networks, so a mesh splits them without a
collective.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P
from jaxtyping import Float, Int

from dcmu_jax.data.pixels import check_pixels
from dcmu_jax.errors import InputError, check_at_least
from dcmu_jax.networks.partition import PARTS, apply_parts
from dcmu_jax.platforms import platform
from dcmu_jax.prng import Key, typed_key
from dcmu_jax.training.arguments import ONE_DEVICE, Objective, Placement
from dcmu_jax.training.callbacks import Callback, check_callbacks
from dcmu_jax.training.classifier import Classifier
from dcmu_jax.training.devices import check_same_arrays, gathered, placed
from dcmu_jax.training.epoch import EpochSettings, TrainState, train_epoch
from dcmu_jax.training.examples import (
    Examples,
    Loss,
    check_examples,
    check_labels,
    cross_entropy,
)
from dcmu_jax.training.loop import resumed, run_epochs
from dcmu_jax.training.optimizers import OptimizerLike, as_optimizer, check_update
from dcmu_jax.training.timing import Stopwatch


@dataclasses.dataclass(frozen=True)
class FittedPopulation:
    """The result of ``fit_population``.

    Attributes:
        classifiers: the trained networks in one value: every array has a leading axis of models.
        losses: float32 ``(models, epochs)``, mean training loss.
        accuracies: float32 ``(models, epochs)``, training accuracy (%), measured while training.
        run_s: seconds of training, compilation apart.
        compile_s: seconds of compilation.
    """

    classifiers: Classifier
    losses: np.ndarray
    accuracies: np.ndarray
    run_s: float
    compile_s: float


def stack(classifiers: Sequence[Classifier]) -> Classifier:
    """Networks of one architecture as one value with a leading axis of models.

    Raises:
        InputError: no network, or networks of several architectures.
    """
    kinds = {(repr(c.model), c.image_shape) for c in classifiers}
    if len(kinds) != 1:
        raise InputError(
            f"A population of {len(classifiers)} networks of {len(kinds)} architectures",
            "one or more of one architecture",
            "Build a population for each architecture",
        )
    first = classifiers[0]
    arrays = [(c.variables, c.normalisation) for c in classifiers]
    variables, normalisation = jax.tree.map(lambda *leaves: jnp.stack(leaves), *arrays)
    return Classifier(first.model, variables, normalisation, first.image_shape)


def size_of(classifiers: Classifier) -> int:
    """Number of networks in a stacked classifier."""
    return len(jax.tree.leaves(classifiers.normalisation)[0])


def member(classifiers: Classifier, number: int) -> Classifier:
    """One network of a stacked classifier."""
    variables, normalisation = jax.tree.map(
        lambda leaf: leaf[number], (classifiers.variables, classifiers.normalisation)
    )
    return dataclasses.replace(classifiers, variables=variables, normalisation=normalisation)


def default_chunk() -> int:
    """The default number of networks that train in one program.

    One on CPU, for its memory: of small MLPs four side by side took 0.89 of the time
    (experiments/results/population_mlp_cpu.json, on a busy machine). One on a TPU, whose compiler
    expects four CNNs of a quarter of the width to take 1.07 times as long side by side
    (experiments/results/compiled_tpu.json). 16 on a GPU, unmeasured.
    """
    return 16 if platform() == "gpu" else 1


def _mapped(function: Any, chunk: int, stacked: Any) -> Any:
    """``function`` of every model, ``chunk`` of them side by side."""
    return jax.lax.map(function, stacked, batch_size=None if chunk == 1 else chunk)


@functools.partial(
    jax.jit, static_argnames=("settings", "chunk", "mesh"), donate_argnames=("states",)
)
def _population_epoch(settings, chunk, mesh, states, frozen, normalisation, keys, rows, examples):
    """One epoch of every network; returns states, losses and accuracies."""

    def all_here(states, frozen, normalisation, keys, rows, examples):
        def one(args):
            state, frozen, normalisation, key, rows = args
            return train_epoch(settings, state, frozen, normalisation, None, examples, key, rows)

        return _mapped(one, chunk, (states, frozen, normalisation, keys, rows))

    arguments = (states, frozen, normalisation, keys, rows, examples)
    if mesh is None:
        return all_here(*arguments)
    # What a device returns depends on its own models alone, which the checker cannot know.
    each = (P("models"),) * 5
    run = jax.shard_map(
        all_here, mesh=mesh, in_specs=(*each, P()), out_specs=P("models"), check_vma=False
    )
    return run(*arguments)


@functools.partial(jax.jit, static_argnames=("model", "chunk", "mesh"))
def _population_logits(model, chunk, mesh, variables, normalisation, batches):
    """Logits ``(models, batches, batch, classes)``, evaluation mode."""

    def all_here(variables, normalisation, batches):
        def one(args):
            variables, normalisation = args
            return jax.lax.map(
                lambda pixels: apply_parts(model, variables, normalisation.apply(pixels))[0],
                batches,
            )

        return _mapped(one, chunk, (variables, normalisation))

    if mesh is None:
        return all_here(variables, normalisation, batches)
    run = jax.shard_map(
        all_here,
        mesh=mesh,
        in_specs=(P("models"), P("models"), P()),
        out_specs=P("models"),
        check_vma=False,
    )
    return run(variables, normalisation, batches)


def fit_population(
    classifiers: Classifier,
    examples: Examples,
    rows: Int[np.ndarray, "models n"],
    *,
    epochs: int,
    keys: Key,
    optimizer: OptimizerLike,
    batch_size: int = 256,
    loss: Loss | Objective = cross_entropy,
    placement: Placement = ONE_DEVICE,
    callbacks: Sequence[Callback] | Any = (),
) -> FittedPopulation:
    """Train every network of a population, each on rows of its own.

    Guarantee: network ``i`` is that of ``fit`` with ``member(classifiers, i)``, the examples
    ``rows[i]`` and ``keys[i]``, up to the rounding of another compiled program (held by a test).

    Args:
        classifiers: where training starts, see ``stack``; they are not changed.
        examples: all that any of them is trained on.
        rows: the rows of ``examples`` that each is trained on, as many for each.

    Other Args:
        epochs: passes of each network over its rows.
        keys: typed keys ``(models,)``, or uint32 ``(models, 2)``.
        optimizer: an ``Optimizer``, or an optax transformation; see ``OptimizerLike``.
        batch_size: examples per step.
        loss: see ``fit``.
        placement: over which devices the networks are split, each process getting all of them; and
            how many train side by side.
        callbacks: see ``fit``; they are given the means over the networks.

    Raises:
        Diverged: the loss of an epoch, or a parameter at the end, is not finite.
        InputError: rows or keys that do not fit the networks or the examples, labels that are no
            output, a mesh that does not divide the networks; what ``fit`` refuses of optimizer and
            callbacks.
    """
    models, objective = size_of(classifiers), Objective.of(loss)
    check_examples(examples)
    check_at_least("epochs", epochs, 0)
    check_at_least("batch_size", batch_size, 1)
    own = as_optimizer(optimizer)
    rows = _checked_rows(rows, models, len(examples.labels))
    keys = typed_key(keys, (models,))
    labels, weights = (np.asarray(array)[rows] for array in (examples.labels, examples.weights))
    check_labels(labels, weights, objective.loss, classifiers)
    objective.check(examples.weights, classifiers.variables.get("batch_stats", {}))
    placement.check_models(models)
    chunk = default_chunk() if placement.chunk is None else placement.chunk
    check_at_least("chunk", chunk, 1)
    size = min(batch_size, rows.shape[1])
    settings = EpochSettings(
        model=classifiers.model,
        parts=frozenset(PARTS),
        start=PARTS[0],
        objective=objective,
        optimizer=own,
        total_steps=epochs * math.ceil(rows.shape[1] / size) if own.scheduled else 0,
        batch_size=size,
        mesh=None,
    )
    callbacks, mesh = check_callbacks(callbacks), placement.mesh
    return _fit_population(
        classifiers, examples, rows, keys, epochs, settings, chunk, mesh, callbacks
    )


def _checked_rows(rows: Any, models: int, count: int) -> np.ndarray:
    """Rows of ``count`` examples as int32; raises unless there are some for each network."""
    rows = np.asarray(rows, np.int32)
    if rows.shape[0] != models or not rows.shape[1]:
        raise InputError(
            f"{models} networks, rows {rows.shape}",
            "one or more rows for each network",
            "Pass rows (models, n)",
        )
    if rows.min() < 0 or rows.max() >= count:
        raise InputError(
            f"Rows {rows.min()}..{rows.max()} of {count} examples", f"0..{count - 1}", "Check them"
        )
    return rows


def _fit_population(
    classifiers: Classifier,
    examples: Examples,
    rows: np.ndarray,
    keys: Key,
    epochs: int,
    settings: EpochSettings,
    chunk: int,
    mesh: Mesh | None,
    callbacks: Sequence[Callback],
) -> FittedPopulation:
    """``fit_population`` with arguments that are checked."""
    watch, models = Stopwatch(), len(rows)
    with watch.running():
        params = classifiers.variables["params"]
        check_update(settings.optimizer, params)
        opt_state = jax.vmap(settings.optimizer.build(settings.total_steps).init)(params)
        stats = classifiers.variables.get("batch_stats", {})
        # Copied, because the state is donated and the caller keeps what was passed in.
        states = jax.tree.map(
            jnp.copy, TrainState(params, stats, opt_state, jnp.zeros(models, jnp.int32))
        )
        states, history = resumed(callbacks, states, watch)
        frozen: dict[str, Any] = {"params": {}, "batch_stats": {}}
        each = (states, classifiers.normalisation, keys, jnp.asarray(rows))
        shared = jax.tree.map(jnp.asarray, examples)
        if mesh is not None:
            alike = (states, classifiers.normalisation, jax.random.key_data(keys), rows, shared)
            check_same_arrays("networks or examples", alike)
            each, shared = placed(each, mesh, P("models")), placed(shared, mesh, P())
        states, *given = each

        def one_epoch(states: TrainState) -> tuple[TrainState, Any, Any]:
            return _population_epoch(settings, chunk, mesh, states, frozen, *given, shared)

        def assembled(states: TrainState) -> Classifier:
            variables = {"params": states.params, "batch_stats": states.batch_stats}
            return dataclasses.replace(classifiers, variables=variables)

        states = run_epochs(
            one_epoch,
            states,
            history,
            epochs=epochs,
            rate=settings.optimizer.learning_rate,
            callbacks=callbacks,
            watch=watch,
            fetch=gathered,
            assemble=assembled,
        )
    curves = np.asarray(history, np.float32).reshape(len(history), 2, models).transpose(1, 2, 0)
    return FittedPopulation(assembled(states), curves[0], curves[1], watch.run_s, watch.compile_s)


def population_logits(
    classifiers: Classifier,
    pixels: np.ndarray | Any,
    *,
    chunk: int | None = None,
    batch_size: int = 500,
    mesh: Mesh | None = None,
) -> Float[np.ndarray, "models n classes"]:
    """Logits of every network on the same pixels ``(N, H, W, C)``, evaluation mode, float32.

    Args:
        classifiers: see ``stack``.
        pixels: uint8 or float32 in 0..255.

    Other Args:
        chunk: networks side by side, see ``default_chunk``.
        batch_size: images of one pass.
        mesh: see ``fit_population``.

    Raises:
        InputError: what ``check_pixels`` refuses, or a mesh that cannot be shared.
    """
    Placement(mesh).check_models(size_of(classifiers))
    pixels = np.asarray(check_pixels(pixels, classifiers.image_shape, classifiers.normalisation))
    chunk = default_chunk() if chunk is None else chunk
    count = len(pixels)
    if not count:
        one = np.zeros((1, *classifiers.image_shape), np.uint8)
        return population_logits(classifiers, one, chunk=chunk, mesh=mesh)[:, :0]
    size = min(batch_size, count)
    rows = np.resize(np.arange(count), math.ceil(count / size) * size)
    batches = pixels[rows].reshape(-1, size, *pixels.shape[1:])
    each = (classifiers.variables, classifiers.normalisation)
    if mesh is not None:
        each, batches = placed(each, mesh, P("models")), placed(batches, mesh, P())
    logits = gathered(_population_logits(classifiers.model, chunk, mesh, *each, batches))
    models = logits.shape[0]
    return np.asarray(logits, np.float32).reshape(models, -1, logits.shape[-1])[:, :count]

r"""Modular training (section IV-C): a network in three parts, of which some train.

Beginning, intermediate and final label the leaves of the parameter tree, and an optax mask by those
labels says which leaves move:

.. math::
    \theta_p \leftarrow \theta_p - \alpha\, \mathbb 1[p \in \text{parts}]\; u_p(\nabla_\theta L)

*Offline phase* (IV-C.1): R rounds, in each of which ``final`` goes back to the original's
parameters and is trained on the remembrance samples, then ``intermediate`` on all of the training
set. *Online phase* (IV-C.2): S rounds, each of one epoch of ``beginning`` on the reduced retain set
and, while the round s is below S - tau, S1 full-batch steps of ``final`` on the remembrance
samples; then one epoch of ``intermediate`` on the reduced retain set.

The library runs ``training.loop.fit`` (only the parts that train are differentiated) and
``unlearning.modular.ModularUnlearning`` (what lies below them runs once and is cached).
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, NamedTuple

import jax
import optax

from dcmu_jax.networks.partition import apply_parts
from dcmu_jax.prng import Key
from dcmu_jax.training.classifier import Classifier
from dcmu_jax.training.examples import Examples, cross_entropy
from dcmu_jax.training.keys import folded


class Trained(NamedTuple):
    """What training leaves: variables of the network, and the optimizer's state to go on with."""

    variables: dict[str, Any]
    state: Any


def masked(
    optimizer: optax.GradientTransformation, parts: Collection[str]
) -> optax.GradientTransformation:
    """``optimizer`` on the parameters of ``parts`` together; those of other parts do not move."""

    def trains(params):
        return {
            part: jax.tree.map(lambda _, part=part: part in parts, tree)
            for part, tree in params.items()
        }

    # One transformation for all that trains: clipping by the norm of a gradient, say, sees it all.
    return optax.multi_transform({True: optimizer, False: optax.set_to_zero()}, trains)


def train_parts(
    network: Classifier,
    variables: dict[str, Any],
    examples: Examples,
    *,
    parts: Collection[str],
    epochs: int,
    optimizer: optax.GradientTransformation,
    key: Key,
    batch_size: int | None = None,
    state: Any = None,
) -> Trained:
    """Train some parts; the others are in evaluation mode and come back as they are.

    Args:
        network: gives the module and the normalisation.
        variables: where training starts.
        examples: pixels, classes and weights. A batch that is not full is left out.

    Other Args:
        parts: those that train.
        epochs: passes over the examples.
        optimizer: any optax transformation.
        key: of shuffling and dropout.
        batch_size: examples per step; all of them if not given.
        state: of the masked optimizer, to go on with.
    """
    transform = masked(optimizer, parts)
    params, stats = variables["params"], variables.get("batch_stats", {})
    state = transform.init(params) if state is None else state
    count = len(examples.labels)
    size = batch_size or count

    @jax.jit
    def step(params, stats, state, batch, dropout_key):
        def loss(params):
            x = network.normalisation.apply(batch.inputs)
            given = {"params": params, "batch_stats": stats}
            logits, new = apply_parts(network.model, given, x, train=parts, dropout_key=dropout_key)
            losses = cross_entropy(logits, batch.labels)
            return batch.weights @ losses / batch.weights.sum(), new

        gradient, new = jax.grad(loss, has_aux=True)(params)
        updates, state = transform.update(gradient, state, params)
        return optax.apply_updates(params, updates), {**stats, **new}, state

    for epoch in range(epochs):
        shuffle_key, step_key = jax.random.split(jax.random.fold_in(key, epoch))
        order = jax.random.permutation(shuffle_key, count)
        for number in range(count // size):
            rows = order[number * size : (number + 1) * size]
            batch = jax.tree.map(lambda array, rows=rows: jax.numpy.asarray(array)[rows], examples)
            _, dropout_key = jax.random.split(jax.random.fold_in(step_key, number))
            params, stats, state = step(params, stats, state, batch, dropout_key)
    return Trained({"params": params, "batch_stats": stats}, state)


def offline_phase(
    network: Classifier,
    everything: Examples,
    remembrance: Examples,
    *,
    rounds: int,
    final_epochs: int,
    final_rate: float,
    final_batch: int,
    intermediate_epochs: int,
    intermediate_rate: float,
    intermediate_batch: int,
    key: Key,
) -> dict[str, Any]:
    """Prepare a network for unlearning, before any request is known; returns the variables.

    Args:
        network: the original.
        everything: the training set.
        remembrance: the remembrance samples.

    Other Args:
        rounds: R.
        final_epochs: L1.
        final_rate: of ``final``.
        final_batch: examples per step there.
        intermediate_epochs: L2.
        intermediate_rate: of ``intermediate``.
        intermediate_batch: examples per step there.
        key: of shuffling and dropout.
    """
    variables = network.variables
    for number in range(rounds):
        variables = {
            kind: {**trees, **{p: t for p, t in network.variables[kind].items() if p == "final"}}
            for kind, trees in variables.items()
        }
        for part, examples, epochs, rate, size in (
            ("final", remembrance, final_epochs, final_rate, final_batch),
            (
                "intermediate",
                everything,
                intermediate_epochs,
                intermediate_rate,
                intermediate_batch,
            ),
        ):
            variables, _ = train_parts(
                network,
                variables,
                examples,
                parts=(part,),
                epochs=epochs,
                optimizer=optax.adam(rate),
                key=folded(key, f"offline {number} {part}"),
                batch_size=size,
            )
    return variables


def online_phase(
    network: Classifier,
    reduced: Examples,
    remembrance: Examples,
    *,
    rounds: int,
    tail: int,
    final_steps: int,
    learning_rate: float,
    closing_rate: float,
    batch_size: int,
    key: Key,
) -> dict[str, Any]:
    """Unlearn by modular training on the reduced retain set; returns the variables.

    Args:
        network: the original, or what the offline phase left of it.
        reduced: the reduced retain set.
        remembrance: the remembrance samples.

    Other Args:
        rounds: S.
        tail: tau, 0 < tau < S.
        final_steps: S1.
        learning_rate: alpha, of ``beginning`` and ``final``.
        closing_rate: alpha3, of ``intermediate``.
        batch_size: of the epochs on the reduced retain set.
        key: of shuffling and dropout.
    """
    variables, beginning, final = network.variables, None, None
    for s in range(rounds):
        variables, beginning = train_parts(
            network,
            variables,
            reduced,
            parts=("beginning",),
            epochs=1,
            optimizer=optax.adam(learning_rate),
            key=folded(key, f"online {s} 0"),
            batch_size=batch_size,
            state=beginning,
        )
        if s < rounds - tail:
            variables, final = train_parts(
                network,
                variables,
                remembrance,
                parts=("final",),
                epochs=final_steps,
                optimizer=optax.adam(learning_rate),
                key=folded(key, f"online {s} 1"),
                state=final,
            )
    variables, _ = train_parts(
        network,
        variables,
        reduced,
        parts=("intermediate",),
        epochs=1,
        optimizer=optax.adam(closing_rate),
        key=folded(key, "closing 0"),
        batch_size=batch_size,
    )
    return variables

"""Full-batch minimisation of anything that is not a network over batches.

The weights of condensed images, thresholds, small classifiers: all data fits in one step. Networks
over batches train with the training loop instead.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import optax
from jaxtyping import Array, Float


def descend(
    loss: Callable[..., Array],
    params: Any,
    state: Any,
    optimizer: optax.GradientTransformation,
    *args: Any,
) -> tuple[Any, Any, Float[Array, ""]]:
    """One full-batch step.

    Args:
        loss: ``loss(params, *args)``, a scalar.
        params: pytree that is optimised.
        state: the optimizer's state, ``optimizer.init(params)`` at the start.
        optimizer: the optax transformation.
        *args: data and frozen values, passed on to ``loss``.

    Returns:
        The new ``params``, the new ``state``, and the loss before the step.
    """
    value, gradient = jax.value_and_grad(loss)(params, *args)
    updates, state = optimizer.update(gradient, state, params)
    return optax.apply_updates(params, updates), state, value


def minimise(
    loss: Callable[..., Array],
    params: Any,
    optimizer: optax.GradientTransformation,
    steps: int,
    *args: Any,
) -> tuple[Any, Float[Array, " steps"]]:
    """Minimise ``loss(params, *args)`` by ``steps`` full-batch steps.

    Pure; works under ``jit`` (with ``loss``, ``optimizer`` and ``steps`` static) and ``vmap``. Data
    goes through ``args``, never into ``loss`` by closure, where it would become a constant of the
    compiled program.

    Args:
        loss: ``loss(params, *args)``, a scalar.
        params: where to start, any pytree of floating-point arrays.
        optimizer: an optax transformation; its state starts fresh.
        steps: number of steps, 0 or more.
        *args: data and frozen values, passed on to ``loss``.

    Returns:
        The final parameters and the loss before each step, ``(steps,)``.
    """

    def step(carry, _):
        params, state, value = descend(loss, *carry, optimizer, *args)
        return (params, state), value

    (params, _), losses = jax.lax.scan(step, (params, optimizer.init(params)), length=steps)
    return params, losses

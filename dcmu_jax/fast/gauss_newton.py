r"""Many small least-squares problems at once by Gauss-Newton steps without matrices.

Problem ``j`` has residuals :math:`r_j(\theta_j)` of some of the parameters. A step minimises
:math:`\|r_j + J_j d_j\|^2 + \lambda_j \|d_j\|^2` by conjugate gradients on products with
:math:`J_j` and its transpose (Levenberg and Marquardt's damping, truncated as by Steihaug): one
pass through the network forwards and one backwards for all problems together, however many
parameters each has.

A solver in place of the Adam of ``core.distribution_matching``, for the same loss:
tests/fast/test_gauss_newton.py holds its step to dense linear algebra, problem by problem.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

_TINY = 1e-30

_CAUTION = 1e-3
"""Least damping, as a share of the curvature along the gradient: directions that hardly change the
residuals would else be followed without end."""


def newton_step(
    residual: Callable[[Float[Array, " params"]], Float[Array, "problems dim"]],
    params: Float[Array, " params"],
    damping: Float[Array, " problems"],
    own: Bool[Array, "problems params"],
    inner: int,
) -> tuple[Float[Array, " params"], Float[Array, " problems"]]:
    """One step of every problem; a problem whose loss it would not lower stays, better damped.

    Costs ``3 + inner`` passes forwards and ``1 + inner`` backwards. Pure; under ``jit`` and
    ``scan`` the residual's data must be arguments of the caller, not constants.

    Args:
        residual: all residuals of all parameters; those of a problem depend on its own alone.
        params: the parameters of all problems.
        damping: lambda of each problem; 0 at the start, when the least there is will be used.
        own: which parameter belongs to which problem; to none if it stands still.
        inner: conjugate-gradient steps; as many as a problem has parameters solve it exactly.

    Returns:
        The new parameters and damping.
    """
    mask = own.astype(jnp.float32)

    def dot(a: Array, b: Array) -> Array:
        return jnp.matmul(mask, a * b, precision=jax.lax.Precision.HIGHEST)

    def spread(values: Array) -> Array:
        return jnp.matmul(values, mask, precision=jax.lax.Precision.HIGHEST)

    values, push = jax.linearize(residual, params)
    pull = jax.linear_transpose(push, params)
    downhill = -pull(values)[0]
    norm = dot(downhill, downhill)
    steepest = jnp.sum(push(downhill) ** 2, axis=1) / jnp.maximum(norm, _TINY)
    used = jnp.maximum(damping, _CAUTION * steepest)
    held = spread(used)

    def improve(carry, _):
        direction, left, along, norm = carry
        curved = pull(push(along))[0] + held * along
        bend = dot(along, curved)
        stride = jnp.where(bend > 0, norm / jnp.maximum(bend, _TINY), 0.0)
        direction = direction + spread(stride) * along
        left = left - spread(stride) * curved
        new = dot(left, left)
        along = left + spread(new / jnp.maximum(norm, _TINY)) * along
        return (direction, left, along, new), None

    begin = jnp.zeros_like(downhill), downhill, downhill, norm
    (direction, left, _, _), _ = jax.lax.scan(improve, begin, length=inner)
    before = jnp.sum(values**2, axis=1)
    after = jnp.sum(residual(params + direction) ** 2, axis=1)
    # With (A + lambda) d = g - left, what the linear model promises, 2 g.d - d.A d, is at hand.
    length = dot(direction, direction)
    promised = dot(direction, downhill + left) + used * length
    share = (before - after) / jnp.maximum(promised, _TINY)
    better = after < before
    curvature = promised / jnp.maximum(length, _TINY)
    new = jnp.where(share > 0.75, used / 4, used)
    new = jnp.where(share < 0.25, 4 * jnp.maximum(used, 0.25 * curvature), new)
    return params + spread(better.astype(jnp.float32)) * direction, new

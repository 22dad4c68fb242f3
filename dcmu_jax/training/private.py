"""Gradients for differential privacy: clipped by example, summed over a drawn batch, noised.

What DP-SGD and DP-Adam share (Abadi et al. 2016, "Deep learning with differential privacy",
algorithm 1); the optimizer that takes the gradient makes the one or the other.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from dcmu_jax.errors import InputError, check_at_least, check_positive

Objective = Callable[[Any, Any, Array], tuple[Array, Any]]
"""``objective(params, batch, key)``: the mean loss of a batch, and a tree of sums to report."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class PrivateGradient:
    r"""The noised sum of clipped gradients of a Poisson-sampled batch, as a rule for ``fit``.

    .. math:: \tilde g = \frac{1}{B}\Big(\sum_{i \in S} g_i \min(1, C / \|g_i\|)
        + \mathcal{N}(0, \sigma^2 C^2 I)\Big)

    Every example is in the batch S of a step by a coin of its own, of probability q = B / n, where
    B is the batch size that ``fit`` is given: what accountants of the Poisson-subsampled Gaussian
    mechanism take for granted is so, and nothing is cut off when a batch comes out large: examples
    are gone through ``chunk`` at a time, as many times as needed. The sum is divided by B, not by
    the size of S, which is private. An epoch has ceil(n / B) steps.

    One example more or less changes the sum by C at most (add-or-remove neighbours). The losses
    and accuracies that ``fit`` returns with the network are not private; nor is the
    normalisation of the inputs where it was measured on the examples: give it. The noise comes
    from JAX's generator, which is not a cryptographic one.

    Attributes:
        clip: C, the largest norm of an example's gradient over all parts that train; ``inf`` for
            none.
        noise_multiplier: sigma; 0 for none.
        chunk: examples whose gradients are held at once; changes memory and speed alone.
    """

    clip: float = 1.0
    noise_multiplier: float = 1.0
    chunk: int = 32

    def check(self, weights: Any, batch_stats: Any) -> None:
        """Raise ``InputError`` where clipping by example would not mean what it says.

        Args:
            weights: of the examples.
            batch_stats: of the network.
        """
        check_at_least("noise_multiplier", self.noise_multiplier, 0)
        check_at_least("chunk", self.chunk, 1)
        if not math.isinf(self.clip):
            check_positive("clip", self.clip)
        elif self.noise_multiplier:
            raise InputError(
                f"noise_multiplier = {self.noise_multiplier} without clipping",
                "a finite clip, which the noise is a multiple of, or noise_multiplier = 0",
                "Set clip to 1.0, say",
            )
        if jax.tree.leaves(batch_stats):
            raise InputError(
                "Clipping by example of a network with BatchNorm, where examples see each other",
                "a network whose examples do not: with group normalisation, or with none",
                "Build the network with norm='group' (--network.norm group)",
            )
        if not bool(((weights == 0) | (weights == 1)).all()):
            raise InputError(
                "Weights other than 0 and 1 of examples whose gradients are clipped",
                "weights 0 and 1",
                "Leave the weights out",
            )

    def gradient(
        self,
        objective: Objective,
        params: Any,
        take: Callable[[Array], Any],
        count: int,
        batch_size: int,
        key: Array,
    ) -> tuple[Any, Any]:
        """The gradient of one step, and the objective's sums over the batch; to be compiled.

        Args:
            objective: see ``Objective``; its mean over one example is that example's loss.
            params: what it is differentiated by.
            take: the examples at some positions, a tree with a leading axis and ``weights``.
            count: n, the number of examples.
            batch_size: B, expected.
            key: of this step.
        """
        draw_key, example_key, noise_key = jax.random.split(key, 3)
        drawn = jax.random.uniform(draw_key, (count,)) < batch_size / count
        # The drawn first, then padding up to a whole number of chunks.
        size = min(self.chunk, count)
        order = jnp.argsort(~drawn, stable=True)
        order = jnp.pad(order, (0, -count % size))
        total = drawn.sum()

        def one(params, example, number):
            batch = jax.tree.map(lambda x: x[None], example)
            return objective(params, batch, jax.random.fold_in(example_key, number))

        def norm(example, number):
            return optax.global_norm(jax.grad(one, has_aux=True)(params, example, number)[0])

        def chunk(index, carried):
            rows = jax.lax.dynamic_slice(order, (index * size,), (size,))
            batch = take(rows)
            real = (index * size + jnp.arange(size) < total) & (batch.weights > 0)
            # Gradients of single examples serve for their norms alone, and need not be kept: the
            # clipped sum is the gradient of a sum of losses, each times its factor.
            norms = jax.vmap(norm)(batch, rows)
            factors = jnp.where(real, jnp.minimum(1.0, self.clip / jnp.maximum(norms, 1e-12)), 0.0)

            def clipped(params):
                losses, sums = jax.vmap(one, (None, 0, 0))(params, batch, rows)
                sums = jax.tree.map(lambda s: jnp.tensordot(real.astype(s.dtype), s, 1), sums)
                return jnp.vdot(factors, losses), sums

            found = jax.grad(clipped, has_aux=True)(params)
            return jax.tree.map(jnp.add, carried, found)

        first = jax.tree.map(lambda x: x[0], take(order[:1]))
        sums = jax.eval_shape(one, params, first, order[0])[1]
        start = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), (params, sums))
        summed, sums = jax.lax.fori_loop(0, (total + size - 1) // size, chunk, start)
        if self.noise_multiplier:
            leaves, tree = jax.tree.flatten(summed)
            keys = jax.random.split(noise_key, len(leaves))
            scale = self.noise_multiplier * self.clip
            leaves = [
                leaf + scale * jax.random.normal(k, leaf.shape, leaf.dtype)
                for leaf, k in zip(leaves, keys, strict=True)
            ]
            summed = jax.tree.unflatten(tree, leaves)
        return jax.tree.map(lambda g: g / batch_size, summed), sums

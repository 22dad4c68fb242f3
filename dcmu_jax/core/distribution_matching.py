r"""Algorithm 2: condense a cluster to one image by fast distribution matching (FDM).

For a cluster of ``n`` samples :math:`X_i` the condensed image is a weighted sum of them,

.. math::
    \varphi = \sum_i w_i X_i, \qquad
    w = \arg\min_w \big\| \tfrac1n \sum_i g(X_i) - g(\varphi) \big\|_2^2,

by Adam from :math:`w_i = 1/n`, where ``g`` gives a network's features. The paper writes the norm
without the square, its authors' code with it; with it the gradient vanishes at the minimum.

The library runs ``fast.matching.match_clusters``: all clusters at once.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float

from dcmu_jax.fast.matching import FeatureFn, MatchingConfig
from dcmu_jax.fast.weights import constrain
from dcmu_jax.training.minimise import minimise


def match_one_cluster(
    feature_fn: FeatureFn,
    variables: Any,
    x: Float[Array, "members height width channels"],
    features: Float[Array | np.ndarray, "members dim"],
    mask: Bool[Array | np.ndarray, " members"],
    config: MatchingConfig,
) -> tuple[Float[Array, " members"], Float[Array, "height width channels"]]:
    """One cluster by the letter of Algorithm 2.

    Pure; with padded members it may be ``vmap``-ped over clusters. Always by Adam;
    ``config.tolerance`` and ``config.chunk`` have no meaning here.

    Args:
        feature_fn: the differentiable feature map.
        variables: its parameters and statistics.
        x: members as network inputs, padded.
        features: their features.
        mask: which members are real.
        config: the optimisation.

    Returns:
        The weights (0 at padding) and the condensed image as a network input.
    """
    n = jnp.sum(mask)
    real = mask.astype(x.dtype)
    scale = jnp.full_like(real, 1.0) / (n if config.scale_by_size else 1)
    target = jnp.sum(features * real[:, None], axis=0) / n

    def weigh(moved, real, scale):
        return constrain(config.weights, moved, real / n, scale, mask[None]) * real

    def loss(moved, variables, x, real, scale, target):
        image = jnp.einsum("m,mhwc->hwc", weigh(moved, real, scale), x)
        return jnp.sum((feature_fn(variables, image[None])[0] - target) ** 2)

    start = jnp.zeros_like(real)
    args = variables, x, real, scale, target
    moved, _ = minimise(loss, start, optax.adam(config.learning_rate), config.steps, *args)
    weights = weigh(jnp.where(n == 1, start, moved), real, scale)
    return weights, jnp.einsum("m,mhwc->hwc", weights, x)

r"""Algorithm 3: condense every cluster to one image by inverting a trained network.

An InverterNet :math:`\Lambda` draws an image from the number of a cluster; it learns

.. math::
    \min_{\theta_\Lambda} \sum_j n_j \big( \mathrm{CE}(\mathcal M(\Lambda(j)), l_j)
        + \lambda\, \mathrm{MSE}(\Lambda(j), \mu_j) \big)

with the network :math:`\mathcal M` frozen, :math:`\mu_j` the mean image of cluster j,
:math:`n_j` its size and :math:`l_j` its class. (The distance of an image to all images of its
cluster is, up to a constant, that to their mean.) Before it come passes on the
second term alone, which the paper does not have (``InversionConfig.warm_start``, 0 for none).

The library runs ``condensation.inversion.invert_clusters``: in batches, by the one training loop.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Float, Int

from dcmu_jax.condensation.inversion import InversionConfig
from dcmu_jax.networks.inverters import INVERTERS
from dcmu_jax.networks.partition import apply_parts
from dcmu_jax.prng import Key
from dcmu_jax.training.classifier import Classifier
from dcmu_jax.training.examples import cross_entropy
from dcmu_jax.training.minimise import descend


def invert(
    network: Classifier,
    means: Float[np.ndarray, "clusters height width channels"],
    labels: Int[np.ndarray, " clusters"],
    sizes: Int[np.ndarray, " clusters"],
    config: InversionConfig,
    *,
    key: Key,
) -> Float[np.ndarray, "clusters height width channels"]:
    """The images of all clusters, pixels 0..255 and not clipped, by full-batch Adam.

    Args:
        network: the trained network.
        means: mean image of each cluster, pixels 0..255.
        labels: class of each cluster.
        sizes: samples in each cluster.
        config: the settings; ``batch_size`` has no meaning here.

    Other Args:
        key: of the InverterNet's initialisation.
    """
    inverter = INVERTERS[config.network](len(means), network.image_shape, config.hidden)
    clusters = jnp.arange(len(means))
    targets = network.normalisation.apply(means)
    share = jnp.asarray(sizes, jnp.float32) / sizes.sum()

    def draw(params):
        return inverter.apply({"params": params}, clusters)

    def reconstruction(params):
        return share @ jnp.mean((draw(params) - targets) ** 2, axis=(1, 2, 3))

    def both(params):
        logits, _ = apply_parts(network.model, network.variables, draw(params))
        by_class = share @ cross_entropy(logits, jnp.asarray(labels))
        return by_class + config.reconstruction * reconstruction(params)

    params = inverter.init(key, clusters[:1])["params"]
    optimizer = optax.adam(config.learning_rate)
    state = optimizer.init(params)
    phases = [(both, config.epochs)]
    if config.reconstruction:
        phases.insert(0, (reconstruction, config.warm_start))
    for loss, epochs in phases:
        step = jax.jit(lambda params, state, loss=loss: descend(loss, params, state, optimizer)[:2])
        for _ in range(epochs):
            params, state = step(params, state)
    return np.asarray(network.normalisation.invert(draw(params)), np.float32)

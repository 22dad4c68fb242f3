r"""The overfitting metric OM (section IV-D, equation (45)).

.. math::
    \mathrm{OM}(x) = \big| L(x, \theta)
        - \operatorname{mean}_\theta |\nabla_\theta L(x, \theta)| \big|

The smaller, the more a network is overfitted on the sample.

The library runs ``metrics.overfitting.overfitting_metric``: without forming the gradients by the
kernels of dense and convolutional layers.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Float

from dcmu_jax.data.dataset import Dataset
from dcmu_jax.networks.partition import apply_parts
from dcmu_jax.training.classifier import Classifier
from dcmu_jax.training.examples import cross_entropy


def overfitting_metric(network: Classifier, dataset: Dataset) -> Float[np.ndarray, " samples"]:
    """OM of each sample by itself, in evaluation mode.

    Args:
        network: any.
        dataset: the samples.
    """
    x = network.normalisation.apply(dataset.images)

    def loss(params, x, label):
        variables = {**network.variables, "params": params}
        logits, _ = apply_parts(network.model, variables, x[None])
        return cross_entropy(logits, label[None])[0]

    def metric(x, label):
        value, gradient = jax.value_and_grad(loss)(network.variables["params"], x, label)
        return jnp.abs(value - jnp.abs(ravel_pytree(gradient)[0]).mean())

    return np.asarray(jax.vmap(metric)(x, jnp.asarray(dataset.labels)))

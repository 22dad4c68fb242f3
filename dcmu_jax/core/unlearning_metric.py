r"""The unlearning metric UM (section IV-D, equation (21)), which rests on (19) and (20).

.. math::
    \mathrm{UM} = 100 \Big( 1 - \frac{\nabla_\theta L(\mathcal R) \cdot \nabla_\theta L(\mathcal F)}
        {\|\nabla_\theta L(\mathcal R)\|_2 \, \|\nabla_\theta L(\mathcal F)\|_2} \Big)

0 where the gradients on retain and forget set point the same way, 100 where they stand at right
angles, as (19) and (20) expect of an unlearned network, 200 where they point against each other.

The library runs ``metrics.gradients.unlearning_metric``: both sets in batches, by one program.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from dcmu_jax.data.dataset import Dataset
from dcmu_jax.networks.partition import apply_parts
from dcmu_jax.training.classifier import Classifier
from dcmu_jax.training.examples import cross_entropy


def unlearning_metric(network: Classifier, retain: Dataset, forget: Dataset) -> float:
    """UM of a network in evaluation mode.

    Args:
        network: any.
        retain: the retain set, at least one sample.
        forget: the forget set, at least one sample.
    """

    def loss(params, dataset):
        x = network.normalisation.apply(dataset.images)
        logits, _ = apply_parts(network.model, {**network.variables, "params": params}, x)
        return cross_entropy(logits, jnp.asarray(dataset.labels)).mean()

    on_retain, on_forget = (
        ravel_pytree(jax.grad(loss)(network.variables["params"], dataset))[0]
        for dataset in (retain, forget)
    )
    norms = jnp.linalg.norm(on_retain) * jnp.linalg.norm(on_forget)
    return float(100 * (1 - jnp.vdot(on_retain, on_forget) / norms))

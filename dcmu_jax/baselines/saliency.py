"""Saliency (SalUn): random labels, learned only by the parameters the forget set weighs on."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from dcmu_jax.baselines.masks import largest
from dcmu_jax.baselines.random_labels import random_label_examples
from dcmu_jax.data.dataset import Dataset
from dcmu_jax.errors import InputError
from dcmu_jax.networks.partition import apply_parts
from dcmu_jax.training.classifier import Classifier
from dcmu_jax.training.examples import cross_entropy
from dcmu_jax.training.flops import spend_on
from dcmu_jax.training.optimizers import Optimizer
from dcmu_jax.unlearning.serving import Serving
from dcmu_jax.unlearning.task import Hooks, Unlearned, UnlearningTask


def _added(model, variables, normalisation, total, pixels, labels, weights):
    """``total`` plus the weighted gradient on one batch, evaluation mode."""
    rest = {name: tree for name, tree in variables.items() if name != "params"}

    def loss(params):
        x = normalisation.apply(pixels)
        logits, _ = apply_parts(model, {"params": params, **rest}, x)
        return jnp.vdot(weights, cross_entropy(logits, labels))

    return jax.tree.map(jnp.add, total, jax.grad(loss)(variables["params"]))


_add_gradient = functools.partial(jax.jit, static_argnames=("model",), donate_argnames=("total",))(
    _added
)


def mean_gradient(classifier: Classifier, dataset: Dataset, batch_size: int = 256) -> Any:
    """Gradient of the mean cross-entropy on ``dataset``, evaluation mode; like ``params``.

    Batch after batch in one compiled program; the last is padded at weight 0.
    """
    count = len(dataset)
    size = min(batch_size, count)
    total = jax.tree.map(jnp.zeros_like, classifier.variables["params"])
    for low in range(0, count, size):
        rows = np.arange(low, low + size)
        weights = (rows < count).astype(np.float32) / count
        at = rows % count
        network = classifier.model, classifier.variables, classifier.normalisation
        batch = dataset.images[at], dataset.labels[at], weights
        spend_on(_added, *network, total, *batch)
        total = _add_gradient(*network, total, *batch)
    return total


def saliency_mask(classifier: Classifier, dataset: Dataset, share: float) -> Any:
    """Booleans like ``params``: the ``share`` with the largest |gradient| of all together."""
    scores = jax.tree.map(jnp.abs, mean_gradient(classifier, dataset))
    total = sum(s.size for s in jax.tree.leaves(scores))
    return largest(scores, np.int32(round(share * total)))


@dataclasses.dataclass(frozen=True, kw_only=True)
class SaliencyUnlearning:
    r"""Random labels with a mask on the updates (SalUn; Fan et al., 2024).

    .. math::
        \theta = m \odot (\theta_o + \Delta) + (1 - m) \odot \theta_o, \qquad
        m = 1[\,|\nabla L(F; \theta_o)| \ge \gamma\,]

    with the original's parameters :math:`\theta_o`, the change :math:`\Delta` that training on
    random labels makes, and :math:`\gamma` such that m has the share ``share`` of ones over the
    whole network. Parameters outside the mask keep their bits; BatchNorm's statistics, which are
    no parameters, go with the training.

    Attributes:
        share: of all parameters, how many may change: above 0, at most 1; the source's median is
            one half.
        epochs: passes over both sets.
        batch_size: examples per step.
        optimizer: that of random labels.
    """

    sees_forget_set: ClassVar[bool] = True
    share: float = 0.5
    epochs: int = 10
    batch_size: int = 256
    optimizer: Optimizer = Optimizer(schedule="cosine")

    def check(self) -> None:
        """Raise ``InputError`` where a field makes no sense."""
        if not 0 < self.share <= 1:
            raise InputError(
                f"share = {self.share!r}", "a number above 0, 1 at most", "Set share within (0, 1]"
            )

    def __call__(self, task: UnlearningTask, hooks: Hooks) -> Unlearned:
        """Fine-tune the salient parameters on right and wrong labels."""
        self.check()
        with Serving(task, hooks, "saliency") as serving:
            with serving.step("saliency"):
                mask = saliency_mask(task.original, task.forget(), self.share)
            network = serving.fit(
                "random labels on salient parameters",
                task.original,
                random_label_examples(serving),
                epochs=self.epochs,
                optimizer=self.optimizer,
                batch_size=self.batch_size,
                mask=mask,
            )
        return serving.unlearned(network, task.train.ids)

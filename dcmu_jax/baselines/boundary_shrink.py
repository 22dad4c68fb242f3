"""Boundary shrinking (BS): give the forget set to the class across the nearest boundary."""

from __future__ import annotations

import dataclasses
import functools
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int

from dcmu_jax.data.dataset import Dataset
from dcmu_jax.errors import check_positive
from dcmu_jax.networks.partition import apply_parts
from dcmu_jax.training.classifier import Classifier, in_batches
from dcmu_jax.training.examples import Examples, cross_entropy
from dcmu_jax.training.flops import spend_on
from dcmu_jax.training.optimizers import Optimizer
from dcmu_jax.unlearning.serving import Serving
from dcmu_jax.unlearning.task import Hooks, Unlearned, UnlearningTask


def _pushed(model, variables, normalisation, epsilon, pixels, labels):
    x = normalisation.apply(pixels)

    def logits(x):
        return apply_parts(model, variables, x)[0].astype(jnp.float32)

    gradient = jax.grad(lambda x: cross_entropy(logits(x), labels).sum())(x)
    step = 255 * epsilon * jnp.sign(gradient)  # the sign is the same for pixels, as std > 0
    there = logits(normalisation.apply(jnp.asarray(pixels, jnp.float32) + step))
    own = jax.nn.one_hot(labels, there.shape[-1], dtype=bool)
    return jnp.where(own, -jnp.inf, there).argmax(-1).astype(jnp.int32)


_across = functools.partial(jax.jit, static_argnames=("model",))(_pushed)


def nearest_wrong_labels(
    classifier: Classifier, dataset: Dataset, epsilon: float
) -> Int[np.ndarray, " n"]:
    r"""The class, other than its own, with the largest logit at an image pushed off its class.

    The image is :math:`x + \epsilon\, \mathrm{sign}(\nabla_x L(x, y))`, one step of the fast
    gradient sign method; evaluation mode. The step is taken on pixels, before they are normalised,
    so it is the same for every channel and does not depend on the normalisation. The image is
    neither clipped to valid pixels nor rounded to 8 bits.

    Args:
        classifier: whose boundaries are meant.
        dataset: images and their classes.
        epsilon: of pixels in [0, 1]: 0.1 is 25.5 of 255, and for the network 0.1 over the
            channel's standard deviation.

    Returns:
        int32 ``(n,)``, in the order of ``dataset``.
    """
    given = classifier.model, classifier.variables, classifier.normalisation, np.float32(epsilon)
    spend_on(_pushed, *given, dataset.images[:1], dataset.labels[:1], times=len(dataset))
    return in_batches(
        lambda pixels, labels: _across(*given, pixels, labels),
        dataset.images,
        dataset.labels,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class BoundaryShrink:
    """Fine-tune on the forget set with its nearest wrong labels (Chen et al., 2023).

    The labels come from the original, once; see ``nearest_wrong_labels``. Where the step does not
    leave the sample's own class, the source trains on that class; here it is the next likely one.
    Nothing of the retain set is trained on, so the steps must be few and small.

    Attributes:
        epsilon: the step off the class, of pixels in [0, 1], as published: 0.1 is 25.5 of 255.
        epochs: passes over the forget set.
        batch_size: examples per step.
        optimizer: at a constant rate and a small one.
    """

    sees_forget_set: ClassVar[bool] = True
    epsilon: float = 0.1
    epochs: int = 10
    batch_size: int = 256
    optimizer: Optimizer = Optimizer(learning_rate=1e-4)

    def check(self) -> None:
        """Raise ``InputError`` where a field makes no sense."""
        check_positive("epsilon", self.epsilon)

    def __call__(self, task: UnlearningTask, hooks: Hooks) -> Unlearned:
        """Fine-tune on the relabelled forget set."""
        self.check()
        with Serving(task, hooks, "boundary_shrink") as serving:
            forget = task.forget()
            with serving.step("nearest wrong classes"):
                labels = nearest_wrong_labels(task.original, forget, self.epsilon)
            network = serving.fit(
                "boundary shrinking",
                task.original,
                Examples.of(forget.images, labels),
                epochs=self.epochs,
                optimizer=self.optimizer,
                batch_size=self.batch_size,
            )
        return serving.unlearned(network, forget.ids)

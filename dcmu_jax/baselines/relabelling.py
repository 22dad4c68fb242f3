"""Methods that teach wrong labels: random ones (RL, SalUn), or the nearest (boundary shrinking)."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int

from dcmu_jax.baselines.masks import largest
from dcmu_jax.baselines.one_fit import Fit, OneFit, on_both
from dcmu_jax.data.dataset import Dataset
from dcmu_jax.errors import InputError, check_positive
from dcmu_jax.networks.partition import apply_parts
from dcmu_jax.training.arguments import Trainable
from dcmu_jax.training.classifier import Classifier, in_batches
from dcmu_jax.training.examples import Examples, cross_entropy
from dcmu_jax.training.flops import spend_on
from dcmu_jax.training.optimizers import Optimizer
from dcmu_jax.unlearning.serving import Serving
from dcmu_jax.unlearning.wrong_labels import wrong_labels_among


def random_labels(serving: Serving, **options: Any) -> Fit:
    """The retain set, and the forget set with wrong labels, drawn once by the unlearning seed."""
    task, forget = serving.task, serving.task.forget()
    classes = np.unique(task.train.labels)
    wrong = wrong_labels_among(forget, classes, serving.key("wrong labels"))
    return on_both(task.retain(), forget, wrong, **options)._replace(ids=task.train.ids)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RandomLabels(OneFit):
    """Fine-tune on the retain set and on the forget set with wrong labels (amnesiac unlearning).

    Minimises L(R + F') where F' is F with labels drawn once, uniformly from the other classes
    (Graves et al., 2021). Codes that draw from all classes leave some samples their own.

    Attributes:
        epochs: passes over both sets.
        batch_size: examples per step.
        optimizer: that of catastrophic forgetting.
    """

    sees_forget_set: ClassVar[bool] = True
    _names: ClassVar[tuple[str, str]] = ("random_labels", "random labels")
    epochs: int = 10
    batch_size: int = 256
    optimizer: Optimizer = Optimizer(schedule="cosine")

    def _fit(self, serving: Serving) -> Fit:
        return random_labels(serving)


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
class SaliencyUnlearning(OneFit):
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
    _names: ClassVar[tuple[str, str]] = ("saliency", "random labels on salient parameters")
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

    def _fit(self, serving: Serving) -> Fit:
        with serving.step("saliency"):
            mask = saliency_mask(serving.task.original, serving.task.forget(), self.share)
        return random_labels(serving, parts=Trainable(mask=mask))


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
class BoundaryShrink(OneFit):
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
    _names: ClassVar[tuple[str, str]] = ("boundary_shrink", "boundary shrinking")
    epsilon: float = 0.1
    epochs: int = 10
    batch_size: int = 256
    optimizer: Optimizer = Optimizer(learning_rate=1e-4)

    def check(self) -> None:
        """Raise ``InputError`` where a field makes no sense."""
        check_positive("epsilon", self.epsilon)

    def _fit(self, serving: Serving) -> Fit:
        original, forget = serving.task.original, serving.task.forget()
        with serving.step("nearest wrong classes"):
            labels = nearest_wrong_labels(original, forget, self.epsilon)
        return Fit(Examples.of(forget.images, labels), forget.ids)

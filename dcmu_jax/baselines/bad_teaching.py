"""Bad teaching (BD): imitate a random network on the forget set, the original on the retain set."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax
import numpy as np

from dcmu_jax.baselines.losses import Distillation
from dcmu_jax.errors import InputError, check_positive
from dcmu_jax.networks.partition import initialise
from dcmu_jax.training.examples import Examples
from dcmu_jax.training.optimizers import Optimizer
from dcmu_jax.unlearning.serving import Serving
from dcmu_jax.unlearning.task import Hooks, Unlearned, UnlearningTask


@dataclasses.dataclass(frozen=True, kw_only=True)
class BadTeaching:
    r"""Distil two teachers into the original (Chundawat et al., 2023; paper section V-A.2).

    .. math::
        \frac{1}{|F| + |R'|} \Big( \sum_{x \in F} KL(p_T(bad(x)) \,\|\, p_T(s(x)))
        + \sum_{x \in R'} KL(p_T(original(x)) \,\|\, p_T(s(x))) \Big)

    with a freshly initialised network ``bad`` and a share R' of the retain set, drawn once. The
    student s starts as the original; both teachers are in evaluation mode, their logits computed
    once.

    The paper's authors average over classes too, which makes their loss smaller by the number of
    classes; ``loss_scale=0.1`` is theirs for ten. Adam hardly notices.

    Attributes:
        share: of the retain set, how much is trained on: above 0, at most 1.
        temperature: T.
        loss_scale: factor of the loss.
        epochs: passes over F and R'; the paper has 30, or 10 when a class is forgotten.
        batch_size: examples per step.
        optimizer: Adam at 1e-3 as in the paper, with the schedule that retraining has.
    """

    sees_forget_set: ClassVar[bool] = True
    share: float = 0.3
    temperature: float = 4.0
    loss_scale: float = 1.0
    epochs: int = 30
    batch_size: int = 256
    optimizer: Optimizer = Optimizer(schedule="cosine")

    def check(self) -> None:
        """Raise ``InputError`` where a field makes no sense."""
        if not 0 < self.share <= 1:
            raise InputError(
                f"share = {self.share!r}", "a number above 0, 1 at most", "Set share within (0, 1]"
            )
        check_positive("temperature", self.temperature)
        check_positive("loss_scale", self.loss_scale)

    def __call__(self, task: UnlearningTask, hooks: Hooks) -> Unlearned:
        """Train the original on its two teachers."""
        self.check()
        with Serving(task, hooks, "bad_teaching") as serving:
            good, forget, retain = task.original, task.forget(), task.retain()
            random = initialise(good.model, serving.key("bad teacher"), good.image_shape)
            bad = dataclasses.replace(good, variables=random)
            order = np.asarray(jax.random.permutation(serving.key("retain share"), len(retain)))
            retain = retain.take(np.sort(order[: max(1, round(self.share * len(retain)))]))
            network = serving.fit(
                "bad teaching",
                good,
                Examples.of(
                    np.concatenate([forget.images, retain.images]),
                    np.concatenate([forget.labels, retain.labels]),
                    targets=np.concatenate([bad.logits(forget.images), good.logits(retain.images)]),
                ),
                epochs=self.epochs,
                optimizer=self.optimizer,
                batch_size=self.batch_size,
                loss=Distillation(
                    cross_entropy=0.0,
                    divergence=self.loss_scale / self.temperature**2,  # no T^2 in this loss
                    temperature=self.temperature,
                ),
            )
        return serving.unlearned(network, np.concatenate([forget.ids, retain.ids]))

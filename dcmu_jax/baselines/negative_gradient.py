"""Negative gradient (NegGrad+): descend the loss on the retain set, climb it on the forget set."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import numpy as np

from dcmu_jax.baselines.losses import scaled_cross_entropy
from dcmu_jax.errors import check_fraction
from dcmu_jax.training.examples import Examples
from dcmu_jax.training.optimizers import Optimizer
from dcmu_jax.unlearning.serving import Serving
from dcmu_jax.unlearning.task import Hooks, Unlearned, UnlearningTask


def signed_factors(retained: int, forgotten: int, alpha: float) -> np.ndarray:
    r"""Factors of the loss of ``retained`` then ``forgotten`` examples, float32, one for each.

    With N = |R| + |F|, :math:`\alpha N / |R|` for an example of R and
    :math:`-(1 - \alpha) N / |F|` for one of F: the plain mean over any batch drawn uniformly from
    both is then, on average, :math:`\alpha L(R) - (1 - \alpha) L(F)`.

    >>> signed_factors(3, 1, 0.75).tolist()
    [1.0, 1.0, 1.0, -1.0]
    """
    total = retained + forgotten
    values = [alpha * total / retained, -(1 - alpha) * total / forgotten]
    return np.repeat(np.asarray(values, np.float32), [retained, forgotten])


@dataclasses.dataclass(frozen=True, kw_only=True)
class NegativeGradient:
    r"""Minimise :math:`\alpha L(R) - (1 - \alpha) L(F)` (NegGrad+; Kurmanji et al., 2023).

    L is the mean cross-entropy. The authors take a batch of each set at every step and go through
    F as often as one pass over R needs; here batches are drawn from both together, with factors
    that make the objective the same on average, and an epoch is one pass over both.

    Attributes:
        alpha: weight of the retain set; the second term has no bound, so near 1.
        epochs: passes over both sets.
        batch_size: examples per step.
        optimizer: that of catastrophic forgetting, which this is for alpha = 1.
    """

    sees_forget_set: ClassVar[bool] = True
    alpha: float = 0.95
    epochs: int = 10
    batch_size: int = 256
    optimizer: Optimizer = Optimizer(schedule="cosine")

    def check(self) -> None:
        """Raise ``InputError`` where a field makes no sense."""
        check_fraction("alpha", self.alpha)

    def __call__(self, task: UnlearningTask, hooks: Hooks) -> Unlearned:
        """Train on the two losses."""
        self.check()
        with Serving(task, hooks, "negative_gradient") as serving:
            retain, forget = task.retain(), task.forget()
            network = serving.fit(
                "negative gradient",
                task.original,
                Examples.of(
                    np.concatenate([retain.images, forget.images]),
                    np.concatenate([retain.labels, forget.labels]),
                    targets=signed_factors(len(retain), len(forget), self.alpha),
                ),
                epochs=self.epochs,
                optimizer=self.optimizer,
                batch_size=self.batch_size,
                loss=scaled_cross_entropy,
            )
        return serving.unlearned(network, np.concatenate([retain.ids, forget.ids]))

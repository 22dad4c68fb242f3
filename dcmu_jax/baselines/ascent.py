"""Methods that climb the loss on the forget set: gradient ascent (GA) and NegGrad+."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import numpy as np

from dcmu_jax.baselines.losses import scaled_cross_entropy
from dcmu_jax.baselines.one_fit import Fit, OneFit, on_both
from dcmu_jax.errors import check_fraction
from dcmu_jax.training.examples import Examples
from dcmu_jax.training.optimizers import Optimizer
from dcmu_jax.unlearning.serving import Serving


@dataclasses.dataclass(frozen=True, kw_only=True)
class GradientAscent(OneFit):
    """Minimise -L(F), the negative cross-entropy on the forget set (Thudi et al., 2022).

    The loss has no bound: too many steps ruin the network, and nothing else holds it back.

    Attributes:
        epochs: passes over the forget set.
        batch_size: examples per step.
        optimizer: at a constant rate and a small one, since there is nothing to converge to.
    """

    sees_forget_set: ClassVar[bool] = True
    _names: ClassVar[tuple[str, str]] = ("gradient_ascent", "gradient ascent")
    epochs: int = 5
    batch_size: int = 256
    optimizer: Optimizer = Optimizer(learning_rate=1e-4)

    def _fit(self, serving: Serving) -> Fit:
        forget = serving.task.forget()
        factors = np.full(len(forget), -1, np.float32)
        examples = Examples.of(forget.images, forget.labels, targets=factors)
        return Fit(examples, forget.ids, options={"loss": scaled_cross_entropy})


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
class NegativeGradient(OneFit):
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
    _names: ClassVar[tuple[str, str]] = ("negative_gradient", "negative gradient")
    alpha: float = 0.95
    epochs: int = 10
    batch_size: int = 256
    optimizer: Optimizer = Optimizer(schedule="cosine")

    def check(self) -> None:
        """Raise ``InputError`` where a field makes no sense."""
        check_fraction("alpha", self.alpha)

    def _fit(self, serving: Serving) -> Fit:
        retain, forget = serving.task.retain(), serving.task.forget()
        factors = signed_factors(len(retain), len(forget), self.alpha)
        return on_both(retain, forget, targets=factors, loss=scaled_cross_entropy)

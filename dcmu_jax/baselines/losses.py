"""Losses of unlearning methods: per example, for the one training loop."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dcmu_jax.errors import check_positive
from dcmu_jax.training.examples import cross_entropy


def scaled_cross_entropy(
    logits: Float[Array, "batch classes"],
    labels: Int[Array, " batch"],
    factors: Float[Array, " batch"],
) -> Float[Array, " batch"]:
    """Cross-entropy times a factor for each example, its target; a negative one ascends.

    A factor is not a weight: a batch is averaged over its weights, which stay 1, so that factors
    of both signs do not upset the average.
    """
    return factors * cross_entropy(logits, labels)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Distillation:
    r"""Cross-entropy and the divergence of a student from a teacher, whose logits are the targets.

    .. math::
        \alpha\, CE(s, y) + \beta\, T^2\, KL(p_T(t) \,\|\, p_T(s)),
        \qquad p_T(z) = \mathrm{softmax}(z / T)

    with the teacher's logits t and the student's s. T^2 keeps the gradient of the second term of
    one size whatever T is (Hinton et al., 2015).

    Attributes:
        cross_entropy: alpha.
        divergence: beta; a negative one drives the student away from the teacher.
        temperature: T.
    """

    cross_entropy: float = 1.0
    divergence: float = 0.1
    temperature: float = 4.0

    def __call__(
        self,
        logits: Float[Array, "batch classes"],
        labels: Int[Array, " batch"],
        teacher: Float[Array, "batch classes"],
    ) -> Float[Array, " batch"]:
        """The loss of each example, float32."""
        scale = self.divergence * self.temperature**2
        loss = scale * divergence(teacher, logits, self.temperature)
        if self.cross_entropy:
            loss += self.cross_entropy * cross_entropy(logits, labels)
        return loss

    def check(self) -> None:
        """Raise ``InputError`` where the temperature makes no sense."""
        check_positive("temperature", self.temperature)


def divergence(
    teacher: Float[Array, "batch classes"],
    student: Float[Array, "batch classes"],
    temperature: float = 1.0,
) -> Float[Array, " batch"]:
    """KL(p_T(teacher) || p_T(student)) of logits, for each example, float32."""
    log_p = jax.nn.log_softmax(teacher.astype(jnp.float32) / temperature)
    log_q = jax.nn.log_softmax(student.astype(jnp.float32) / temperature)
    return (jnp.exp(log_p) * (log_p - log_q)).sum(-1)

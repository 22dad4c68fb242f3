"""The paper's two orthogonality conditions on the loss gradients, (19) and (20)."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np

from dcmu_jax.data.dataset import Dataset
from dcmu_jax.errors import InputError
from dcmu_jax.threads import one_thread
from dcmu_jax.training.classifier import Classifier
from dcmu_jax.training.derivatives import gradient_over


@dataclasses.dataclass(frozen=True)
class Orthogonality:
    """How two mean loss gradients lie to each other.

    Attributes:
        dot: their inner product; 0 where the condition holds.
        cosine: of the angle between them; NaN where one of them is zero or not finite.
        retain_norm: L2 norm of the gradient over the retain set.
        forget_norm: L2 norm of the gradient over the forget set.
    """

    dot: float
    cosine: float
    retain_norm: float
    forget_norm: float


def _vector(classifier: Classifier, dataset: Dataset, batch_size: int) -> tuple[Any, np.ndarray]:
    """Structure of the gradient over a set, and all of it in float64."""
    leaves, structure = jax.tree.flatten(gradient_over(classifier, dataset, batch_size))
    return structure, np.concatenate([np.ravel(np.asarray(x, np.float64)) for x in leaves])


@one_thread()
def orthogonality(
    unlearned: Classifier,
    retain: Dataset,
    forget: Dataset,
    *,
    original: Classifier | None = None,
    batch_size: int = 256,
) -> Orthogonality:
    r"""How far the gradients of an unlearned network are from the paper's right angle.

    With the parameters :math:`\theta` before and :math:`\theta^*` after unlearning, the conditions

    .. math::
        \nabla L(R, \theta^*) \perp \nabla L(F, \theta^*) \quad (19), \qquad
        \nabla L(R, \theta) \perp \nabla L(F, \theta^*) \quad (20)

    Condition (19) holds of any exact minimum over R, whatever was forgotten: the first gradient
    is then zero, and its direction, so the cosine, is noise of the optimisation. Read the dot
    product beside the two norms. Means of the loss over each set, evaluation mode; the products
    are taken in float64.

    Args:
        unlearned: the network at :math:`\theta^*`.
        retain: R.
        forget: F.
        original: the network at :math:`\theta`, for (20); for (19) leave it out.
        batch_size: examples per step; changes memory and speed, not the result.

    Raises:
        InputError: an empty set, a batch size below 1, two networks of different parameters.
    """
    structure, of_retain = _vector(original or unlearned, retain, batch_size)
    other, of_forget = _vector(unlearned, forget, batch_size)
    if structure != other or of_retain.shape != of_forget.shape:
        raise InputError(
            f"Gradients of {of_retain.size} and {of_forget.size} parameters",
            "two networks of one architecture",
            "Compare the network before with the same network after unlearning",
        )
    # Tiny gradients of memorised samples: products of unit vectors do not underflow.
    norms = [float(np.linalg.norm(g)) for g in (of_retain, of_forget)]
    cosine = float("nan")
    if all(norms) and np.isfinite(norms).all():
        cosine = float(np.clip((of_retain / norms[0]) @ (of_forget / norms[1]), -1, 1))
    return Orthogonality(float(of_retain @ of_forget), cosine, *norms)

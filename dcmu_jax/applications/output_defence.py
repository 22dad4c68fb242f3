"""An output defence in the manner of MemGuard: confidences are replaced, labels are kept.

Jia, Salem, Backes, Zhang, Gong (2019), "MemGuard: defending against black-box membership inference
attacks via adversarial examples", perturb the confidences of an answer, under the constraint that
its label stays, so that an attacker takes members for what they are not. Here they are those of
samples that the network has never seen, drawn at random. The parameters stay as they are: who holds
the network, or asks for labels alone, sees no defence.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from dcmu_jax.errors import InputError, check_seed


def confidences(logits: Float[np.ndarray, "samples classes"]) -> np.ndarray:
    """The largest softmax probability of each row, float64 ``(samples,)``."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    return 1 / np.exp(shifted).sum(axis=1)


def perturbed_logits(
    logits: Float[np.ndarray, "samples classes"],
    unseen: Float[np.ndarray, "others classes"],
    *,
    seed: int,
) -> np.ndarray:
    """Logits whose confidence is that of an unseen sample of the same answer; float32.

    Each row is scaled by a temperature of its own: no two logits change places. The draw belongs
    to the sample, not to the question: asking again must give the same answer, or the mean of many
    gives the defence away. Here the row stands for the sample.

    Args:
        logits: of the answers to be defended.
        unseen: of samples that the network was not trained on, to draw confidences from; of each
            answered class, and of any where a class is answered for none of them.

    Other Args:
        seed: of the draws.

    Raises:
        InputError: no unseen samples, or another number of classes.
    """
    seed = check_seed("seed", seed)
    if not len(unseen) or unseen.shape[1:] != logits.shape[1:]:
        raise InputError(
            f"Confidences of {len(unseen)} unseen samples of shape {unseen.shape[1:]} for logits "
            f"of shape {logits.shape[1:]}",
            "one or more, of as many classes",
            "Set samples aside that the network is not trained on",
        )
    rng = np.random.default_rng(seed)
    pool, answers = confidences(unseen), logits.argmax(axis=1)
    wanted = rng.choice(pool, len(logits))
    known = unseen.argmax(axis=1)
    for label in np.unique(answers):
        of_label = pool[known == label]
        rows = answers == label
        if len(of_label):
            wanted[rows] = rng.choice(of_label, int(rows.sum()))
    return _with_confidence(logits, wanted)


def _with_confidence(logits: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Rows scaled to a largest probability ``wanted``, by bisection of the scale's logarithm."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    low, high = np.full(len(logits), -12.0), np.full(len(logits), 12.0)
    for _ in range(60):
        middle = (low + high) / 2
        sure = confidences(shifted * np.exp(middle)[:, None]) >= wanted
        low, high = np.where(sure, low, middle), np.where(sure, middle, high)
    return (shifted * np.exp((low + high) / 2)[:, None]).astype(np.float32)

"""KLoM, the divergence of margins between unlearned and oracle models (Georgiev et al. 2024).

"Attribute-to-Delete: machine unlearning via datamodel matching", section 3.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float64

from dcmu_jax.audits.checks import check_models, two_kinds
from dcmu_jax.data.numbers import as_numbers
from dcmu_jax.errors import check_at_least, check_positive, check_seed


def klom(
    unlearned: Float[np.ndarray, "unlearned examples"],
    oracles: Float[np.ndarray, "oracles _"],
    *,
    bins: int = 20,
    clip: float = 100.0,
    smoothing: float = 1e-5,
) -> Float64[np.ndarray, " examples"]:
    """KL(unlearned || oracle) in nats between histograms of the margins, for each example.

    The bins are of equal width over the joint range of both; the smoothing is added to the share of
    every bin, and the shares are then made to sum to 1. The largest value is near
    -log(smoothing). Equal populations do not give 0: with few models most bins hold one or none,
    and the result is biased upward, by nats below some hundred models. Show it beside
    ``klom_null`` of as many models.

    Args:
        unlearned: logit margins in the unlearned models.
        oracles: logit margins in models trained without what was forgotten.

    Other Args:
        bins: number of bins.
        clip: margins are cut to plus and minus this.
        smoothing: probability added to each bin.

    Raises:
        InputError: fewer than 2 models of a kind, other examples in one than in the other, margins
            that are NaN or infinite, settings out of range.
    """
    check_at_least("bins", bins, 2)
    check_positive("clip", clip)
    check_positive("smoothing", smoothing)
    pair = [margins.clip(-clip, clip) for margins in two_kinds(unlearned, oracles, 2, "KLoM")]
    low = np.minimum(pair[0].min(axis=0), pair[1].min(axis=0))
    width = np.maximum(pair[0].max(axis=0), pair[1].max(axis=0)) - low
    width = np.where(width > 0, width, 1.0)
    first, second = (_shares((part - low) / width, bins, smoothing) for part in pair)
    return (first * np.log(first / second)).sum(axis=1)


def klom_null(
    oracles: Float[np.ndarray, "oracles examples"],
    *,
    seed: int = 0,
    repeats: int = 20,
    bins: int = 20,
    clip: float = 100.0,
    smoothing: float = 1e-5,
) -> Float64[np.ndarray, "repeats examples"]:
    """``klom`` between random halves of the oracles: what exact unlearning would be given.

    Each half has half as many models, so compare it with a ``klom`` of that many; that of more
    models has less bias. An odd oracle is left out, another one each time.

    Args:
        oracles: logit margins in models trained without what was forgotten.

    Other Args:
        seed: of the halves.
        repeats: number of random halvings.
        bins: as of ``klom``.
        clip: as of ``klom``.
        smoothing: as of ``klom``.

    Raises:
        InputError: fewer than 4 oracles, and as ``klom``.
    """
    seed = check_seed("seed", seed)
    oracles = as_numbers("Margins of the oracle models", oracles, "models examples")
    check_models("oracle", len(oracles), 4, "A null of KLoM")
    check_at_least("repeats", repeats, 1)
    rng, half = np.random.default_rng(seed), len(oracles) // 2
    orders = [rng.permutation(len(oracles)) for _ in range(repeats)]
    settings = {"clip": clip, "smoothing": smoothing}
    return np.stack(
        [
            klom(oracles[order[:half]], oracles[order[half : 2 * half]], bins=bins, **settings)
            for order in orders
        ]
    )


def _shares(positions: np.ndarray, bins: int, smoothing: float) -> np.ndarray:
    """Smoothed histogram ``(examples, bins)`` of positions in 0..1, ``(models, examples)``."""
    models, examples = positions.shape
    bin_of = np.minimum((positions * bins).astype(np.int64), bins - 1)
    flat = (bin_of + bins * np.arange(examples)).ravel()
    counts = np.bincount(flat, minlength=bins * examples).reshape(examples, bins)
    return (counts / models + smoothing) / (1 + bins * smoothing)
